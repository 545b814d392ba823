#include "common/nn/recompute.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <memory>
#include <utility>

namespace imageddpo {
namespace {

using torch::autograd::Node;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

/// The autograd node of a part. Its incoming gradients are those of (output, first_input).
class RecomputeNode : public Node {
 public:
  RecomputeNode(RecomputedPart part, const std::vector<at::Tensor>& inputs)
      : part_(std::move(part)) {
    for (const at::Tensor& input : inputs) inputs_.emplace_back(input, /*is_output=*/false);
    set_next_edges(torch::autograd::collect_next_edges(inputs));
  }

  std::string name() const override { return "RecomputeNode"; }

  void release_variables() override {
    for (SavedVariable& input : inputs_) input.reset_data();
  }

 protected:
  variable_list apply(variable_list&& gradients) override {
    variable_list inputs, found(inputs_.size());
    for (size_t i = 0; i < inputs_.size(); ++i) {
      at::Tensor input = inputs_[i].unpack().detach();
      if (task_should_compute_output(i)) {
        input.requires_grad_(true);
        // Not .grad(): it may be a copy in another memory layout, with which kernels round
        // differently.
        input.register_hook([&found, i](const at::Tensor& gradient) { found[i] = gradient; });
      }
      inputs.push_back(std::move(input));
    }
    variable_list roots, root_gradients;
    const auto add_root = [&](const at::Tensor& root, const at::Tensor& gradient) {
      if (!gradient.defined() || !root.requires_grad()) return;
      roots.push_back(root);
      root_gradients.push_back(gradient);
    };
    {
      const at::AutoGradMode with_graph(true);
      add_root(part_(inputs), gradients[0]);
      // The last root, so that the backward pass starts with it: without recomputation it reaches
      // the other users of an input before this part.
      add_root(inputs[0].alias(), gradients[1]);
    }
    gradients.clear();
    if (!roots.empty()) torch::autograd::backward(roots, root_gradients);
    return found;
  }

 private:
  RecomputedPart part_;
  std::vector<SavedVariable> inputs_;  // Until the backward pass has been here.
};

}  // namespace

Recomputed Recompute(RecomputedPart part, const std::vector<at::Tensor>& inputs) {
  Recomputed result;
  {
    const at::NoGradGuard no_grad;
    result = {.output = part(inputs), .first_input = inputs[0].detach()};
  }
  const std::shared_ptr<Node> node(new RecomputeNode(std::move(part), inputs),
                                   torch::autograd::deleteNode);
  torch::autograd::set_history(result.output, node);
  if (inputs[0].requires_grad()) {
    torch::autograd::set_history(result.first_input, node);
  } else {
    node->add_input_metadata(Node::undefined_input());
  }
  return result;
}

}  // namespace imageddpo
