#include "common/io/safetensors.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/io/file.h"

namespace imageddpo {
namespace {

at::ScalarType ScalarTypeOf(SafetensorsDtype dtype) {
  switch (dtype) {
    case SafetensorsDtype::kF64:
      return at::kDouble;
    case SafetensorsDtype::kF32:
      return at::kFloat;
    case SafetensorsDtype::kF16:
      return at::kHalf;
    case SafetensorsDtype::kBF16:
      return at::kBFloat16;
    case SafetensorsDtype::kI64:
      return at::kLong;
    case SafetensorsDtype::kI32:
      return at::kInt;
    case SafetensorsDtype::kI16:
      return at::kShort;
    case SafetensorsDtype::kI8:
      return at::kChar;
    case SafetensorsDtype::kU8:
      return at::kByte;
    case SafetensorsDtype::kBool:
      return at::kBool;
  }
  return at::kFloat;
}

std::optional<SafetensorsDtype> DtypeOf(at::ScalarType type) {
  switch (type) {
    case at::kDouble:
      return SafetensorsDtype::kF64;
    case at::kFloat:
      return SafetensorsDtype::kF32;
    case at::kHalf:
      return SafetensorsDtype::kF16;
    case at::kBFloat16:
      return SafetensorsDtype::kBF16;
    case at::kLong:
      return SafetensorsDtype::kI64;
    case at::kInt:
      return SafetensorsDtype::kI32;
    case at::kShort:
      return SafetensorsDtype::kI16;
    case at::kChar:
      return SafetensorsDtype::kI8;
    case at::kByte:
      return SafetensorsDtype::kU8;
    case at::kBool:
      return SafetensorsDtype::kBool;
    default:
      return std::nullopt;
  }
}

at::Tensor CopyOf(const SafetensorsEntry& entry, const char* data) {
  at::Tensor tensor = at::empty(entry.shape, at::TensorOptions().dtype(ScalarTypeOf(entry.dtype)));
  if (entry.size_bytes == 0) return tensor;
  if (entry.dtype ==
      SafetensorsDtype::kBool) {  // A bool with another value than 0 or 1 is undefined behaviour.
    bool* flags = static_cast<bool*>(tensor.data_ptr());
    std::transform(data, data + entry.size_bytes, flags, [](char byte) { return byte != 0; });
  } else {
    std::memcpy(tensor.data_ptr(), data, entry.size_bytes);
  }
  return tensor;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const SafetensorsFile>> SafetensorsFile::Open(
    const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open '", path, "'"));
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size == 0) {
    ::close(fd);
    return absl::InvalidArgumentError(
        absl::StrCat("'", path, "' is not a valid safetensors file: it is ",
                     S_ISREG(info.st_mode) ? "empty" : "not a regular file"));
  }
  const size_t size = static_cast<size_t>(info.st_size);
  // Private and writable: a stray in-place operation on a view copies the page instead of ending
  // the process.
  void* mapping = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
  const int map_errno = errno;
  ::close(fd);
  if (mapping == MAP_FAILED)
    return absl::ErrnoToStatus(map_errno, absl::StrCat("cannot map '", path, "'"));

  absl::StatusOr<SafetensorsHeader> header =
      ParseSafetensorsHeader(std::string_view(static_cast<const char*>(mapping), size), path);
  if (!header.ok()) {
    ::munmap(mapping, size);
    return header.status();
  }
  return std::shared_ptr<const SafetensorsFile>(
      new SafetensorsFile(path, mapping, size, *std::move(header)));
}

SafetensorsFile::SafetensorsFile(std::string path, void* mapping, size_t mapping_bytes,
                                 SafetensorsHeader header)
    : path_(std::move(path)),
      mapping_(mapping),
      mapping_bytes_(mapping_bytes),
      header_(std::move(header)) {
  for (const SafetensorsEntry& entry : header_.tensors) {
    index_.emplace(entry.name, names_.size());
    names_.push_back(entry.name);
  }
}

SafetensorsFile::~SafetensorsFile() { ::munmap(mapping_, mapping_bytes_); }

absl::StatusOr<at::Tensor> SafetensorsFile::Get(const std::string& name) const {
  const auto found = index_.find(name);
  if (found == index_.end())
    return absl::NotFoundError(absl::StrCat("'", path_, "' has no tensor '", name, "'"));
  const SafetensorsEntry& entry = header_.tensors[found->second];
  char* data = static_cast<char*>(mapping_) + entry.begin;
  const bool aligned = reinterpret_cast<uintptr_t>(data) % ElementSizeBytes(entry.dtype) == 0;
  if (!aligned || entry.size_bytes == 0 || entry.dtype == SafetensorsDtype::kBool)
    return CopyOf(entry, data);
  return at::from_blob(
      data, entry.shape, [mapping = shared_from_this()](void*) {},
      at::TensorOptions().dtype(ScalarTypeOf(entry.dtype)));
}

void SafetensorsFile::Discard(const std::string& name) const {
  const auto found = index_.find(name);
  if (found == index_.end()) return;
  const SafetensorsEntry& entry = header_.tensors[found->second];
  // Whole pages only: the ones at the ends are shared with neighbours.
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t begin = (entry.begin + page - 1) / page * page;
  const size_t end = (entry.begin + entry.size_bytes) / page * page;
  if (begin >= end) return;
  ::madvise(static_cast<char*>(mapping_) + begin, end - begin, MADV_DONTNEED);  // Advice: may fail.
}

absl::StatusOr<std::string> SerializeSafetensors(
    const TensorMap& tensors, const std::map<std::string, std::string>& metadata) {
  SafetensorsHeader header;
  header.metadata = metadata;
  for (const auto& [name, tensor] : tensors) {
    if (!tensor.defined())
      return absl::InvalidArgumentError(absl::StrCat("tensor '", name, "' is undefined"));
    const std::optional<SafetensorsDtype> dtype = DtypeOf(tensor.scalar_type());
    if (!dtype) {
      return absl::InvalidArgumentError(absl::StrCat("tensor '", name,
                                                     "': safetensors files cannot hold the dtype ",
                                                     at::toString(tensor.scalar_type())));
    }
    header.tensors.push_back({name, *dtype, tensor.sizes().vec(), 0, tensor.nbytes()});
  }
  // Wide elements first: so every tensor is aligned to its element size without gaps. By name
  // within a size, as the map.
  std::stable_sort(header.tensors.begin(), header.tensors.end(),
                   [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
                     return ElementSizeBytes(a.dtype) > ElementSizeBytes(b.dtype);
                   });

  IMAGEDDPO_ASSIGN_OR_RETURN(std::string bytes, FormatSafetensorsHeader(header));
  size_t size = bytes.size();
  for (const SafetensorsEntry& entry : header.tensors) size += entry.size_bytes;
  bytes.reserve(size);
  for (const SafetensorsEntry& entry : header.tensors) {
    const at::Tensor contiguous = tensors.at(entry.name).detach().to(at::kCPU).contiguous();
    bytes.append(static_cast<const char*>(contiguous.const_data_ptr()), entry.size_bytes);
  }
  return bytes;
}

absl::Status WriteSafetensors(const std::string& path, const TensorMap& tensors,
                              const std::map<std::string, std::string>& metadata) {
  PosixFileSystem file_system;
  return WriteSafetensors(file_system, path, tensors, metadata);
}

absl::Status WriteSafetensors(FileSystem& file_system, const std::string& path,
                              const TensorMap& tensors,
                              const std::map<std::string, std::string>& metadata) {
  const absl::StatusOr<std::string> bytes = SerializeSafetensors(tensors, metadata);
  if (!bytes.ok()) return Annotate(bytes.status(), absl::StrCat("cannot write '", path, "'"));
  return WriteFileAtomically(file_system, path, *bytes);
}

absl::StatusOr<TensorMap> ParseSafetensors(std::string_view bytes,
                                           std::string_view name_for_errors) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const SafetensorsHeader header,
                             ParseSafetensorsHeader(bytes, name_for_errors));
  TensorMap tensors;
  for (const SafetensorsEntry& entry : header.tensors) {
    tensors.emplace(entry.name, CopyOf(entry, bytes.data() + entry.begin));
  }
  return tensors;
}

}  // namespace imageddpo
