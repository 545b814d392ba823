# Headers of other libraries that are read once instead of in every file. A file spends three quarters of its compile
# time in them; precompiled, they are a file that the compiler maps into memory.
#
#   imageddpo_precompile(<target> [TEST])
#     Gives a target one of four sets: what most files include, and beside it libtorch's for a target with sources that
#     include it, directly or through other headers of the tree, and GoogleTest's for a TEST. libtorch and gRPC must not
#     meet in one file, so no target has sources of both.
#
# A source still includes what it uses: clang-tidy (.ci/lint) compiles each without the precompiled headers. The flags
# of imageddpo_flags have to be the same wherever they are used, so a source with other flags (optimization, OpenMP) is
# set to SKIP_PRECOMPILE_HEADERS beside those flags.

file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/precompiled.cc CONTENT "")

function(imageddpo_precompiled_headers name deps)
  cmake_parse_arguments(arg "" "" "HEADERS;FLAGS" ${ARGN})
  add_library(${name} OBJECT EXCLUDE_FROM_ALL ${PROJECT_BINARY_DIR}/precompiled.cc)
  target_link_libraries(${name} PRIVATE imageddpo_flags ${deps})
  target_precompile_headers(${name} PRIVATE ${arg_HEADERS})
  target_compile_options(${name} PRIVATE -fpch-preprocess ${arg_FLAGS})
  set_target_properties(${name} PROPERTIES UNITY_BUILD OFF)
endfunction()

# No templates that every file would then instantiate again, whether it needs them or not, as nlohmann/json.hpp's are:
# what precompiled headers save is the reading alone.
set(base_headers <absl/status/statusor.h> <absl/strings/str_cat.h> <absl/strings/str_format.h> <absl/strings/str_join.h>
  <google/protobuf/map.h> <google/protobuf/message.h> <google/protobuf/repeated_field.h>
  <algorithm> <functional> <map> <memory> <optional> <set> <string> <vector>)
set(test_headers ${base_headers} <gmock/gmock.h> <gtest/gtest.h>)
# Tests are not optimized (the largest takes 27 s of a core instead of 61); what they test is.
if(NOT IMAGEDDPO_SANITIZE)
  set(test_flags -O0)
endif()
imageddpo_precompiled_headers(imageddpo_headers "" HEADERS ${base_headers})
imageddpo_precompiled_headers(imageddpo_test_headers deps::gtest FLAGS ${test_flags} HEADERS ${test_headers})
# Most operators' headers are small beside what all of them include.
imageddpo_precompiled_headers(imageddpo_torch_headers deps::torch HEADERS ${base_headers}
  <ATen/core/Tensor.h> <ATen/core/grad_mode.h> <ATen/TensorOperators.h> <ATen/ops/cat.h> <ATen/ops/empty.h>
  <ATen/ops/full.h> <ATen/ops/stack.h> <ATen/ops/tensor.h> <ATen/ops/zeros.h>)
imageddpo_precompiled_headers(imageddpo_torch_test_headers "deps::torch;deps::gtest" FLAGS ${test_flags} HEADERS ${test_headers}
  <ATen/ATen.h> <ATen/core/grad_mode.h>)

# Whether a file of the tree includes libtorch, directly or through others. The answers are kept while CMake runs.
function(imageddpo_includes_torch file out)
  get_property(known GLOBAL PROPERTY "imageddpo_includes_torch ${file}" SET)
  if(NOT known)
    set(found OFF)
    set_property(GLOBAL PROPERTY "imageddpo_includes_torch ${file}" OFF)
    file(STRINGS ${file} lines REGEX "^#include ")
    foreach(line IN LISTS lines)
      if(line MATCHES "<(ATen|c10|torch)/")
        set(found ON)
      elseif(line MATCHES "\"(.+)\"")
        set(header ${PROJECT_SOURCE_DIR}/${CMAKE_MATCH_1})
        if(EXISTS ${header})
          imageddpo_includes_torch(${header} found)
        endif()
      endif()
      if(found)
        break()
      endif()
    endforeach()
    set_property(GLOBAL PROPERTY "imageddpo_includes_torch ${file}" ${found})
  endif()
  get_property(answer GLOBAL PROPERTY "imageddpo_includes_torch ${file}")
  set(${out} ${answer} PARENT_SCOPE)
endfunction()

function(imageddpo_precompile target)
  cmake_parse_arguments(arg "TEST" "" "" ${ARGN})
  get_target_property(sources ${target} SOURCES)
  set(headers imageddpo)
  foreach(source IN LISTS sources)
    get_filename_component(file ${source} ABSOLUTE)
    set(found OFF)
    if(EXISTS ${file})
      imageddpo_includes_torch(${file} found)
    endif()
    if(found)
      string(APPEND headers _torch)
      break()
    endif()
  endforeach()
  if(arg_TEST)
    target_compile_options(${target} PRIVATE ${test_flags})
    string(APPEND headers _test)
  endif()
  target_precompile_headers(${target} REUSE_FROM ${headers}_headers)
  target_compile_options(${target} PRIVATE -fpch-preprocess)
endfunction()
