# What every target of ours is compiled with, and functions that make targets
# from a directory's sources.

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
# Programs and libraries side by side: ./build/PRESET/bin/memd.
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib)
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE
      RelWithDebInfo
      CACHE STRING "" FORCE)
endif()
# Line tables are enough for a backtrace and a profile; full type information
# would double the time of a cold build.
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g1 -DNDEBUG")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1 -DNDEBUG")

if(NOT CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(AGENTMEM_CCACHE ccache)
  if(AGENTMEM_CCACHE)
    set(CMAKE_C_COMPILER_LAUNCHER ${AGENTMEM_CCACHE})
    set(CMAKE_CXX_COMPILER_LAUNCHER ${AGENTMEM_CCACHE})
  endif()
endif()

# Sanitizers are flags of the whole tree, so that no object is left out.
if(AGENTMEM_SANITIZER STREQUAL "address")
  set(sanitize -fsanitize=address,undefined -fno-sanitize-recover=undefined)
elseif(AGENTMEM_SANITIZER STREQUAL "thread")
  set(sanitize -fsanitize=thread)
elseif(AGENTMEM_SANITIZER STREQUAL "fuzzer")
  set(sanitize -fsanitize=fuzzer-no-link,address)
elseif(NOT AGENTMEM_SANITIZER STREQUAL "")
  message(FATAL_ERROR "AGENTMEM_SANITIZER is '${AGENTMEM_SANITIZER}': "
                      "use address, thread, fuzzer, or leave it empty")
endif()
if(sanitize)
  add_compile_options(${sanitize} -O1 -g1 -fno-omit-frame-pointer)
  add_link_options(${sanitize})
endif()

# The options of our own code. Found headers are SYSTEM and stay out of it.
add_library(agentmem_options INTERFACE)
target_include_directories(agentmem_options INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(
  agentmem_options
  INTERFACE -Wall
            -Wextra
            -Wno-missing-field-initializers
            $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions>
            $<$<BOOL:${AGENTMEM_WERROR}>:-Werror>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  target_compile_options(
    agentmem_options INTERFACE -Wthread-safety -Werror=thread-safety)
endif()
if(CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
  target_compile_options(agentmem_options INTERFACE -march=x86-64-v2)
endif()

# Sources that include a library whose headers throw (CLI11).
function(agentmem_allow_exceptions)
  set_property(SOURCE ${ARGN} APPEND PROPERTY COMPILE_OPTIONS -fexceptions)
endfunction()

# agentmem_glob(OUT [RECURSE] [EXCLUDE regex] patterns...): sources of the
# current directory, looked for again at each build.
function(agentmem_glob out)
  cmake_parse_arguments(arg "RECURSE" "EXCLUDE" "" ${ARGN})
  set(mode GLOB)
  if(arg_RECURSE)
    set(mode GLOB_RECURSE)
  endif()
  list(TRANSFORM arg_UNPARSED_ARGUMENTS PREPEND "${CMAKE_CURRENT_SOURCE_DIR}/")
  file(${mode} found CONFIGURE_DEPENDS ${arg_UNPARSED_ARGUMENTS})
  if(arg_EXCLUDE)
    list(FILTER found EXCLUDE REGEX "${arg_EXCLUDE}")
  endif()
  set(${out}
      ${found}
      PARENT_SCOPE)
endfunction()

# agentmem_library(NAME SOURCES... DEPENDS...): static; one that has no source
# yet is an interface library, so that what links it need not know.
function(agentmem_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPENDS" ${ARGN})
  if(arg_SOURCES)
    add_library(${name} STATIC ${arg_SOURCES})
    target_link_libraries(${name} PUBLIC agentmem_options ${arg_DEPENDS})
  else()
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE agentmem_options ${arg_DEPENDS})
  endif()
endfunction()

# A program that runs where nothing is installed but glibc, with the libgcc_s
# that comes with it, and a GPU's driver, which CUDA's runtime opens by itself
# (so glibc cannot be in it). Abseil by its archives: its targets are shared
# libraries. That it runs on hosts of an older glibc than this one, 2.34: of
# libstdc++ only what is used (its std::random_device asks for 2.36), and not
# GCC's own unwinder, which asks for 2.35 (./dev gpu-bundle looks).
function(agentmem_needs_no_packages name)
  set(archives ${agentmem_absl_LIBRARIES})
  list(FILTER archives INCLUDE REGEX "^absl_")
  list(TRANSFORM archives REPLACE "(.+)" "-l:lib\\1.a")
  target_link_libraries(${name} PRIVATE ${archives})
  target_link_options(${name} PRIVATE -static-libstdc++ -Wl,--gc-sections)
endfunction()
