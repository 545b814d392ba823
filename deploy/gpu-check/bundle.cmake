# cmake --install BUILD --component gpu-check --prefix DIR: the bundle. It has the tree's layout, so that
# scripts find their files alike in both; programs are in bin/, the Debian libraries that they need in
# lib/. libtorch, CUDA, NCCL and glibc are the other machine's own.
if(NOT IMAGEDDPO_CUDA)
  return()
endif()

# The C++ runtime goes to a folder of its own: run.sh takes it only where the machine's is too old.
set(of_the_machine "^lib(torch|c10|shm|gomp|cu|nv|nccl|stdc\\+\\+|gcc_s|c\\.|m\\.|rt\\.|dl\\.|pthread)" "^ld-linux")
install(TARGETS gpu_check nccl_check jobs_check
  RUNTIME_DEPENDENCY_SET gpu_check_libraries
  RUNTIME DESTINATION bin COMPONENT gpu-check)
set_target_properties(gpu_check nccl_check jobs_check PROPERTIES INSTALL_RPATH "\$ORIGIN/../lib")
install(RUNTIME_DEPENDENCY_SET gpu_check_libraries
  PRE_EXCLUDE_REGEXES ${of_the_machine}
  LIBRARY DESTINATION lib COMPONENT gpu-check)

foreach(library IN ITEMS libstdc++.so.6 libgcc_s.so.1)
  execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=${library}
    OUTPUT_VARIABLE path OUTPUT_STRIP_TRAILING_WHITESPACE)
  file(REAL_PATH ${path} path)
  install(FILES ${path} DESTINATION lib-c++ RENAME ${library} COMPONENT gpu-check)
endforeach()

install(PROGRAMS run.sh DESTINATION . COMPONENT gpu-check)
install(FILES README.md DESTINATION . COMPONENT gpu-check)
file(GLOB scripts CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.py)
install(FILES ${scripts} DESTINATION deploy/gpu-check COMPONENT gpu-check)
foreach(path IN ITEMS tests/bench/sd15_unet.py tests/bench/sd15_model.py
    tests/data/parity/algorithms/reference.json tests/data/parity/algorithms/reference.safetensors)
  cmake_path(GET path PARENT_PATH folder)
  install(FILES ${PROJECT_SOURCE_DIR}/${path} DESTINATION ${folder} COMPONENT gpu-check)
endforeach()
foreach(path IN ITEMS tests/data/parity/models tests/data/parity/pipeline deploy/demo/tiny-sd)
  cmake_path(GET path PARENT_PATH folder)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/${path} DESTINATION ${folder} COMPONENT gpu-check)
endforeach()
