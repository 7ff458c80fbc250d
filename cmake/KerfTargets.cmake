set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")

find_program(KERF_CCACHE ccache)
if(KERF_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Without this, ccache keeps nothing that was compiled with a precompiled header.
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CMAKE_COMMAND}" -E env "CCACHE_SLOPPINESS=pch_defines,time_macros" "${KERF_CCACHE}")
endif()
find_program(KERF_MOLD mold)
if(KERF_MOLD AND NOT KERF_SANITIZE)
  add_link_options(-fuse-ld=mold)
endif()

add_library(kerf_flags INTERFACE)
target_compile_options(kerf_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wno-missing-field-initializers)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 reports std::string's own operator+ (its bugs 105329, 105651).
  target_compile_options(kerf_flags INTERFACE -Wno-restrict -Wno-stringop-overflow)
else()
  target_compile_options(kerf_flags INTERFACE -Wno-unknown-pragmas)  # GCC ivdep: clang sees for itself
endif()
target_include_directories(kerf_flags INTERFACE "${CMAKE_SOURCE_DIR}")
if(KERF_SANITIZE)
  add_compile_options(-fsanitize=${KERF_SANITIZE} -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=${KERF_SANITIZE})
endif()

# Headers that nearly every file reads are compiled once: for the rooms, and with GoogleTest for the
# tests, which are built for the time that building takes, not for their own speed. The dev preset
# goes without, so that `make lint` sees a file which forgets an include.
option(KERF_PRECOMPILE "Precompile the headers that most files read" ON)
set(KERF_COMMON_HEADERS <algorithm> <array> <chrono> <cmath> <cstdint> <filesystem> <fstream> <functional>
    <limits> <map> <memory> <numeric> <optional> <random> <set> <span> <string> <string_view> <thread>
    <utility> <variant> <vector> <nlohmann/json.hpp>)
function(kerf_precompile target twin)
  if(NOT KERF_PRECOMPILE)
    return()
  endif()
  if(NOT TARGET ${twin})
    file(CONFIGURE OUTPUT "${CMAKE_BINARY_DIR}/${twin}.cc" CONTENT "")
    add_library(${twin} STATIC "${CMAKE_BINARY_DIR}/${twin}.cc")
    target_link_libraries(${twin} PRIVATE kerf_flags nlohmann_json::nlohmann_json)
    target_precompile_headers(${twin} PRIVATE ${KERF_COMMON_HEADERS} ${ARGN})
    if(twin MATCHES "tests")
      target_link_libraries(${twin} PRIVATE GTest::gmock)
    endif()
    if(NOT twin MATCHES "computing")
      target_compile_options(${twin} PRIVATE $<$<CONFIG:Release>:-O1>)
    endif()
  endif()
  target_precompile_headers(${target} REUSE_FROM ${twin})
endfunction()

# kerf_room(NAME SOURCES ... [PUBLIC ...] [PRIVATE ...] [COMPUTES] [HEADERS ...])
# One room = one static library kerf_NAME, alias kerf::NAME. PUBLIC are the libraries whose types
# stand in its headers, PRIVATE those that only its .cc files see. COMPUTES: a room with loops over
# numbers; the others wait and move bytes, and their templates compile faster with -O1. HEADERS: what
# most of its files read beside the common headers.
function(kerf_room name)
  cmake_parse_arguments(ROOM "COMPUTES" "" "SOURCES;PUBLIC;PRIVATE;HEADERS" ${ARGN})
  list(TRANSFORM ROOM_PUBLIC REPLACE "^kerf::" "kerf_")
  list(TRANSFORM ROOM_PRIVATE REPLACE "^kerf::" "kerf_")
  add_library(kerf_${name} STATIC ${ROOM_SOURCES})
  add_library(kerf::${name} ALIAS kerf_${name})
  target_link_libraries(kerf_${name} PUBLIC ${ROOM_PUBLIC} PRIVATE kerf_flags ${ROOM_PRIVATE})
  target_include_directories(kerf_${name} PUBLIC "${CMAKE_SOURCE_DIR}")
  if(NOT ROOM_COMPUTES)
    target_compile_options(kerf_${name} PRIVATE $<$<CONFIG:Release>:-O1>)
  endif()
  if(ROOM_HEADERS AND KERF_PRECOMPILE)
    target_precompile_headers(kerf_${name} PRIVATE ${KERF_COMMON_HEADERS} ${ROOM_HEADERS})
  elseif(ROOM_COMPUTES)
    kerf_precompile(kerf_${name} kerf_precompiled_computing)
  else()
    kerf_precompile(kerf_${name} kerf_precompiled)
  endif()
endfunction()

# kerf_test(NAME SOURCES ... LINK ... [WITHOUT PATTERN]): one GoogleTest program tests_NAME; each of its
# tests is a test of ctest's, but for those of the pattern.
function(kerf_test name)
  cmake_parse_arguments(TEST "" "TIMEOUT;WITHOUT" "SOURCES;LINK" ${ARGN})
  if(NOT TEST_TIMEOUT)
    set(TEST_TIMEOUT 120)
  endif()
  list(TRANSFORM TEST_LINK REPLACE "^kerf::" "kerf_")
  add_executable(tests_${name} ${TEST_SOURCES})
  target_link_libraries(tests_${name} PRIVATE kerf_flags ${TEST_LINK} GTest::gmock GTest::gtest_main)
  target_compile_definitions(tests_${name} PRIVATE
    KERF_SOURCE_DIR="${CMAKE_SOURCE_DIR}" KERF_BINARY_DIR="${CMAKE_BINARY_DIR}"
    KERF_PROGRAM="${CMAKE_BINARY_DIR}/bin/kerf")
  target_compile_options(tests_${name} PRIVATE $<$<CONFIG:Release>:-O1>)
  # A few files at a time: half of what a test costs to compile is templates that its neighbours use too.
  set_target_properties(tests_${name} PROPERTIES UNITY_BUILD ${KERF_PRECOMPILE} UNITY_BUILD_BATCH_SIZE 4)
  kerf_precompile(tests_${name} kerf_precompiled_tests <gmock/gmock.h> <gtest/gtest.h>)
  set(without "")
  if(TEST_WITHOUT)
    set(without TEST_FILTER "-${TEST_WITHOUT}")
  endif()
  gtest_discover_tests(tests_${name} ${without} TEST_PREFIX "${name}." PROPERTIES TIMEOUT ${TEST_TIMEOUT}
                       DISCOVERY_TIMEOUT 60)
endfunction()
