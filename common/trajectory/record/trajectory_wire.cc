#include "common/trajectory/record/trajectory_wire.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/scalar_tensor.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

#include "common/device/copies.h"
#include "common/trajectory/record/tags.h"

namespace imageddpo {
namespace {

constexpr int kShapeDims = 5;                     // B, K, C, h, w
constexpr int kEmbeddingDims = 2;                 // L, D
constexpr int64_t kMostOfADimension = INT32_MAX;  // So that products of two do not overflow.

template <typename T, typename Field>
void PutValues(const at::Tensor& tensor, Field* field) {
  const at::Tensor values = tensor.contiguous();
  const auto* data = values.const_data_ptr<T>();
  field->Add(data, data + values.numel());
}

template <typename T, typename Field>
at::Tensor TakeValues(const Field& field, at::IntArrayRef shape) {
  at::Tensor tensor = at::empty(shape, c10::CppTypeToScalarType<T>::value);
  std::copy(field.begin(), field.end(), tensor.mutable_data_ptr<T>());
  return tensor;
}

v1::TrajectoryHeader MakeHeader(const TrajectoryBatch& batch, const TrajectorySender::Parts& parts,
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
  header.set_has_latents(parts.latents);
  header.set_has_means(parts.latents && batch.means.defined());
  header.set_has_base_means(parts.latents && batch.base_means.defined());
  for (const uint64_t hash : new_embeddings) header.add_new_embeddings(hash);
  header.add_shape(batch.batch_size());
  header.add_shape(batch.timesteps_BK.size(1));
  for (int dim = 2; dim < kShapeDims; ++dim) header.add_shape(batch.latents.size(dim));
  if (!new_embeddings.empty()) {
    const at::Tensor& embedding = batch.new_embeddings.at(new_embeddings.front());
    header.add_shape(embedding.size(0));
    header.add_shape(embedding.size(1));
  }
  for (const int64_t index : batch.latent_of_step) header.add_latent_of_step(index);
  PutValues<int64_t>(batch.timesteps_BK, header.mutable_timesteps());
  PutValues<float>(batch.log_probs_BK, header.mutable_log_probs());
  PutValues<double>(batch.rewards_B, header.mutable_rewards());
  PutValues<double>(batch.parts_BP, header.mutable_parts());
  header.mutable_why_dropped()->insert(batch.why_dropped.begin(), batch.why_dropped.end());
  if (parts.pictures) {
    for (const auto& picture : batch.pictures) {
      auto* named = header.add_pictures();
      named->set_name(picture.name);
      named->set_data(picture.png);
    }
  }
  header.set_sample_seconds(batch.sample_seconds);
  header.set_reward_seconds(batch.reward_seconds);
  header.set_wait_seconds(batch.wait_seconds);
  return header;
}

at::Tensor Bytes(const v1::TrajectoryHeader& header) {
  const auto size = static_cast<int64_t>(header.ByteSizeLong());
  if (size > std::numeric_limits<int>::max()) {  // Protobuf serialises no more.
    throw std::length_error("the head of a micro-batch has " + std::to_string(size) +
                            " bytes; at most 2147483647 can be sent: choose fewer pictures or a "
                            "smaller `device.device_batch_size`");
  }
  at::Tensor bytes = at::empty({size}, at::kByte);
  header.SerializeToArray(bytes.mutable_data_ptr(), static_cast<int>(size));
  return bytes;
}

}  // namespace

TrajectorySender::TrajectorySender(Communicator* gang, int to_rank, size_t max_in_flight)
    : gang_(gang), to_rank_(to_rank), max_in_flight_(max_in_flight) {}

void TrajectorySender::Send(const TrajectoryBatch& batch, const Parts& parts,
                            std::chrono::milliseconds timeout) {
  const auto is_done = [](const std::unique_ptr<Work>& work) { return work->Done(); };
  while (!in_flight_.empty()) {
    Record& oldest = in_flight_.front();
    if (in_flight_.size() < max_in_flight_ && !std::all_of(oldest.begin(), oldest.end(), is_done)) {
      break;
    }
    for (auto& work : oldest) work->Wait(timeout);
    in_flight_.pop_front();
  }
  if (batch.epoch != epoch_) {
    epoch_ = batch.epoch;
    sent_embeddings_.clear();
  }
  std::vector<uint64_t> new_embeddings;
  if (parts.latents) {
    for (const auto& [hash, embedding] : batch.new_embeddings) {
      if (sent_embeddings_.insert(hash).second) new_embeddings.push_back(hash);
    }
  }
  Record record;
  const auto send = [&](const at::Tensor& tensor) {
    record.push_back(gang_->Send(tensor, to_rank_, kTrajectoryTag));
  };
  const at::Tensor header = Bytes(MakeHeader(batch, parts, new_embeddings));
  send(at::scalar_tensor(header.numel(), at::kLong).view({1}));
  send(header);
  if (parts.latents) {
    for (const at::Tensor* tensor : {&batch.latents, &batch.means, &batch.base_means}) {
      if (tensor->defined()) send(MoveTo(*tensor, gang_->transfer_device()));
    }
  }
  for (const uint64_t hash : new_embeddings) send(batch.new_embeddings.at(hash));
  in_flight_.push_back(std::move(record));
}

void TrajectorySender::Flush(std::chrono::milliseconds timeout) {
  for (auto& record : in_flight_) {
    for (auto& work : record) work->Wait(timeout);
  }
  in_flight_.clear();
}

absl::Status CheckHeader(const v1::TrajectoryHeader& header, int from_rank,
                         const ExpectedRecord& expected, const std::vector<int64_t>& shape) {
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
  if (header.has_means() != expected.with_means) {
    return differs("has_means", header.has_means(), expected.with_means);
  }
  if (header.has_base_means() != expected.with_base_means) {
    return differs("has_base_means", header.has_base_means(), expected.with_base_means);
  }
  const int dims = kShapeDims + (header.new_embeddings_size() > 0 ? kEmbeddingDims : 0);
  if (header.shape_size() != dims) {
    return differs("number of dimensions", header.shape_size(), dims);
  }
  for (const int64_t dim : header.shape()) {
    if (dim < 1 || dim > kMostOfADimension) {
      return differs("a dimension", dim, absl::StrCat("1 to ", kMostOfADimension));
    }
  }
  const auto first_dims = absl::MakeConstSpan(header.shape().data(), kShapeDims);
  if (!shape.empty() && first_dims != absl::MakeConstSpan(shape)) {
    return differs("shape", absl::StrJoin(first_dims, "x"), absl::StrJoin(shape, "x"));
  }
  const int64_t b = expected.batch_size, k = header.shape(1), p = header.part_names_size();
  const std::pair<const char*, std::pair<int64_t, int64_t>> sizes[] = {
      {"batch size", {header.shape(0), b}},
      {"number of image_ids", {header.image_ids_size(), b}},
      {"number of prompts", {header.prompts_size(), b}},
      {"number of prompt_hashes", {header.prompt_hashes_size(), b}},
      {"number of same_tokens", {header.same_tokens_size(), b}},
      {"number of timesteps", {header.timesteps_size(), b * k}},
      {"number of log_probs", {header.log_probs_size(), b * k}},
      {"number of rewards", {header.rewards_size(), b}},
      {"number of parts", {header.parts_size(), b * p}}};
  for (const auto& [field, values] : sizes) {
    if (values.first != values.second) return differs(field, values.first, values.second);
  }
  const auto& latents = header.latent_of_step();
  if (!latents.empty() && latents.size() != k) {
    return differs("number of latent_of_step", latents.size(), k);
  }
  for (int i = 0; i < latents.size(); ++i) {
    const int64_t first = i == 0 ? 0 : latents[i - 1] + 1, last = i == 0 ? 0 : first + 1;
    if (latents[i] < first || latents[i] > last) {
      return differs("latent_of_step", latents[i], "an index after the one before it");
    }
  }
  return absl::OkStatus();
}

int64_t NumLatents(const v1::TrajectoryHeader& header) {
  const auto& latents = header.latent_of_step();
  return latents.empty() ? header.shape(1) + 1 : *latents.rbegin() + 2;
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
  batch.latent_of_step.assign(header.latent_of_step().begin(), header.latent_of_step().end());
  const int64_t b = header.shape(0), k = header.shape(1), p = header.part_names_size();
  batch.timesteps_BK = TakeValues<int64_t>(header.timesteps(), {b, k});
  batch.log_probs_BK = TakeValues<float>(header.log_probs(), {b, k});
  batch.rewards_B = TakeValues<double>(header.rewards(), {b});
  batch.parts_BP = TakeValues<double>(header.parts(), {b, p});
  batch.why_dropped.insert(header.why_dropped().begin(), header.why_dropped().end());
  for (const auto& picture : header.pictures()) {
    batch.pictures.push_back({picture.name(), picture.data()});
  }
  batch.sample_seconds = header.sample_seconds();
  batch.reward_seconds = header.reward_seconds();
  batch.wait_seconds = header.wait_seconds();
  return batch;
}

}  // namespace imageddpo
