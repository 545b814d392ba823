#include "rollout/data/listing/npy.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "rollout/data/listing/folder_names.h"

namespace imageddpo {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kMaxHeaderBytes = 1 << 16;
constexpr int64_t kMaxRows = 100'000'000;
constexpr int64_t kSeverities = 5;

absl::Status Refuse(const std::string& path, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("'", ValidText(path), "' ", what));
}

/// A file that is read at positions, closed at the end.
class PositionedFile {
 public:
  static absl::StatusOr<PositionedFile> Open(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot open '", ValidText(path), "'"));
    }
    return PositionedFile(fd, path);
  }
  PositionedFile(PositionedFile&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)) {}
  PositionedFile& operator=(PositionedFile&&) = delete;
  ~PositionedFile() {
    if (fd_ >= 0) ::close(fd_);
  }

  int64_t Size() const {
    struct stat info {};
    return ::fstat(fd_, &info) == 0 ? info.st_size : 0;
  }

  /// Up to `size` bytes from `begin`; fewer at the end of the file.
  absl::StatusOr<std::string> Read(int64_t begin, size_t size) const {
    std::string bytes(size, '\0');
    size_t done = 0;
    while (done < size) {
      const ssize_t got =
          ::pread(fd_, bytes.data() + done, size - done, begin + static_cast<int64_t>(done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) {
        return absl::ErrnoToStatus(errno, absl::StrCat("cannot read '", ValidText(path_), "'"));
      }
      if (got == 0) break;
      done += static_cast<size_t>(got);
    }
    bytes.resize(done);
    return bytes;
  }

 private:
  PositionedFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  int fd_;
  std::string path_;
};

/// The value of a key of the head, a Python dict: up to `end`, blanks taken away.
std::string_view ValueOf(std::string_view dict, std::string_view key, std::string_view end) {
  const size_t at = dict.find(key);
  if (at == std::string_view::npos) return {};
  std::string_view rest = dict.substr(at + key.size());
  const size_t colon = rest.find_first_not_of(" :");
  if (colon == std::string_view::npos) return {};
  rest = rest.substr(colon);
  return rest.substr(0, rest.find(end, 1));
}

int64_t ItemBytes(const std::string& dtype) {
  int64_t bytes = 0;
  return dtype.size() > 2 && absl::SimpleAtoi(dtype.substr(2), &bytes) && bytes > 0 ? bytes : -1;
}

absl::StatusOr<NpyHeader> ReadHeader(const PositionedFile& file, const std::string& path) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string head, file.Read(0, kMaxHeaderBytes));
  constexpr size_t kShortHead = 10;
  if (head.size() < kShortHead || head.substr(0, kMagic.size()) != kMagic) {
    return Refuse(path, "is no NumPy array file (.npy)");
  }
  const auto byte = [&head](size_t i) { return static_cast<unsigned char>(head[i]); };
  size_t size = byte(8) | byte(9) << 8, begin = kShortHead;
  if (byte(6) >= 2 && head.size() >= 12) {
    size |= static_cast<size_t>(byte(10)) << 16 | static_cast<size_t>(byte(11)) << 24;
    begin = 12;
  }
  if (byte(6) > 3 || size > head.size() - begin) {
    return Refuse(path, "has a NumPy head that cannot be read");
  }
  const std::string_view dict = std::string_view(head).substr(begin, size);
  NpyHeader header{.data_begin = static_cast<int64_t>(begin + size)};
  const std::string_view dtype = ValueOf(dict, "'descr'", "'");
  if (!dtype.empty() && dtype.front() == '\'') header.dtype = std::string(dtype.substr(1));
  if (ValueOf(dict, "'fortran_order'", ",").substr(0, 4) == "True") {
    return Refuse(path, "is in Fortran order; save numpy.ascontiguousarray() of it");
  }
  const std::string_view shape = ValueOf(dict, "'shape'", ")");
  const int64_t item = ItemBytes(header.dtype);
  if (shape.empty() || shape.front() != '(' || item < 0) {
    return Refuse(path, "has a NumPy head that cannot be read; it must be one array of numbers");
  }
  int64_t bytes = item;
  for (const absl::string_view text : absl::StrSplit(
           absl::string_view(shape.data() + 1, shape.size() - 1), ',', absl::SkipWhitespace())) {
    int64_t extent = 0;
    if (!absl::SimpleAtoi(text, &extent) || extent < 0 ||
        __builtin_mul_overflow(bytes, extent, &bytes)) {
      return Refuse(path, "has a shape that cannot be read");
    }
    header.shape.push_back(extent);
  }
  if (file.Size() - header.data_begin < bytes) {
    return Refuse(path, absl::StrCat("is cut off: its shape needs ", bytes, " bytes, and it has ",
                                     file.Size() - header.data_begin));
  }
  return header;
}

