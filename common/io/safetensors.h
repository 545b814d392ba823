#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/io/file_system.h"
#include "common/io/safetensors_header.h"

namespace imageddpo {

/// Tensors by name. A std::map, so that iteration order never depends on the process.
using TensorMap = std::map<std::string, at::Tensor>;

/// One safetensors file, mapped into memory. The whole header is validated by Open(), so Get() on a
/// name that Contains() cannot read outside the file. Immutable, safe to use from several threads.
///
/// The mapping is private and copy-on-write: a caller that writes to a returned tensor changes
/// neither the file nor other processes, but does change what later Get() calls of this object
/// return. Clone before an in-place operation. The file must not be truncated in place while it is
/// open (files that WriteSafetensors() replaces are safe).
class SafetensorsFile : public std::enable_shared_from_this<SafetensorsFile> {
 public:
  /// @return NOT_FOUND when there is no such file; INVALID_ARGUMENT, naming path and tensor, for
  /// anything wrong in it.
  static absl::StatusOr<std::shared_ptr<const SafetensorsFile>> Open(const std::string& path);

  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::vector<std::string>& names() const {
    return names_;
  }  ///< In the order of their data in the file.
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  bool Contains(const std::string& name) const { return index_.contains(name); }

  /// Contiguous CPU tensor of the file's dtype and shape. A view that keeps the mapping alive; an
  /// owning copy where the data are not aligned to their element size, and for BOOL. NOT_FOUND
  /// names the file and the tensor.
  absl::StatusOr<at::Tensor> Get(const std::string& name) const;

  /// Gives back the memory that a tensor's data take here; the next use reads the file again. For
  /// data that have been copied. Nothing where there is no such tensor. What a caller wrote through
  /// a view of it is lost.
  void Discard(const std::string& name) const;

  const std::string& path() const { return path_; }

 private:
  SafetensorsFile(std::string path, void* mapping, size_t mapping_bytes, SafetensorsHeader header);

  std::string path_;
  void* mapping_;
  size_t mapping_bytes_;
  SafetensorsHeader header_;
  std::vector<std::string> names_;
  std::map<std::string, size_t> index_;  // Name to position in header_.tensors.
};

/// Writes a file atomically (see WriteFileAtomically). Tensors may lie on any device and have any
/// strides; dtypes as in SafetensorsDtype. The bytes depend on nothing but the arguments.
absl::Status WriteSafetensors(const std::string& path, const TensorMap& tensors,
                              const std::map<std::string, std::string>& metadata = {});
absl::Status WriteSafetensors(FileSystem& file_system, const std::string& path,
                              const TensorMap& tensors,
                              const std::map<std::string, std::string>& metadata = {});

/// The same file as bytes. INVALID_ARGUMENT for a dtype the format lacks or a name that is not
/// UTF-8.
absl::StatusOr<std::string> SerializeSafetensors(
    const TensorMap& tensors, const std::map<std::string, std::string>& metadata = {});

/// Owning copies of all tensors in `bytes`; `name_for_errors` stands for the path in messages.
absl::StatusOr<TensorMap> ParseSafetensors(std::string_view bytes,
                                           std::string_view name_for_errors);

}  // namespace imageddpo
