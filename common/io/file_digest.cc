#include "common/io/file_digest.h"

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/io/file.h"

namespace imageddpo {
namespace {

constexpr size_t kHeadBytes = size_t{1} << 20;
constexpr size_t kPieceBytes = size_t{64} << 10;
constexpr size_t kPieces = 64;
constexpr size_t kDigits = 16;

}  // namespace

absl::StatusOr<std::string> FileDigest(const std::string& path) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const FileHead head, ReadFileHead(path, kHeadBytes));
  std::string bytes = absl::StrCat(head.file_bytes, "\n", head.bytes);
  std::ifstream file(path, std::ios::binary);
  const size_t rest = head.file_bytes - std::min(head.file_bytes, kHeadBytes);
  std::vector<char> piece(std::min(rest, kPieceBytes));
  const size_t room = rest - piece.size();  // For where a piece begins.
  for (size_t i = 0; i < kPieces && !piece.empty(); ++i) {
    const size_t begin = kHeadBytes + room * i / (kPieces - 1);
    file.seekg(static_cast<std::streamoff>(begin));
    if (!file.read(piece.data(), static_cast<std::streamsize>(piece.size()))) {
      return absl::DataLossError(
          absl::StrCat("cannot read '", ValidText(path), "': it became shorter"));
    }
    bytes.append(piece.data(), piece.size());
  }
  return absl::StrCat(head.file_bytes, "-", Sha256Hex(bytes).substr(0, kDigits));
}

}  // namespace imageddpo