absl::StatusOr<NpyHeader> PicturesOf(const PositionedFile& file, const std::string& path) {
  IMAGEDDPO_ASSIGN_OR_RETURN(NpyHeader header, ReadHeader(file, path));
  const auto& shape = header.shape;
  const bool is_pictures = shape.size() == 4 && shape[3] == 3 && header.dtype == "|u1" &&
                           shape[0] <= kMaxRows && shape[1] >= 1 && shape[1] <= kMaxImageSide &&
                           shape[2] >= 1 && shape[2] <= kMaxImageSide;
  if (is_pictures) return header;
  return Refuse(path, absl::StrCat("holds ", header.dtype, " [", absl::StrJoin(shape, ","),
                                   "]; pictures are 8-bit RGB, uint8 [N,H,W,3]"));
}

/// The values of labels.npy.
absl::StatusOr<std::vector<int64_t>> ReadLabels(const std::string& path) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const PositionedFile file, PositionedFile::Open(path));
  IMAGEDDPO_ASSIGN_OR_RETURN(const NpyHeader header, ReadHeader(file, path));
  const int64_t item = ItemBytes(header.dtype);
  const char order = header.dtype[0], kind = header.dtype[1];
  if (header.shape.size() != 1 || (kind != 'i' && kind != 'u') || item > 8 ||
      (order != '<' && order != '|') || header.shape[0] > kMaxRows) {
    return Refuse(path, absl::StrCat("holds ", header.dtype, " [", absl::StrJoin(header.shape, ","),
                                     "]; labels are whole numbers [N]"));
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(
      const std::string bytes,
      file.Read(header.data_begin, static_cast<size_t>(item * header.shape[0])));
  std::vector<int64_t> labels(static_cast<size_t>(header.shape[0]));
  for (size_t i = 0; i < labels.size(); ++i) {
    const char* value = bytes.data() + i * static_cast<size_t>(item);
    const bool is_negative = kind == 'i' && (value[item - 1] & 0x80) != 0;
    labels[i] = is_negative ? -1 : 0;
    std::memcpy(&labels[i], value, static_cast<size_t>(item));  // Little-endian, as this machine.
  }
  return labels;
}

}  // namespace

absl::StatusOr<NpyHeader> ReadNpyHeader(const std::string& path) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const PositionedFile file, PositionedFile::Open(path));
  return ReadHeader(file, path);
}

absl::StatusOr<Image> ReadNpyImage(const std::string& path, int64_t row) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const PositionedFile file, PositionedFile::Open(path));
  IMAGEDDPO_ASSIGN_OR_RETURN(const NpyHeader header, PicturesOf(file, path));
  if (row < 0 || row >= header.shape[0]) {
    return Refuse(path, absl::StrCat("has no picture ", row, ", it has ", header.shape[0]));
  }
  const int64_t bytes = header.shape[1] * header.shape[2] * header.shape[3];
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string pixels, file.Read(header.data_begin + row * bytes,
                                                                 static_cast<size_t>(bytes)));
  if (static_cast<int64_t>(pixels.size()) != bytes) return Refuse(path, "was cut off meanwhile");
  return Image{.width = static_cast<int>(header.shape[2]),
               .height = static_cast<int>(header.shape[1]),
               .rgb = {pixels.begin(), pixels.end()}};
}

absl::StatusOr<Listing> ListNpy(const std::string& path, int severity) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const PositionedFile file, PositionedFile::Open(path));
  IMAGEDDPO_ASSIGN_OR_RETURN(const NpyHeader header, PicturesOf(file, path));
  const int64_t rows = header.shape[0];
  if (rows == 0) return Refuse(path, "holds no picture");
  if (severity != 0 && rows % kSeverities != 0) {
    return Refuse(path, absl::StrCat("holds ", rows,
                                     " pictures, which are not five severities of "
                                     "equal number; leave `data.severity` out to use all of them"));
  }
  const std::filesystem::path whole(path);
  const std::string folder = whole.parent_path().string();
  Listing listing{.path = path, .examples = ExampleTable(folder)};

  const std::string labels_path = absl::StrCat(folder, "/labels.npy");
  std::vector<int64_t> labels;
  std::error_code error;
  if (std::filesystem::exists(labels_path, error)) {
    IMAGEDDPO_ASSIGN_OR_RETURN(labels, ReadLabels(labels_path));
    if (static_cast<int64_t>(labels.size()) != rows) {
      return Refuse(labels_path, absl::StrCat("has ", labels.size(), " labels for the ", rows,
                                              " pictures of '", ValidText(path), "'"));
    }
  } else {
    listing.warnings.push_back(absl::StrCat("there is no labels.npy beside '", ValidText(path),
                                            "', so its pictures have no labels"));
  }
  const std::string corruption = whole.stem().string();
  const bool has_severities = IsCorruptionName(corruption) && rows % kSeverities == 0;
  const int64_t fifth = rows / kSeverities;
  const int64_t first = severity == 0 ? 0 : (severity - 1) * fifth;
  const int64_t last = severity == 0 ? rows : first + fifth;
  for (int64_t row = first; row < last; ++row) {
    Example example{.id = absl::StrCat(ValidText(whole.filename().string()), "/", row),
                    .file_name = path,
                    .row = row};
    if (!labels.empty()) example.label = labels[static_cast<size_t>(row)];
    if (has_severities) {
      example.metadata = {{"corruption", corruption}, {"severity", row / fifth + 1}};
    }
    listing.examples.Add(example);
  }
  return listing;
}

}  // namespace imageddpo
