#pragma once

#include <mpi.h>

namespace imageddpo {

/// What the MPI that we were built with can tell about dead processes. One file per flavour, chosen
/// by CMake: mpi_faults_mpi4_ft.cc (ULFM) and mpi_faults_mpi3.cc (none: MPI ends all processes).

/// Whether this run survives the death of a process: built with ULFM and started with it
/// (mpirun --with-ft ulfm).
bool MpiToleratesFaults(MPI_Comm world);

/// Whether an error code says that the peer process is dead.
bool IsProcessFailure(int mpi_error);

}  // namespace imageddpo
