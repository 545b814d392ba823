# The GPU half of libtorch, the CUDA runtime and NCCL, from the wheels that deploy/setup.sh --cuda
# unpacks; no toolkit and no nvcc. deps::torch becomes the GPU libtorch; deps::cuda and deps::nccl are
# for code that calls those directly. The driver (libcuda.so.1) comes with the machine that runs it.

set(nvidia_root ${IMAGEDDPO_THIRD_PARTY}/nvidia)
imageddpo_import_library(c10_cuda ${torch_root}/lib/libc10_cuda.so " --cuda")
imageddpo_import_library(cudart ${nvidia_root}/cu13/lib/libcudart.so.13 " --cuda")
imageddpo_import_library(nccl ${nvidia_root}/nccl/lib/libnccl.so.2 " --cuda")

add_library(imageddpo_cuda INTERFACE)
target_compile_options(imageddpo_cuda INTERFACE "SHELL:-idirafter ${nvidia_root}/cu13/include")
target_link_libraries(imageddpo_cuda INTERFACE cudart)
add_library(deps::cuda ALIAS imageddpo_cuda)

add_library(imageddpo_nccl INTERFACE)
target_compile_options(imageddpo_nccl INTERFACE "SHELL:-idirafter ${nvidia_root}/nccl/include")
target_link_libraries(imageddpo_nccl INTERFACE nccl imageddpo_cuda)
add_library(deps::nccl ALIAS imageddpo_nccl)

# Link options only: what includes no CUDA header compiles to the same object in both configurations.
# Nothing refers to a symbol of libtorch_cuda: its kernels register themselves when it is loaded, so it
# has to stay on the list of needed libraries.
target_link_libraries(imageddpo_torch INTERFACE
  "-Wl,--push-state,--no-as-needed,${torch_root}/lib/libtorch_cuda.so,--pop-state" c10_cuda cudart)
target_link_options(imageddpo_torch INTERFACE
  "LINKER:-rpath-link,${nvidia_root}/cudnn/lib" "LINKER:-rpath-link,${nvidia_root}/nccl/lib"
  "LINKER:-rpath-link,${nvidia_root}/cusparselt/lib" "LINKER:-rpath-link,${nvidia_root}/nvshmem/lib"
  LINKER:--allow-shlib-undefined) # the driver's libcuda.so.1 is not here
