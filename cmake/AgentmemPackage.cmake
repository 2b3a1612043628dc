# Installs libagentmem with its CMake package and its pkg-config file.
include(CMakePackageConfigHelpers)

function(agentmem_install_package headers)
  set(cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/agentmem)
  install(TARGETS agentmem agentmem_headers EXPORT agentmemTargets)
  install(FILES ${headers} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/agentmem)
  set_target_properties(agentmem_headers PROPERTIES EXPORT_NAME headers)
  install(
    EXPORT agentmemTargets
    NAMESPACE agentmem::
    DESTINATION ${cmake_dir})
  configure_package_config_file(
    ${PROJECT_SOURCE_DIR}/cmake/agentmemConfig.cmake.in
    ${PROJECT_BINARY_DIR}/agentmemConfig.cmake INSTALL_DESTINATION ${cmake_dir})
  write_basic_package_version_file(
    ${PROJECT_BINARY_DIR}/agentmemConfigVersion.cmake
    COMPATIBILITY SameMinorVersion)
  install(FILES ${PROJECT_BINARY_DIR}/agentmemConfig.cmake
                ${PROJECT_BINARY_DIR}/agentmemConfigVersion.cmake
          DESTINATION ${cmake_dir})
  file(RELATIVE_PATH AGENTMEM_UP /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
  configure_file(${PROJECT_SOURCE_DIR}/cmake/agentmem.pc.in
                 ${PROJECT_BINARY_DIR}/agentmem.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/agentmem.pc
          DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endfunction()
