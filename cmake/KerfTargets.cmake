set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")

find_program(KERF_CCACHE ccache)
if(KERF_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${KERF_CCACHE}")
endif()
find_program(KERF_MOLD mold)
if(KERF_MOLD AND NOT KERF_SANITIZE)
  add_link_options(-fuse-ld=mold)
endif()

add_library(kerf_flags INTERFACE)
target_compile_options(kerf_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wno-missing-field-initializers -Wno-restrict)
target_include_directories(kerf_flags INTERFACE "${CMAKE_SOURCE_DIR}")
if(KERF_SANITIZE)
  add_compile_options(-fsanitize=${KERF_SANITIZE} -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=${KERF_SANITIZE})
endif()

# kerf_room(NAME SOURCES ... [PUBLIC ...] [PRIVATE ...])
# One room = one static library kerf_NAME, alias kerf::NAME. PUBLIC are the libraries whose types
# stand in its headers, PRIVATE those that only its .cc files see.
function(kerf_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  list(TRANSFORM ROOM_PUBLIC REPLACE "^kerf::" "kerf_")
  list(TRANSFORM ROOM_PRIVATE REPLACE "^kerf::" "kerf_")
  add_library(kerf_${name} STATIC ${ROOM_SOURCES})
  add_library(kerf::${name} ALIAS kerf_${name})
  target_link_libraries(kerf_${name} PUBLIC ${ROOM_PUBLIC} PRIVATE kerf_flags ${ROOM_PRIVATE})
  target_include_directories(kerf_${name} PUBLIC "${CMAKE_SOURCE_DIR}")
endfunction()

# kerf_test(NAME SOURCES ... LINK ...): one GoogleTest program tests_NAME; each of its tests is a
# test of ctest's.
function(kerf_test name)
  cmake_parse_arguments(TEST "" "TIMEOUT" "SOURCES;LINK" ${ARGN})
  if(NOT TEST_TIMEOUT)
    set(TEST_TIMEOUT 120)
  endif()
  list(TRANSFORM TEST_LINK REPLACE "^kerf::" "kerf_")
  add_executable(tests_${name} ${TEST_SOURCES})
  target_link_libraries(tests_${name} PRIVATE kerf_flags ${TEST_LINK} GTest::gmock GTest::gtest_main)
  target_compile_definitions(tests_${name} PRIVATE
    KERF_SOURCE_DIR="${CMAKE_SOURCE_DIR}" KERF_BINARY_DIR="${CMAKE_BINARY_DIR}"
    KERF_PROGRAM="${CMAKE_BINARY_DIR}/bin/kerf")
  gtest_discover_tests(tests_${name} TEST_PREFIX "${name}." PROPERTIES TIMEOUT ${TEST_TIMEOUT}
                       DISCOVERY_TIMEOUT 60)
endfunction()
