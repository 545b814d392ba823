#include "common/kernels/narrow_attention.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <memory>
#include <tuple>
#include <vector>

#include "common/kernels/narrow_attention_kernel.h"
#include "common/kernels/threads.h"

namespace imageddpo {
namespace {

using torch::autograd::Node;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

NarrowRows RowsOf(const at::Tensor& x_BHNd, int64_t b, int64_t h) {
  return {x_BHNd.const_data_ptr<float>() + b * x_BHNd.stride(0) + h * x_BHNd.stride(1),
          x_BHNd.stride(2)};
}

NarrowGradientRows GradientRowsOf(const at::Tensor& x_BHNd, int64_t b, int64_t h) {
  return {x_BHNd.mutable_data_ptr<float>() + b * x_BHNd.stride(0) + h * x_BHNd.stride(1),
          x_BHNd.stride(2)};
}

/// Of the shape of x, laid out so that the heads of a position lie side by side.
at::Tensor EmptyLike(const at::Tensor& x_BHNd) {
  return at::empty({x_BHNd.size(0), x_BHNd.size(2), x_BHNd.size(1), x_BHNd.size(3)}, at::kFloat)
      .transpose(1, 2);
}

at::Tensor WithDenseRows(const at::Tensor& x_BHNd) {
  return x_BHNd.stride(3) == 1 ? x_BHNd : x_BHNd.contiguous();
}

class NarrowAttentionNode : public Node {
 public:
  NarrowAttentionNode(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v)
      : q_(q, /*is_output=*/false), k_(k, /*is_output=*/false), v_(v, /*is_output=*/false) {
    set_next_edges(torch::autograd::collect_next_edges(q, k, v));
  }
  /// After set_history().
  void SaveOutputs(const at::Tensor& out, const at::Tensor& log_sum) {
    out_ = SavedVariable(out, /*is_output=*/true);
    log_sum_ = log_sum;
  }

  std::string name() const override { return "NarrowAttentionNode"; }

  void release_variables() override {
    for (SavedVariable* saved : {&q_, &k_, &v_, &out_}) saved->reset_data();
    log_sum_.reset();
  }

 protected:
  variable_list apply(variable_list&& gradients) override {
    if (!gradients[0].defined()) return {{}, {}, {}};
    const at::NoGradGuard no_grad;
    const at::Tensor q = q_.unpack(), k = k_.unpack(), v = v_.unpack();
    const at::Tensor out = WithDenseRows(out_.unpack(shared_from_this()));
    const at::Tensor out_gradient = WithDenseRows(gradients[0]);
    const at::Tensor q_gradient = EmptyLike(q), k_gradient = EmptyLike(k),
                     v_gradient = EmptyLike(v);
    const int64_t heads = q.size(1);
    ParallelFor(q.size(0) * heads, [&](int64_t begin, int64_t end) {
      std::vector<float> scratch;
      for (int64_t i = begin; i < end; ++i) {
        const int64_t b = i / heads, h = i % heads;
        const NarrowHead head = {.queries = q.size(2),
                                 .keys = k.size(2),
                                 .query = RowsOf(q, b, h),
                                 .key = RowsOf(k, b, h),
                                 .value = RowsOf(v, b, h),
                                 .out = RowsOf(out, b, h),
                                 .out_gradient = RowsOf(out_gradient, b, h),
                                 .log_sum = log_sum_.const_data_ptr<float>() +
                                            b * log_sum_.stride(0) + h * log_sum_.stride(1),
                                 .log_sum_stride = log_sum_.stride(2),
                                 .query_gradient = GradientRowsOf(q_gradient, b, h),
                                 .key_gradient = GradientRowsOf(k_gradient, b, h),
                                 .value_gradient = GradientRowsOf(v_gradient, b, h)};
        NarrowHeadBackward(q.size(3), head, &scratch);
      }
    });
    return {q_gradient, k_gradient, v_gradient};
  }

 private:
  SavedVariable q_, k_, v_, out_;  // Until they are released after a backward pass.
  at::Tensor log_sum_;             // [B, H, L]
};

}  // namespace

bool IsNarrow(const at::Tensor& q_BHLd) {
  return q_BHLd.device().is_cpu() && q_BHLd.scalar_type() == at::kFloat &&
         IsNarrowWidth(q_BHLd.size(3));
}

at::Tensor NarrowAttention(const at::Tensor& q_BHLd, const at::Tensor& k_BHSd,
                           const at::Tensor& v_BHSd) {
  const at::Tensor q = WithDenseRows(q_BHLd), k = WithDenseRows(k_BHSd), v = WithDenseRows(v_BHSd);
  at::Tensor out, log_sum;
  {
    const at::NoGradGuard no_grad;
    std::tie(out, log_sum) = at::_scaled_dot_product_flash_attention_for_cpu(q, k, v);
  }
  if (at::GradMode::is_enabled() && (q.requires_grad() || k.requires_grad() || v.requires_grad())) {
    const std::shared_ptr<NarrowAttentionNode> node(new NarrowAttentionNode(q, k, v),
                                                    torch::autograd::deleteNode);
    torch::autograd::set_history(out, node);
    node->SaveOutputs(out, log_sum);
  }
  return out;
}

}  // namespace imageddpo
