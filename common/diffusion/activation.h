#pragma once

#include <ATen/core/Tensor.h>

#include "common/diffusion/activation_kind.h"

namespace imageddpo {

at::Tensor Activate(Activation act, const at::Tensor& x);

}  // namespace imageddpo
