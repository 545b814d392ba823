/// How fast records and weights cross between two real processes, against plain MPI_Send in the
/// same run. Started by stream.sh on two ranks: rank 0 is the rollout rank of the first part and
/// the leader of the second, rank 1 the other end. Writes JSON with median, least and greatest.
///
/// stream_bench OUTPUT.json [UNET_DIR]
///   Part 1, always: trajectory records of Stable Diffusion 1.5's size at 512 px (B samples, K = 20
///   steps, latents 4×64×64) through TrajectorySender and TrajectoryInbox.
///   Part 2, with UNET_DIR (a UNet of that size, see sd15_unet.py): publication of its LoRA, and
///   one UNet step forward and forward + backward at 256 px, from which the share of an epoch
///   follows.

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "common/comm/meeting.h"
#include "common/comm/mpi/gang.h"
#include "common/comm/mpi/mpi_messenger.h"
#include "common/comm/mpi/mpi_runtime.h"
#include "common/lora/lora.h"
#include "common/sd/unet.h"
#include "common/trajectory/publish/weight_publisher.h"
#include "common/trajectory/record/trajectory_inbox.h"
#include "common/trajectory/record/trajectory_wire.h"

namespace imageddpo {
namespace {

constexpr std::chrono::seconds kTimeout{60};
constexpr int64_t kSteps = 20;
constexpr int kRounds = 7;
constexpr int kBytesPerRound = 256 << 20;
constexpr int kPlainTag = 1;

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

nlohmann::ordered_json Summary(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return {{"median", values[values.size() / 2]},
          {"min", values.front()},
          {"max", values.back()},
          {"rounds", values.size()}};
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

TrajectoryBatch MakeRecord(int64_t batch_size, int64_t side) {
  TrajectoryBatch batch;
  batch.job_id = "job-1";
  for (int64_t i = 0; i < batch_size; ++i) {
    batch.image_ids.push_back("image-" + std::to_string(i));
    batch.prompts.emplace_back("a photo of a dog on a beach");
    batch.keys.prompt_hashes.push_back(7);
    batch.keys.same_tokens.push_back(false);
  }
  batch.latents = at::randn({batch_size, kSteps + 1, 4, side, side});
  batch.timesteps_BK = at::full({batch_size, kSteps}, 500, at::kLong);
  batch.log_probs_BK = at::randn({batch_size, kSteps});
  batch.rewards_B = at::zeros({batch_size}, at::kDouble);
  batch.part_names = {"classifier.value", "classifier.correct"};
  batch.parts_BP = at::zeros({batch_size, 2}, at::kDouble);
  return batch;
}

/// Both ends of one measurement of `count` records; the receiver's seconds are returned on rank 1.
class Ends {
 public:
  explicit Ends(Communicator* gang) : gang_(gang) {}

  bool receives() const { return gang_->rank() == 1; }

  /// Blocking MPI calls on the processes' own threads.
  double Plain(int count, const std::vector<at::Tensor>& buffers) {
    Meet();
    const double start = Now();
    for (int i = 0; i < count; ++i) {
      const at::Tensor& buffer = buffers[static_cast<size_t>(i) % buffers.size()];
      const auto size = static_cast<int>(buffer.nbytes());
      if (receives()) {
        MPI_Recv(buffer.mutable_data_ptr(), size, MPI_BYTE, 0, kPlainTag, MPI_COMM_WORLD,
                 MPI_STATUS_IGNORE);
      } else {
        MPI_Send(buffer.const_data_ptr(), size, MPI_BYTE, 1, kPlainTag, MPI_COMM_WORLD);
      }
    }
    return Now() - start;
  }

  double Stream(int count, TrajectoryBatch record) {
    if (!receives()) {
      TrajectorySender sender(gang_, 1);
      Meet();
      const double start = Now();
      for (int i = 0; i < count; ++i) {
        record.micro_batch = i;
        sender.Send(record, {}, kTimeout);
      }
      sender.Flush(kTimeout);
      return Now() - start;
    }
    TrajectoryInbox inbox(gang_, {0});
    std::vector<ExpectedRecord> expected;
    for (int i = 0; i < count; ++i) {
      expected.push_back({.job_id = "job-1", .micro_batch = i, .batch_size = record.batch_size()});
    }
    // As a trainer does: epochs of 16 records are taken and dropped.
    for (size_t i = 0; i < expected.size(); i += 16) {
      inbox.Expect({expected.begin() + static_cast<int64_t>(i),
                    expected.begin() + static_cast<int64_t>(std::min(i + 16, expected.size()))});
    }
    Meet();
    const double start = Now();
    for (size_t i = 0; i < expected.size(); i += 16) {
      const auto taken = inbox.TakeEpoch(kTimeout, [] { return false; });
      if (!taken.ok()) throw std::runtime_error(taken.status().ToString());
    }
    return Now() - start;
  }

  void Meet() { (void)MeetGang(*gang_, "bench", kTimeout); }

 private:
  Communicator* gang_;
};

nlohmann::ordered_json Bandwidth(Ends& ends, int64_t batch_size) {
  const TrajectoryBatch record = MakeRecord(batch_size, 64);
  const auto size_bytes = static_cast<int>(record.latents.nbytes());
  const int count = kBytesPerRound / size_bytes;
  std::vector<at::Tensor> buffers;
  for (int i = 0; i < 4; ++i) buffers.push_back(at::ones(record.latents.sizes()));
  std::vector<double> plain, stream, ratio;
  for (int round = 0; round < kRounds + 1; ++round) {
    const double plain_s = ends.Plain(count, buffers), stream_s = ends.Stream(count, record);
    if (round == 0) continue;  // Warms up memory and the transport.
    const double megabytes = static_cast<double>(size_bytes) * count / 1e6;
    plain.push_back(megabytes / plain_s);
    stream.push_back(megabytes / stream_s);
    ratio.push_back(plain_s / stream_s);
  }
  return {{"batch_size", batch_size},
          {"record_bytes", size_bytes},
          {"records", count},
          {"mpi_send_mb_per_s", Summary(plain)},
          {"stream_mb_per_s", Summary(stream)},
          {"ratio", Summary(ratio)}};
}

/// Paths and sizes of the layers that get a LoRA, as text, so that the leader needs no UNet.
std::string Pack(const std::vector<LinearInfo>& linears) {
  nlohmann::json rows = nlohmann::json::array();
  for (const auto& linear : linears) {
    rows.push_back({linear.path, linear.in_features, linear.out_features});
  }
  return rows.dump();
}

std::vector<LinearInfo> Unpack(const std::string& text) {
  std::vector<LinearInfo> linears;
  for (const auto& row : nlohmann::json::parse(text)) {
    LinearInfo info;
    info.path = row[0];
    info.in_features = row[1];
    info.out_features = row[2];
    linears.push_back(info);
  }
  return linears;
}

/// Rank 1's part is the measuring: it has the UNet.
nlohmann::ordered_json EpochShare(Communicator* gang, Ends& ends, const std::string& unet_dir,
                                  double stream_mb_per_s) {
  constexpr int kLinearsTag = 50;
  const auto normal = [](const std::string& /*path*/, at::IntArrayRef shape) {
    return at::randn(shape);
  };
  std::unique_ptr<Unet> unet;
  std::vector<LinearInfo> linears;
  if (ends.receives()) {
    auto loaded = Unet::Load(unet_dir, {});
    if (!loaded.ok()) throw std::runtime_error(loaded.status().ToString());
    unet = *std::move(loaded);
    linears = unet->linears();
    gang->SendBytes(Pack(linears), 0, kLinearsTag);
  } else {
    linears = Unpack(gang->RecvBytes(1, kLinearsTag, std::chrono::minutes(10)));
  }
  auto lora = Lora::Create(linears, LoraConfig(), normal);
  if (!lora.ok()) throw std::runtime_error(lora.status().ToString());

  std::vector<double> publish_s;
  for (int version = 0; version < kRounds; ++version) {
    ends.Meet();
    const double start = Now();
    absl::Status status;
    if (ends.receives()) {
      status = WeightReceiver(gang, 0, {1}).Receive(version, &*lora, unet.get(), kTimeout);
    } else {
      WeightPublisher publisher(gang, {1});
      publisher.Announce(*lora, version, lora->Hash());
      status = publisher.CheckReceipts(kTimeout);
    }
    if (!status.ok()) throw std::runtime_error(status.ToString());
    publish_s.push_back(Now() - start);
  }
  // The leader's time is the one that counts; it goes to rank 1, which writes the report.
  const at::Tensor seconds = at::full({1}, Median(publish_s), at::kDouble);
  if (!ends.receives()) {
    gang->Send(seconds, 1, kLinearsTag)->Wait(kTimeout);
    return {};
  }
  gang->Recv(seconds, 0, kLinearsTag)->Wait(kTimeout);

  // One sample at 256 px, all cores: the fewer seconds of computation, the larger the share.
  at::set_num_threads(static_cast<int>(std::thread::hardware_concurrency()));
  const at::Tensor latents = at::randn({1, 4, 32, 32}), timesteps = at::full({1}, 500, at::kLong);
  const at::Tensor context = at::randn({1, 77, unet->config().cross_attention_dim});
  const auto best_of = [](int times, const std::function<void()>& call) {
    double best = 1e9;
    for (int i = 0; i < times; ++i) {
      const double start = Now();
      call();
      best = std::min(best, Now() - start);
    }
    return best;
  };
  const double forward_s = best_of(3, [&] {
    const at::NoGradGuard no_grad;
    (void)unet->Forward(latents, timesteps, context);
  });
  const double both_s =
      best_of(2, [&] { unet->Forward(latents, timesteps, context).sum().backward(); });

  constexpr int64_t kSamples = 32;  // A small epoch: publication is paid once in it.
  const double record_mb = static_cast<double>(4 * (kSteps + 1) * 4 * 32 * 32) / 1e6;
  const double epoch_s = kSamples * kSteps * (forward_s + both_s);
  const double stream_s = kSamples * record_mb / stream_mb_per_s;
  return {{"pixels", 256},
          {"samples", kSamples},
          {"steps", kSteps},
          {"lora_parameters", lora->num_parameters()},
          {"unet_forward_s", forward_s},
          {"unet_forward_backward_s", both_s},
          {"epoch_s", epoch_s},
          {"stream_s", stream_s},
          {"publish_s", seconds.item<double>()},
          {"publish_share", seconds.item<double>() / epoch_s},
          {"stream_and_publish_share", (stream_s + seconds.item<double>()) / epoch_s}};
}

int Main(int argc, char** argv) {
  auto runtime = MpiRuntime::Start(&argc, &argv);
  if (!runtime.ok() || (*runtime)->world_size() != 2 || argc < 2) {
    std::cerr << "stream_bench OUTPUT.json [UNET_DIR], on two ranks\n";
    return 2;
  }
  int result = 0;
  {
    MpiMessenger messenger(**runtime, {});
    auto gang = OpenGang(messenger, {0, 1}, "bench", at::kCPU);
    if (!gang.ok() || !MeetGang(**gang, "bench", kTimeout).ok()) return 2;
    try {
      Ends ends(gang->get());
      nlohmann::ordered_json report;
      report["bandwidth"] = nlohmann::json::array();
      for (const int64_t batch_size : {1, 2, 4}) {
        report["bandwidth"].push_back(Bandwidth(ends, batch_size));
      }
      if (argc > 2) {
        const double speed = report["bandwidth"][0]["stream_mb_per_s"]["median"];
        report["epoch_share"] = EpochShare(gang->get(), ends, argv[2], speed);
      }
      if (ends.receives()) std::ofstream(argv[1]) << report.dump(1) << '\n';
      ends.Meet();
    } catch (const std::exception& error) {
      std::cerr << "stream_bench: " << error.what() << '\n';
      (*gang)->Abort(error.what());
      result = 1;
    }
    messenger.Leave("the end of the benchmark", std::chrono::seconds(5));
  }
  (*runtime)->Finish(result);
  return result;
}

}  // namespace
}  // namespace imageddpo

int main(int argc, char** argv) { return imageddpo::Main(argc, argv); }
