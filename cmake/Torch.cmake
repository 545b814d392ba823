# libtorch from the wheel in third_party: target deps::torch. (The wheel's own CMake package wants a
# whole CUDA toolkit even for the CPU libraries.)

set(torch_root ${IMAGEDDPO_THIRD_PARTY}/torch)
if(NOT EXISTS ${torch_root}/include/ATen/core/Tensor.h)
  message(FATAL_ERROR "libtorch is not in ${torch_root}: run deploy/setup.sh first (make setup).")
endif()

function(imageddpo_import_library name file)
  if(NOT EXISTS ${file})
    message(FATAL_ERROR "${file} is missing: run deploy/setup.sh${ARGN} first.")
  endif()
  add_library(${name} SHARED IMPORTED GLOBAL)
  set_target_properties(${name} PROPERTIES IMPORTED_LOCATION ${file})
endfunction()

imageddpo_import_library(torch_cpu ${torch_root}/lib/libtorch_cpu.so)
imageddpo_import_library(c10 ${torch_root}/lib/libc10.so)
# OpenMP's threads, which must be libtorch's own.
imageddpo_import_library(torch_gomp ${torch_root}/lib/libgomp.so.1)

# The wheel's include folder also has an old google/protobuf and fmt: -idirafter puts it behind the
# system's. (It also makes them system headers, so our warning flags do not apply inside.)
add_library(imageddpo_torch INTERFACE)
target_compile_options(imageddpo_torch INTERFACE
  "SHELL:-idirafter ${torch_root}/include"
  "SHELL:-idirafter ${torch_root}/include/torch/csrc/api/include")
# So that ATen/TensorOperators.h (+ - * / on tensors) does not pull in every operator there is.
target_compile_definitions(imageddpo_torch INTERFACE AT_PER_OPERATOR_HEADERS)
target_link_libraries(imageddpo_torch INTERFACE torch_cpu c10)
# libtorch_cpu needs libcupti and libcudart, and finds them by its own DT_RPATH; the linker looks here.
target_link_options(imageddpo_torch INTERFACE
  "LINKER:-rpath-link,${torch_root}/lib" "LINKER:-rpath-link,${IMAGEDDPO_THIRD_PARTY}/nvidia/cu13/lib")

if(IMAGEDDPO_CUDA)
  include(Cuda)
endif()
add_library(deps::torch ALIAS imageddpo_torch)
