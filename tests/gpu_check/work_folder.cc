#include "tests/gpu_check/work_folder.h"

#include <stdlib.h>  // mkdtemp

#include <filesystem>
#include <stdexcept>

namespace imageddpo {

WorkFolder::WorkFolder()
    : path_((std::filesystem::temp_directory_path() / "gpu-check-XXXXXX").string()) {
  if (::mkdtemp(path_.data()) == nullptr) {
    throw std::runtime_error("cannot make a folder " + path_ + "; set TMPDIR to a writable one");
  }
}

WorkFolder::~WorkFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace imageddpo
