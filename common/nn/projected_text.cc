#include "common/nn/projected_text.h"

#include <utility>

namespace imageddpo {
namespace {

/// A float32 leaf, whatever the dtype, because the gradients of many steps are summed in it.
at::Tensor Leaf(const at::Tensor& source) {
  return source.requires_grad() ? source.detach().to(at::kFloat).requires_grad_(true) : source;
}

void GoOn(const at::Tensor& source, const at::Tensor& leaf) {
  if (!source.requires_grad() || !leaf.grad().defined()) return;
  source.backward(leaf.grad().to(source.scalar_type()));
}

}  // namespace

KeysValues ProjectedText::operator[](size_t text_index) const {
  const KeysValues& layer = layers_.at(text_index);
  if (sources_.empty()) return layer;
  const KeysValues& source = sources_.at(text_index);
  return {layer.key_RSD.to(source.key_RSD.scalar_type()),
          layer.value_RSD.to(source.value_RSD.scalar_type())};
}

void ProjectedText::Cut() {
  sources_ = std::exchange(layers_, {});
  for (const KeysValues& source : sources_) {
    layers_.push_back({Leaf(source.key_RSD), Leaf(source.value_RSD)});
  }
}

void ProjectedText::Backward() {
  for (size_t i = 0; i < sources_.size(); ++i) {
    GoOn(sources_[i].key_RSD, layers_[i].key_RSD);
    GoOn(sources_[i].value_RSD, layers_[i].value_RSD);
  }
  sources_.clear();
  layers_.clear();
}

}  // namespace imageddpo
