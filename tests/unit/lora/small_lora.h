#pragma once

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "common/lora/lora.h"

// A LoRA of four small layers.
namespace imageddpo {

inline const std::vector<LinearInfo>& Linears() {
  static const std::vector<LinearInfo> linears = {
      {"down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0", 6, 5},
      {"down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", 6, 6},
      {"down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2", 8, 6},
      {"mid_block.attentions.0.transformer_blocks.0.attn2.to_k", 3, 4}};
  return linears;
}

inline at::Tensor Normal(const std::string& path, at::IntArrayRef shape) {
  at::Generator generator = at::detail::createCPUGenerator(std::hash<std::string>()(path));
  return at::randn(shape, generator);
}

inline Lora MakeLora(int64_t rank = 2, double alpha = 2.0) {
  LoraConfig config = {
      .rank = rank, .alpha = alpha, .target_modules = {"to_q", "to_k", "to_out.0"}};
  absl::StatusOr<Lora> lora = Lora::Create(Linears(), config, Normal);
  EXPECT_TRUE(lora.ok()) << lora.status();
  const at::NoGradGuard no_grad;
  for (const at::Tensor& parameter : lora->Parameters())
    parameter.copy_(at::randn(parameter.sizes()));
  return *lora;
}

inline Lora Must(const absl::StatusOr<Lora>& lora) {
  EXPECT_TRUE(lora.ok()) << lora.status();
  return lora.ok() ? *lora : Lora();
}

inline absl::StatusOr<Lora> FromTensors(const TensorMap& tensors) {
  return Lora::FromTensors(tensors, {}, "file.safetensors", Linears());
}

inline void ExpectSame(const Lora& a, const Lora& b) {
  EXPECT_EQ(a.Hash(), b.Hash());
  EXPECT_EQ(a.ParameterNames(), b.ParameterNames());
  EXPECT_TRUE(at::equal(a.Flatten(), b.Flatten()));
}

}  // namespace imageddpo
