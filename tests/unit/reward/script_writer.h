#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

namespace imageddpo {

/// Writes a TorchScript file whose forward() has this source ("def forward(self, x): …"), with
/// `extra_files` inside. libtorch compiles it, so a test can show what it scores with.
/// @param weight  the module's parameter `weight`, if it is defined.
/// @throws what libtorch throws at a source that is not TorchScript.
void WriteScript(const std::string& path, const std::string& source,
                 const std::map<std::string, std::string>& extra_files = {},
                 const at::Tensor& weight = {});

}  // namespace imageddpo
