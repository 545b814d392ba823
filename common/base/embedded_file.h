#pragma once

#include <string_view>

namespace imageddpo {

/// A file of the tree, as it was when the program was built: see cmake/Embed.cmake.
struct EmbeddedFile {
  std::string_view name;  ///< "app.js"
  std::string_view bytes;
  std::string_view hash;  ///< Of the bytes.
};

}  // namespace imageddpo
