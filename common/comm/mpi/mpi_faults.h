#pragma once

#include <mpi.h>

namespace imageddpo {

// What MPI can report about dead processes. CMake chooses one implementation:
// mpi_faults_mpi4_ft.cc (ULFM), or mpi_faults_mpi3.cc (nothing: MPI ends all processes).

/// Whether this run survives the death of a process: built with ULFM, and started with it (mpirun
/// --with-ft ulfm).
bool MpiToleratesFaults(MPI_Comm world);

/// Whether an MPI error code says that the peer process is dead.
bool IsProcessFailure(int mpi_error);

}  // namespace imageddpo
