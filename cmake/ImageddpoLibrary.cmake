# The four kinds of things a folder can declare. The sources of one library or program are compiled several at a time
# (Options.cmake), so their names outside of functions must be unique within it; those of a test are not.
#
#   imageddpo_library(NAME common_io SOURCES a.cc b.cc DEPS common_base deps::jpeg)
#     A static library; DEPS are public, so that whoever links it gets their headers too.
#   imageddpo_program(NAME imageddpo SOURCES main.cc DEPS ... [CHECK])
#     build/bin/imageddpo; part of the target "programs", which is what `make build` builds. CHECK: one that
#     checks a machine and does no work on it; part of the target "checks" instead.
#   imageddpo_test(NAME unit_io_safetensors LABEL unit SOURCES safetensors_test.cc DEPS common_io
#                  [RANKS n] [MAIN] [TIMEOUT seconds])
#     A GoogleTest program in build/tests, run by ctest from the source root. RANKS starts it with
#     mpirun on n ranks; MAIN: the sources have a main() of their own.
#   imageddpo_command_test(NAME e2e_demo LABEL e2e COMMAND program args... [TIMEOUT seconds])
#     Any other command as a test, run from the source root.
#
# Labels: unit, parity, dist, service, e2e. Tests see IMAGEDDPO_BIN_DIR, IMAGEDDPO_SOURCE_DIR and
# IMAGEDDPO_MPIRUN in their environment.

add_custom_target(programs)
add_custom_target(checks)
set(imageddpo_labels unit parity dist service e2e)

function(imageddpo_check_arguments kind)
  if(DEFINED arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "${kind}(NAME ${arg_NAME}): not understood: ${arg_UNPARSED_ARGUMENTS}")
  endif()
  foreach(word IN LISTS ARGN)
    if(NOT DEFINED arg_${word})
      message(FATAL_ERROR "${kind}(NAME ${arg_NAME}): ${word} is missing")
    endif()
  endforeach()
endfunction()

function(imageddpo_library)
  cmake_parse_arguments(arg "" "NAME" "SOURCES;DEPS" ${ARGN})
  imageddpo_check_arguments(imageddpo_library NAME SOURCES)
  add_library(${arg_NAME} STATIC ${arg_SOURCES})
  set_property(GLOBAL APPEND PROPERTY imageddpo_libraries ${arg_NAME}) # tests/unit/structure reads them.
  target_link_libraries(${arg_NAME} PUBLIC imageddpo_flags ${arg_DEPS})
  imageddpo_precompile(${arg_NAME})
endfunction()

function(imageddpo_executable name)
  target_link_libraries(${name} PRIVATE imageddpo_flags ${arg_DEPS})
  imageddpo_precompile(${name} ${ARGN})
endfunction()

function(imageddpo_program)
  cmake_parse_arguments(arg "CHECK" "NAME" "SOURCES;DEPS" ${ARGN})
  imageddpo_check_arguments(imageddpo_program NAME SOURCES)
  add_executable(${arg_NAME} ${arg_SOURCES})
  imageddpo_executable(${arg_NAME})
  if(arg_CHECK)
    add_dependencies(checks ${arg_NAME})
  else()
    add_dependencies(programs ${arg_NAME})
  endif()
endfunction()

function(imageddpo_register_test name label timeout_s processors)
  if(NOT label IN_LIST imageddpo_labels)
    message(FATAL_ERROR "test ${name}: label \"${label}\" is none of ${imageddpo_labels}")
  endif()
  if(IMAGEDDPO_SANITIZE) # Which makes programs several times slower.
    math(EXPR timeout_s "10 * ${timeout_s}")
  endif()
  add_test(NAME ${name} COMMAND ${ARGN} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES LABELS ${label} TIMEOUT ${timeout_s} PROCESSORS ${processors}
    ENVIRONMENT "IMAGEDDPO_BIN_DIR=${PROJECT_BINARY_DIR}/bin;IMAGEDDPO_SOURCE_DIR=${PROJECT_SOURCE_DIR};IMAGEDDPO_MPIRUN=${IMAGEDDPO_MPIRUN}")
endfunction()

function(imageddpo_test)
  cmake_parse_arguments(arg "MAIN" "NAME;LABEL;TIMEOUT;RANKS" "SOURCES;DEPS" ${ARGN})
  imageddpo_check_arguments(imageddpo_test NAME LABEL SOURCES)
  if(NOT DEFINED arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  add_executable(${arg_NAME} ${arg_SOURCES})
  set_target_properties(${arg_NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  list(APPEND arg_DEPS deps::gtest)
  if(NOT arg_MAIN)
    list(APPEND arg_DEPS GTest::gtest_main)
  endif()
  imageddpo_executable(${arg_NAME} TEST)
  if(DEFINED arg_RANKS)
    imageddpo_register_test(${arg_NAME} ${arg_LABEL} ${arg_TIMEOUT} 2
      ${IMAGEDDPO_MPIRUN} ${IMAGEDDPO_MPIRUN_FLAGS} -n ${arg_RANKS} $<TARGET_FILE:${arg_NAME}>)
    set_property(TEST ${arg_NAME} APPEND PROPERTY ENVIRONMENT ${IMAGEDDPO_MPIRUN_ENVIRONMENT})
  else()
    imageddpo_register_test(${arg_NAME} ${arg_LABEL} ${arg_TIMEOUT} 1 $<TARGET_FILE:${arg_NAME}>)
  endif()
endfunction()

function(imageddpo_command_test)
  cmake_parse_arguments(arg "" "NAME;LABEL;TIMEOUT" "COMMAND" ${ARGN})
  imageddpo_check_arguments(imageddpo_command_test NAME LABEL COMMAND)
  if(NOT DEFINED arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  imageddpo_register_test(${arg_NAME} ${arg_LABEL} ${arg_TIMEOUT} 2 ${arg_COMMAND})
endfunction()
