#pragma once

#include <string_view>

namespace imageddpo {

/// Whether a file with this name is taken for an image where no metadata names the images: by its
/// extension, in any case. What it is in fact is told by its content.
bool HasImageExtension(std::string_view name);

}  // namespace imageddpo
