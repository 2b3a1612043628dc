# Debian 12's packages (./dev deps), each as one target agentmem_dep_NAME.

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(absl REQUIRED CONFIG)
find_program(AGENTMEM_PROTOC protoc REQUIRED)
find_program(AGENTMEM_GRPC_PLUGIN grpc_cpp_plugin REQUIRED)

# By pkg-config: Debian's CMake package of gRPC asks for development packages
# that nothing here needs.
pkg_check_modules(agentmem_grpc REQUIRED IMPORTED_TARGET grpc++ protobuf)
pkg_check_modules(agentmem_toml REQUIRED IMPORTED_TARGET tomlplusplus)
pkg_check_modules(agentmem_absl REQUIRED absl_statusor)
pkg_check_modules(agentmem_json REQUIRED IMPORTED_TARGET nlohmann_json)
find_path(AGENTMEM_CLI11_INCLUDE CLI/CLI.hpp REQUIRED)
find_path(AGENTMEM_XXHASH_INCLUDE xxhash.h REQUIRED)
find_path(AGENTMEM_ROCKSDB_INCLUDE rocksdb/db.h REQUIRED)
find_library(AGENTMEM_ROCKSDB_LIBRARY rocksdb REQUIRED)

function(agentmem_dependency name)
  add_library(agentmem_dep_${name} INTERFACE)
  target_link_libraries(agentmem_dep_${name} INTERFACE ${ARGN})
endfunction()
agentmem_dependency(absl absl::status absl::statusor absl::strings
                    absl::str_format absl::flat_hash_map absl::flat_hash_set
                    absl::span)
agentmem_dependency(grpc PkgConfig::agentmem_grpc)
target_link_options(agentmem_dep_grpc INTERFACE -Wl,--as-needed)
agentmem_dependency(fabric PkgConfig::agentmem_fabric)
agentmem_dependency(verbs PkgConfig::agentmem_verbs)
agentmem_dependency(rocksdb ${AGENTMEM_ROCKSDB_LIBRARY})
# The library's compiled parser comes with Debian's pkg-config file. It was
# built with exceptions, which puts it in another inline namespace than the one
# that -fno-exceptions selects: so the headers alone are used.
agentmem_dependency(toml)
target_compile_definitions(agentmem_dep_toml INTERFACE TOML_EXCEPTIONS=0
                                                       TOML_HEADER_ONLY=1)
agentmem_dependency(json PkgConfig::agentmem_json)
agentmem_dependency(cli)
target_include_directories(agentmem_dep_cli SYSTEM
                           INTERFACE ${AGENTMEM_CLI11_INCLUDE})

pkg_check_modules(agentmem_fabric REQUIRED IMPORTED_TARGET libfabric)
pkg_check_modules(agentmem_verbs REQUIRED IMPORTED_TARGET libibverbs librdmacm)

if(AGENTMEM_TESTS)
  find_package(GTest REQUIRED)
  find_package(benchmark QUIET)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
endif()

function(agentmem_report)
  message(STATUS "agentmem ${PROJECT_VERSION}: ${CMAKE_CXX_COMPILER_ID} "
                 "${CMAKE_CXX_COMPILER_VERSION}, ${CMAKE_BUILD_TYPE}, "
                 "sanitizer '${AGENTMEM_SANITIZER}'; cuda ${AGENTMEM_CUDA}")
endfunction()
