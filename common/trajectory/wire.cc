#include "common/trajectory/wire.h"

#include <ATen/ops/empty.h>
#include <absl/strings/str_cat.h>

#include "common/base/status.h"
#include "common/trajectory/tags.h"
#include "imageddpo/v1/trajectory.pb.h"

namespace imageddpo {
namespace {

v1::TrajectoryHeader MakeHeader(const TrajectoryBatch& batch, bool with_latents,
                                const std::vector<uint64_t>& new_embeddings) {
  v1::TrajectoryHeader header;
  header.set_wire_version(kTrajectoryWireVersion);
  header.set_job_id(batch.job_id);
  header.set_epoch(batch.epoch);
  header.set_micro_batch(batch.micro_batch);
  header.set_first_sample(batch.first_sample);
  header.set_weight_version(batch.weight_version);
  for (const auto& id : batch.image_ids) header.add_image_ids(id);
  for (const auto& prompt : batch.prompts) header.add_prompts(prompt);
  for (const uint64_t hash : batch.keys.prompt_hashes) header.add_prompt_hashes(hash);
  for (const bool same : batch.keys.same_tokens) header.add_same_tokens(same);
  header.set_negative_hash(batch.keys.negative_hash);
  for (const auto& name : batch.part_names) header.add_part_names(name);
  header.set_negative_hash(batch.keys.negative_hash);
  header.set_has_latents(with_latents);
  for (const uint64_t hash : new_embeddings) header.add_new_embeddings(hash);
  header.add_shape(batch.batch_size());
  header.add_shape(batch.timesteps_BK.size(1));
  for (int dim = 2; dim < 5; ++dim) header.add_shape(batch.latents.size(dim));
  if (!new_embeddings.empty()) {
    const at::Tensor& embedding = batch.new_embeddings.at(new_embeddings.front());
    header.add_shape(embedding.size(0));
    header.add_shape(embedding.size(1));
  }
  for (const auto& picture : batch.pictures) {
    auto* named = header.add_pictures();
    named->set_name(picture.name);
    named->set_data(picture.png);
  }
  header.set_sample_seconds(batch.sample_seconds);
  header.set_reward_seconds(batch.reward_seconds);
  return header;
}

/// A record is a peer's word: nothing in it is used before it has been checked.
absl::Status CheckHeader(const v1::TrajectoryHeader& header, int from_rank,
                         const ExpectedRecord& expected) {
  const auto differs = [&](const char* field, auto found, auto wanted) {
    return absl::InternalError(absl::StrCat("trajectory from gang rank ", from_rank, ": ", field,
                                            " is ", found, ", expected ", wanted));
  };
  if (header.wire_version() != kTrajectoryWireVersion) {
    return differs("wire_version", header.wire_version(), kTrajectoryWireVersion);
  }
  if (header.job_id() != expected.job_id)
    return differs("job_id", header.job_id(), expected.job_id);
  if (header.epoch() != expected.epoch) return differs("epoch", header.epoch(), expected.epoch);
  if (header.micro_batch() != expected.micro_batch) {
    return differs("micro_batch", header.micro_batch(), expected.micro_batch);
  }
  if (header.weight_version() != expected.weight_version) {
    return differs("weight_version", header.weight_version(), expected.weight_version);
  }
  if (header.has_latents() != expected.with_latents) {
    return differs("has_latents", header.has_latents(), expected.with_latents);
  }
  const bool has_embeddings = header.new_embeddings_size() > 0;
  if (header.shape_size() != (has_embeddings ? 7 : 5)) {
    return differs("number of dimensions", header.shape_size(), has_embeddings ? 7 : 5);
  }
  for (const int64_t dim : header.shape()) {
    if (dim < 1) return differs("a dimension", dim, "at least 1");
  }
  const auto is_batch = [&](int size) { return size == expected.batch_size; };
  if (!is_batch(static_cast<int>(header.shape(0))) || !is_batch(header.image_ids_size()) ||
      !is_batch(header.prompts_size()) || !is_batch(header.prompt_hashes_size()) ||
      !is_batch(header.same_tokens_size())) {
    return differs("batch size", header.shape(0), expected.batch_size);
  }
  return absl::OkStatus();
}

TrajectoryBatch FromHeader(const v1::TrajectoryHeader& header) {
  TrajectoryBatch batch;
  batch.job_id = header.job_id();
  batch.epoch = header.epoch();
  batch.micro_batch = header.micro_batch();
  batch.first_sample = header.first_sample();
  batch.weight_version = header.weight_version();
  batch.image_ids.assign(header.image_ids().begin(), header.image_ids().end());
  batch.prompts.assign(header.prompts().begin(), header.prompts().end());
  batch.keys.prompt_hashes.assign(header.prompt_hashes().begin(), header.prompt_hashes().end());
  batch.keys.same_tokens.assign(header.same_tokens().begin(), header.same_tokens().end());
  batch.keys.negative_hash = header.negative_hash();
  batch.part_names.assign(header.part_names().begin(), header.part_names().end());
  for (const auto& picture : header.pictures()) {
    batch.pictures.push_back({picture.name(), picture.data()});
  }
  batch.sample_seconds = header.sample_seconds();
  batch.reward_seconds = header.reward_seconds();
  return batch;
}

}  // namespace

TrajectorySender::TrajectorySender(Communicator* gang, int to_rank, size_t max_in_flight)
    : gang_(gang), to_rank_(to_rank), max_in_flight_(max_in_flight) {}

void TrajectorySender::Send(const TrajectoryBatch& batch, bool with_latents,
                            std::chrono::milliseconds timeout) {
  while (in_flight_.size() >= max_in_flight_) {
    for (auto& work : in_flight_.front().works) work->Wait(timeout);
    in_flight_.erase(in_flight_.begin());
  }
  std::vector<uint64_t> new_embeddings;
  if (with_latents) {
    for (const auto& [hash, embedding] : batch.new_embeddings) {
      if (sent_embeddings_.insert(hash).second) new_embeddings.push_back(hash);
    }
  }
  Record record{batch, {}};
  const auto send = [&](const at::Tensor& tensor) {
    record.works.push_back(gang_->Send(tensor, to_rank_, kTrajectoryTag));
  };
  record.works.push_back(
      gang_->SendBytes(MakeHeader(batch, with_latents, new_embeddings).SerializeAsString(),
                       to_rank_, kTrajectoryTag));
  send(batch.timesteps_BK);
  send(batch.log_probs_BK);
  send(batch.rewards_B);
  send(batch.parts_BP);
  if (with_latents) send(batch.latents);
  for (const uint64_t hash : new_embeddings) send(batch.new_embeddings.at(hash));
  in_flight_.push_back(std::move(record));
}

void TrajectorySender::Flush(std::chrono::milliseconds timeout) {
  for (auto& record : in_flight_) {
    for (auto& work : record.works) work->Wait(timeout);
  }
  in_flight_.clear();
}

absl::StatusOr<TrajectoryBatch> ReceiveTrajectory(Communicator* gang, int from_rank,
                                                  const ExpectedRecord& expected,
                                                  std::chrono::milliseconds timeout) {
  v1::TrajectoryHeader header;
  if (!header.ParseFromString(gang->RecvBytes(from_rank, kTrajectoryTag, timeout))) {
    return absl::InternalError(
        absl::StrCat("trajectory from gang rank ", from_rank, ": the header cannot be read"));
  }
  IMAGEDDPO_RETURN_IF_ERROR(CheckHeader(header, from_rank, expected));
  TrajectoryBatch batch = FromHeader(header);
  const auto& shape = header.shape();
  const int64_t b = shape[0], k = shape[1], parts = header.part_names_size();
  std::vector<std::unique_ptr<Work>> works;
  const auto receive = [&](at::IntArrayRef sizes, at::ScalarType dtype) {
    at::Tensor tensor = at::empty(sizes, at::TensorOptions().dtype(dtype));
    works.push_back(gang->Recv(tensor, from_rank, kTrajectoryTag));
    return tensor;
  };
  batch.timesteps_BK = receive({b, k}, at::kLong);
  batch.log_probs_BK = receive({b, k}, at::kFloat);
  batch.rewards_B = receive({b}, at::kDouble);
  batch.parts_BP = receive({b, parts}, at::kDouble);
  if (header.has_latents()) {
    batch.latents = receive({b, k + 1, shape[2], shape[3], shape[4]}, at::kFloat);
  }
  for (const uint64_t hash : header.new_embeddings()) {
    batch.new_embeddings[hash] = receive({shape[5], shape[6]}, at::kFloat);
  }
  for (auto& work : works) work->Wait(timeout);
  return batch;
}

}  // namespace imageddpo
