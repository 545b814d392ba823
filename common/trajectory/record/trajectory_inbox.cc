#include "common/trajectory/record/trajectory_inbox.h"

#include <ATen/ops/empty.h>
#include <absl/strings/str_cat.h>

#include <utility>

#include "common/base/status.h"
#include "common/trajectory/record/tags.h"

namespace imageddpo {
namespace {

constexpr int64_t kMaxHeaderBytes = int64_t{1} << 30;  // Pictures are in it.

}  // namespace

TrajectoryInbox::TrajectoryInbox(Communicator* gang, const std::vector<int>& rollout_ranks)
    : gang_(gang) {
  for (const int rank : rollout_ranks) {
    sources_.emplace_back();
    sources_.back().rank = rank;
  }
}

void TrajectoryInbox::Expect(const std::vector<ExpectedRecord>& records) {
  std::vector<std::shared_ptr<Slot>> epoch;
  for (size_t m = 0; m < records.size(); ++m) {
    epoch.push_back(std::make_shared<Slot>());
    epoch.back()->expected = records[m];
    sources_.at(records[m].sampler).expected.push_back(epoch.back());
  }
  epochs_.push_back(std::move(epoch));
}

void TrajectoryInbox::Receive(Source& source, int64_t size, bool is_length) {
  source.is_length = is_length;
  source.header = at::empty({size}, is_length ? at::kLong : at::kByte);
  source.work = gang_->Recv(source.header, source.rank, kTrajectoryTag);
}

at::Tensor TrajectoryInbox::LatentsBuffer(at::IntArrayRef sizes) {
  at::Tensor* other = nullptr;  // Free, of another size.
  for (at::Tensor& buffer : buffers_) {
    if (buffer.use_count() != 1 || buffer.storage().use_count() != 1) continue;
    if (buffer.sizes() == sizes) return buffer;
    other = &buffer;
  }
  if (other == nullptr) other = &buffers_.emplace_back();
  *other = at::empty(sizes, at::TensorOptions().dtype(at::kFloat).device(gang_->transfer_device()));
  return *other;
}

absl::Status TrajectoryInbox::TakeHeader(Source& source) {
  Slot& slot = *source.expected.front();
  const at::Tensor& bytes = source.header;
  v1::TrajectoryHeader header;
  if (!header.ParseFromArray(bytes.const_data_ptr(), static_cast<int>(bytes.numel()))) {
    return absl::InternalError(
        absl::StrCat("trajectory from gang rank ", source.rank, ": the header cannot be read"));
  }
  IMAGEDDPO_RETURN_IF_ERROR(CheckHeader(header, source.rank, slot.expected, shape_));
  const auto& shape = header.shape();
  shape_.assign(shape.begin(), shape.begin() + 5);
  slot.batch = FromHeader(header);
  const auto receive = [&](const at::Tensor& tensor) {
    slot.works.push_back(gang_->Recv(tensor, source.rank, kTrajectoryTag));
    return tensor;
  };
  if (header.has_latents()) {
    slot.batch.latents =
        receive(LatentsBuffer({shape[0], NumLatents(header), shape[2], shape[3], shape[4]}));
  }
  const at::IntArrayRef of_means(shape.data(), 5);
  if (header.has_means()) slot.batch.means = receive(LatentsBuffer(of_means));
  if (header.has_base_means()) slot.batch.base_means = receive(LatentsBuffer(of_means));
  for (const uint64_t hash : header.new_embeddings()) {
    slot.batch.new_embeddings[hash] = receive(at::empty({shape[5], shape[6]}, at::kFloat));
  }
  slot.has_header = true;
  source.expected.pop_front();
  return absl::OkStatus();
}

absl::Status TrajectoryInbox::Advance(Source& source) {
  while (!source.expected.empty()) {
    if (source.work == nullptr) Receive(source, 1, true);
    if (!source.work->Done()) return absl::OkStatus();
    const std::unique_ptr<Work> done = std::move(source.work);
    done->Wait(std::chrono::milliseconds(0));  // Throws if it failed.
    if (!source.is_length) {
      IMAGEDDPO_RETURN_IF_ERROR(TakeHeader(source));
      continue;
    }
    const auto length = source.header.item<int64_t>();
    if (length < 1 || length > kMaxHeaderBytes) {
      return absl::InternalError(absl::StrCat("trajectory from gang rank ", source.rank,
                                              ": its header has ", length, " bytes, expected 1 to ",
                                              kMaxHeaderBytes));
    }
    Receive(source, length, false);
  }
  return absl::OkStatus();
}

absl::Status TrajectoryInbox::Poll() {
  for (Source& source : sources_) IMAGEDDPO_RETURN_IF_ERROR(Advance(source));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<TrajectoryBatch>> TrajectoryInbox::TakeEpoch(
    std::chrono::milliseconds timeout, const std::function<bool()>& stopped) {
  if (epochs_.empty()) return absl::InternalError("TrajectoryInbox: no epoch is expected");
  std::vector<TrajectoryBatch> batches;
  for (size_t m = 0; m < epochs_.front().size(); ++m) {
    Slot& slot = *epochs_.front()[m];
    if (stopped()) return absl::CancelledError("the job was asked to stop");
    IMAGEDDPO_RETURN_IF_ERROR(Poll());
    while (!slot.has_header) {
      sources_.at(slot.expected.sampler).work->Wait(timeout);
      IMAGEDDPO_RETURN_IF_ERROR(Poll());
    }
    for (auto& work : slot.works) work->Wait(timeout);
    batches.push_back(std::move(slot.batch));
  }
  epochs_.pop_front();
  return batches;
}

}  // namespace imageddpo
