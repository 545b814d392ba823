#pragma once

#include <string>

namespace imageddpo {

/// A new folder for intermediate files, removed with all that is in it.
class WorkFolder {
 public:
  WorkFolder();  ///< @throws std::runtime_error  the folder for temporary files is not writable.
  ~WorkFolder();
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace imageddpo
