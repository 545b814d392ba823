#include "common/comm/mpi/mpi_runtime.h"

#include <cstdio>
#include <cstdlib>
#include <thread>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/comm/mpi/mpi_faults.h"

namespace imageddpo {
namespace {

absl::Status ToStatus(int mpi_error, const char* call) {
  if (mpi_error == MPI_SUCCESS) {
    return absl::OkStatus();
  }
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(mpi_error, text, &length);
  return absl::InternalError(
      absl::StrCat(call, ": ", absl::string_view(text, static_cast<std::size_t>(length))));
}

std::string LibraryVersion() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(text, &length);
  const absl::string_view version(text, static_cast<std::size_t>(length));
  return std::string(version.substr(0, version.find_first_of(",\n")));  // The rest is build detail.
}

}  // namespace

absl::StatusOr<std::unique_ptr<MpiRuntime>> MpiRuntime::Start(int* argc, char*** argv) {
  int provided = MPI_THREAD_SINGLE;
  // An error during MPI_Init_thread ends the process: error handlers cannot be set yet.
  MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &provided);
  if (provided < MPI_THREAD_SERIALIZED) {
    return absl::FailedPreconditionError(
        absl::StrCat(LibraryVersion(), " was built without thread support; use another MPI"));
  }
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
  std::unique_ptr<MpiRuntime> runtime(new MpiRuntime());
  MPI_Comm_rank(MPI_COMM_WORLD, &runtime->world_rank_);
  MPI_Comm_size(MPI_COMM_WORLD, &runtime->world_size_);
  runtime->fault_tolerant_ = MpiToleratesFaults(MPI_COMM_WORLD);
  if (const auto status = ToStatus(MPI_Comm_dup(MPI_COMM_WORLD, &runtime->comm_), "MPI_Comm_dup");
      !status.ok()) {
    return status;
  }
  MPI_Comm_set_errhandler(runtime->comm_, MPI_ERRORS_RETURN);
  return runtime;
}

std::string MpiRuntime::Describe() const {
  return absl::StrCat(LibraryVersion(), ", ", world_size_, world_size_ == 1 ? " rank" : " ranks",
                      fault_tolerant_
                          ? "; the death of a process is noticed and does not end the others"
                          : "; no fault tolerance: when one process dies, MPI ends all of them");
}

void MpiRuntime::Finish(int exit_code, std::chrono::milliseconds timeout) {
  std::fflush(nullptr);
  if (fault_tolerant_ && world_size_ > 1) {
    std::_Exit(exit_code);
  }
  std::thread([exit_code, timeout] {
    std::this_thread::sleep_for(timeout);
    std::_Exit(exit_code);
  }).detach();
  MPI_Comm_free(&comm_);
  MPI_Finalize();
  retained_.clear();
}

}  // namespace imageddpo
