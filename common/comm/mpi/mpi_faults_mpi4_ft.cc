// mpi-ext.h needs mpi.h before it.
// clang-format off
#include <mpi.h>
#include <mpi-ext.h>
// clang-format on

#include "common/comm/mpi/mpi_faults.h"

namespace imageddpo {

bool MpiToleratesFaults(MPI_Comm world) {
  int* enabled = nullptr;
  int found = 0;
  return MPI_Comm_get_attr(world, MPIX_FT, static_cast<void*>(&enabled), &found) == MPI_SUCCESS &&
         found != 0 && *enabled != 0;
}

bool IsProcessFailure(int mpi_error) {
  int error_class = MPI_SUCCESS;
  MPI_Error_class(mpi_error, &error_class);
  return error_class == MPIX_ERR_PROC_FAILED || error_class == MPIX_ERR_PROC_FAILED_PENDING;
}

}  // namespace imageddpo
