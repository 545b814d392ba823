#pragma once

#include <ATen/core/Tensor.h>

#include "common/model_config/activation_kind.h"

namespace imageddpo {

at::Tensor Activate(Activation act, const at::Tensor& x);

}  // namespace imageddpo
