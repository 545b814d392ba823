#include "common/kernels/input_gradient.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <memory>
#include <utility>

namespace imageddpo {
namespace {

using torch::autograd::Node;
using torch::autograd::variable_list;

class InputGradientNode : public Node {
 public:
  InputGradientNode(const at::Tensor& x, std::function<at::Tensor(const at::Tensor&)> gradient)
      : gradient_(std::move(gradient)) {
    set_next_edges(torch::autograd::collect_next_edges(x));
  }

  std::string name() const override { return "InputGradientNode"; }

 protected:
  variable_list apply(variable_list&& gradients) override {
    if (!gradients[0].defined()) return {{}};
    const at::NoGradGuard no_grad;
    return {gradient_(gradients[0])};
  }

 private:
  std::function<at::Tensor(const at::Tensor&)> gradient_;
};

}  // namespace

at::Tensor WithInputGradient(const at::Tensor& x, at::Tensor y,
                             std::function<at::Tensor(const at::Tensor&)> input_gradient) {
  if (at::GradMode::is_enabled() && x.requires_grad()) {
    const std::shared_ptr<InputGradientNode> node(
        new InputGradientNode(x, std::move(input_gradient)), torch::autograd::deleteNode);
    torch::autograd::set_history(y, node);
  }
  return y;
}

}  // namespace imageddpo
