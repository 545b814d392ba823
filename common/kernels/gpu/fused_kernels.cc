#include "common/kernels/gpu/fused_kernels.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <array>
#include <stdexcept>
#include <vector>

#include "common/kernels/gpu/sizes.cu.h"

namespace imageddpo {
namespace {

constexpr unsigned kThreads = 256;
constexpr int64_t kMostElements = int64_t{1} << 31;  // What a kernel's ints can count.

/// Chunks of a sample whose moments are computed apart: enough of them that a GPU is busy with one
/// sample, few enough that each block can merge them.
constexpr int64_t kMostChunks = 64;
constexpr int64_t kLeastPositions = 8;
constexpr int64_t kPositionsToApply = 64;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

const char* ByType(const at::Tensor& x, const char* float_name, const char* bfloat16_name) {
  return x.scalar_type() == at::kFloat ? float_name : bfloat16_name;
}

/// Threads that stand side by side on channels: as many as divide them, so that none idles.
unsigned ThreadsOn(int64_t channels) {
  constexpr int64_t kWarp = 32, kMostThreads = 512;
  for (int64_t threads = kMostThreads; threads >= kWarp; threads -= kWarp) {
    if (channels % threads == 0) return static_cast<unsigned>(threads);
  }
  return static_cast<unsigned>(std::min<int64_t>(kThreads, CeilDiv(channels, kWarp) * kWarp));
}

/// The arguments of one kernel, kept while it is launched.
template <typename... Arguments>
void LaunchWith(GpuLauncher& launcher, at::Device device, GpuLaunch launch,
                Arguments... arguments) {
  std::array<void*, sizeof...(Arguments)> addresses = {&arguments...};
  launch.arguments = addresses.data();
  launcher.Launch(device, launch);
}

const void* Read(const at::Tensor& tensor) { return tensor.const_data_ptr(); }
void* Write(const at::Tensor& tensor) { return tensor.mutable_data_ptr(); }

}  // namespace

bool FusedKernels::Takes(const at::Tensor& x) const {
  const at::ScalarType dtype = x.scalar_type();
  return (dtype == at::kFloat || dtype == at::kBFloat16) && x.numel() > 0 &&
         x.numel() < kMostElements && launcher_->Reaches(x.device());
}

bool FusedKernels::TakesGroupNorm(const at::Tensor& x_BCHW, int64_t groups) const {
  return x_BCHW.dim() == 4 && Takes(x_BCHW) && x_BCHW.size(1) <= kMostNormChannels &&
         groups <= kMostNormGroups && x_BCHW.size(1) % groups == 0;
}

bool FusedKernels::TakesGeglu(const at::Tensor& x) const {
  return Takes(x) && x.dim() > 0 && x.size(-1) % (2 * kPack) == 0 &&
         x.storage_offset() % kPack == 0;  // A pack is read at once.
}

bool FusedKernels::TakesLoraDown(const at::Tensor& x_NI) const {
  return x_NI.dim() == 2 && Takes(x_NI);
}

at::Tensor FusedKernels::GroupNorm(const at::Tensor& x_BCHW, const at::Tensor& weight_C,
                                   const at::Tensor& bias_C, int64_t groups, double eps,
                                   bool silu) const {
  const at::Tensor x = x_BCHW.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor weight = weight_C.contiguous(), bias = bias_C.contiguous();
  if (weight.scalar_type() != x.scalar_type() || bias.scalar_type() != x.scalar_type()) {
    throw std::invalid_argument("FusedKernels::GroupNorm: weight and bias are not of x's dtype");
  }
  const int64_t batch = x.size(0), channels = x.size(1), positions = x.size(2) * x.size(3);
  const int64_t chunk = std::max(kLeastPositions, CeilDiv(positions, kMostChunks));
  const int64_t chunks = CeilDiv(positions, chunk);
  const at::Tensor moments = at::empty({batch, chunks, groups, 2}, x.options().dtype(at::kFloat));
  const at::Tensor out = at::empty_like(x, at::MemoryFormat::ChannelsLast);
  const unsigned threads = ThreadsOn(channels);
  const int int_positions = static_cast<int>(positions), int_channels = static_cast<int>(channels),
            int_groups = static_cast<int>(groups), int_chunk = static_cast<int>(chunk);
  LaunchWith(*launcher_, x.device(),
             {.kernel = ByType(x, "group_moments_f32", "group_moments_bf16"),
              .blocks = {static_cast<unsigned>(chunks), static_cast<unsigned>(batch)},
              .threads = threads},
             Read(x), Write(moments), int_positions, int_channels, int_groups, int_chunk);
  const int64_t rows = std::min(chunk, kPositionsToApply);
  LaunchWith(
      *launcher_, x.device(),
      {.kernel = ByType(x, "group_apply_f32", "group_apply_bf16"),
       .blocks = {static_cast<unsigned>(CeilDiv(positions, rows)), static_cast<unsigned>(batch)},
       .threads = threads},
      Read(x), Read(moments), Read(weight), Read(bias), Write(out), int_positions, int_channels,
      int_groups, int_chunk, static_cast<int>(chunks), static_cast<int>(rows),
      static_cast<float>(eps), silu ? 1 : 0);
  return out;
}

at::Tensor FusedKernels::Geglu(const at::Tensor& x) const {
  const at::Tensor in = x.contiguous();
  std::vector<int64_t> shape = in.sizes().vec();
  const int64_t width = shape.back() / 2, rows = in.numel() / shape.back();
  shape.back() = width;
  const at::Tensor out = at::empty(shape, in.options());
  LaunchWith(*launcher_, in.device(),
             {.kernel = ByType(in, "geglu_f32", "geglu_bf16"),
              .blocks = {static_cast<unsigned>(rows), 1},
              .threads = static_cast<unsigned>(std::min<int64_t>(kThreads, width / kPack))},
             Read(in), Write(out), static_cast<int>(width));
  return out;
}

at::Tensor FusedKernels::LoraDown(const at::Tensor& x_NI, const at::Tensor& down_RI) const {
  const at::Tensor x = x_NI.contiguous(), down = down_RI.contiguous();
  if (down.scalar_type() != at::kFloat || down.size(1) != x.size(1)) {
    throw std::invalid_argument("FusedKernels::LoraDown: `down` is not float32 [R, I]");
  }
  const int64_t rows = x.size(0), outputs = down.size(0);
  const at::Tensor low = at::empty({rows, outputs}, x.options().dtype(at::kFloat));
  LaunchWith(*launcher_, x.device(),
             {.kernel = ByType(x, "lora_down_f32", "lora_down_bf16"),
              .blocks = {static_cast<unsigned>(CeilDiv(rows, kLowRows)),
                         static_cast<unsigned>(CeilDiv(outputs, kLowOutputs))},
              .threads = kLowThreads},
             Read(x), Read(down), Write(low), static_cast<int>(rows), static_cast<int>(x.size(1)),
             static_cast<int>(outputs));
  return low;
}

}  // namespace imageddpo
