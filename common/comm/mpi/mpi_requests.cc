#include "common/comm/mpi/mpi_requests.h"

#include <algorithm>
#include <string>
#include <utility>

#include "common/comm/mpi/mpi_faults.h"

namespace imageddpo {
namespace {

constexpr std::size_t kChunkBytes = std::size_t{1} << 30;

}  // namespace

void MpiRequests::Send(int to, int tag, absl::Span<const char> bytes,
                       std::shared_ptr<const void> owner, std::shared_ptr<Transfer> transfer) {
  Start(bytes.size(),
        std::make_shared<Operation>(Operation{to, std::move(owner), std::move(transfer), 0}),
        [this, to, tag, bytes](std::size_t begin, int size, MPI_Request* request) {
          return MPI_Isend(bytes.data() + begin, size, MPI_BYTE, to, tag, comm_, request);
        });
}

void MpiRequests::Receive(int from, int tag, absl::Span<char> into,
                          std::shared_ptr<const void> owner, std::shared_ptr<Transfer> transfer) {
  Start(into.size(),
        std::make_shared<Operation>(Operation{from, std::move(owner), std::move(transfer), 0}),
        [this, from, tag, into](std::size_t begin, int size, MPI_Request* request) {
          return MPI_Irecv(into.data() + begin, size, MPI_BYTE, from, tag, comm_, request);
        });
}

void MpiRequests::Start(std::size_t size_bytes, const std::shared_ptr<Operation>& operation,
                        const StartChunk& start_chunk) {
  for (std::size_t begin = 0; begin < size_bytes; begin += kChunkBytes) {
    const auto size = static_cast<int>(std::min(kChunkBytes, size_bytes - begin));
    MPI_Request request = MPI_REQUEST_NULL;
    const int error = start_chunk(begin, size, &request);
    if (error != MPI_SUCCESS) {
      Fail(*operation, error);
      return;
    }
    ++operation->requests_left;
    requests_.push_back(request);
    operations_.push_back(operation);
  }
}

bool MpiRequests::Finish() {
  if (requests_.empty()) {
    return false;
  }
  indices_.resize(requests_.size());
  statuses_.resize(requests_.size());
  int count = 0;
  const int error = MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &count,
                                 indices_.data(), statuses_.data());
  if (count == MPI_UNDEFINED || count == 0) {
    return false;
  }
  std::vector<std::pair<std::shared_ptr<Operation>, int>> ended;
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    ended.emplace_back(operations_[static_cast<std::size_t>(indices_[i])],
                       error == MPI_ERR_IN_STATUS ? statuses_[i].MPI_ERROR : MPI_SUCCESS);
  }
  std::size_t kept = 0;
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] != MPI_REQUEST_NULL) {
      requests_[kept] = requests_[i];
      operations_[kept++] = std::move(operations_[i]);
    }
  }
  requests_.resize(kept);
  operations_.resize(kept);
  for (const auto& [operation, request_error] : ended) {
    --operation->requests_left;
    if (request_error != MPI_SUCCESS) {
      Fail(*operation, request_error);
    } else if (operation->requests_left == 0 && operation->transfer != nullptr) {
      operation->transfer->Complete();
    }
  }
  return true;
}

void MpiRequests::Fail(const Operation& operation, int mpi_error) {
  if (operation.transfer != nullptr) {
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;
    MPI_Error_string(mpi_error, text, &length);
    operation.transfer->Fail(
        IsProcessFailure(mpi_error) ? CommError::Kind::kPeerFailed : CommError::Kind::kTransport,
        std::string(text, static_cast<std::size_t>(length)));
  }
  on_error_(operation.peer, mpi_error);
}

std::shared_ptr<void> MpiRequests::TakeMemory() {
  return std::make_shared<std::vector<std::shared_ptr<Operation>>>(std::move(operations_));
}

}  // namespace imageddpo
