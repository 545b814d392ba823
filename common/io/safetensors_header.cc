#include "common/io/safetensors_header.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/io/file.h"
#include "nlohmann/json.hpp"

namespace imageddpo {
namespace {

static_assert(std::endian::native == std::endian::little,
              "safetensors data are little-endian and are mapped as they are");

constexpr size_t kLengthBytes = 8;
constexpr size_t kAlignmentBytes = 8;
constexpr size_t kMaxHeaderBytes = 100'000'000;  // The limit of the format's own reader.
constexpr size_t kMaxDimensions = 64;
constexpr const char* kMetadataKey = "__metadata__";

struct DtypeInfo {
  SafetensorsDtype dtype;
  const char* name;
  size_t size_bytes;
};
constexpr std::array<DtypeInfo, 10> kDtypes = {{{SafetensorsDtype::kF64, "F64", 8},
                                                {SafetensorsDtype::kF32, "F32", 4},
                                                {SafetensorsDtype::kF16, "F16", 2},
                                                {SafetensorsDtype::kBF16, "BF16", 2},
                                                {SafetensorsDtype::kI64, "I64", 8},
                                                {SafetensorsDtype::kI32, "I32", 4},
                                                {SafetensorsDtype::kI16, "I16", 2},
                                                {SafetensorsDtype::kI8, "I8", 1},
                                                {SafetensorsDtype::kU8, "U8", 1},
                                                {SafetensorsDtype::kBool, "BOOL", 1}}};

const DtypeInfo& InfoOf(SafetensorsDtype dtype) {
  return *std::find_if(kDtypes.begin(), kDtypes.end(),
                       [&](const DtypeInfo& info) { return info.dtype == dtype; });
}

absl::Status Bad(const std::string& file, const std::string& what) {
  return absl::InvalidArgumentError(
      absl::StrCat("'", file, "' is not a valid safetensors file: ", what));
}

/// A number of the header as size_t; nothing for a negative or fractional one.
std::optional<size_t> AsSize(const nlohmann::json& value) {
  if (!value.is_number_unsigned()) return std::nullopt;
  return value.get<size_t>();
}

/// The shape's size in bytes, or nothing where it (or, with zeros left out, a stride) overflows
/// int64.
std::optional<size_t> SizeInBytes(const std::vector<int64_t>& shape, size_t element_size_bytes) {
  int64_t bytes = static_cast<int64_t>(element_size_bytes);
  bool has_zero = false;
  for (const int64_t size : shape) {
    has_zero |= size == 0;
    if (__builtin_mul_overflow(bytes, std::max<int64_t>(size, 1), &bytes)) return std::nullopt;
  }
  return has_zero ? 0 : static_cast<size_t>(bytes);
}

/// Parses the JSON and refuses keys given twice, which nlohmann::json would let the last one win.
absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, const std::string& file) {
  IMAGEDDPO_RETURN_IF_ERROR(CheckJsonDepth(text, absl::StrCat("'", file, "'")));
  std::set<std::string> names;
  std::optional<std::string> duplicate;
  const auto check_keys = [&](int depth, nlohmann::json::parse_event_t event,
                              nlohmann::json& parsed) {
    if (event == nlohmann::json::parse_event_t::key && depth == 1 &&
        !names.insert(parsed.get<std::string>()).second) {
      duplicate = parsed.get<std::string>();
    }
    return true;
  };
  nlohmann::json json;
  try {
    json = nlohmann::json::parse(text, check_keys);
  } catch (const nlohmann::json::exception& error) {
    return Bad(file, absl::StrCat("the header is not JSON: ", Excerpt(error.what(), 300)));
  }
  if (!json.is_object()) return Bad(file, "the header is not a JSON object");
  if (duplicate) return Bad(file, absl::StrCat("the name '", *duplicate, "' occurs twice"));
  return json;
}

absl::Status ReadMetadata(const nlohmann::json& json, const std::string& file,
                          SafetensorsHeader& header) {
  if (!json.is_object()) return Bad(file, "__metadata__ is not an object");
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string()) return Bad(file, absl::StrCat("metadata '", key, "' is not a string"));
    header.metadata.emplace(key, value.get<std::string>());
  }
  return absl::OkStatus();
}

absl::StatusOr<SafetensorsEntry> ReadEntry(const std::string& name, const nlohmann::json& json,
                                           const std::string& file, size_t data_begin,
                                           size_t data_size_bytes) {
  const auto bad = [&](const std::string& what) {
    return Bad(file, absl::StrCat("tensor '", name, "': ", what));
  };
  if (!json.is_object()) return bad("its entry is not an object");
  const auto dtype = json.find("dtype");
  const auto shape = json.find("shape");
  const auto offsets = json.find("data_offsets");
  if (dtype == json.end() || !dtype->is_string()) return bad("dtype is missing or not a string");
  if (shape == json.end() || !shape->is_array()) return bad("shape is missing or not a list");
  if (offsets == json.end() || !offsets->is_array() || offsets->size() != 2) {
    return bad("data_offsets is missing or not a list of two");
  }

  SafetensorsEntry entry;
  entry.name = name;
  const auto dtype_name = dtype->get<std::string>();
  const auto info = std::find_if(kDtypes.begin(), kDtypes.end(),
                                 [&](const DtypeInfo& i) { return i.name == dtype_name; });
  if (info == kDtypes.end()) {
    return bad(absl::StrCat("dtype '", dtype_name,
                            "' is not supported (F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL are)"));
  }
  entry.dtype = info->dtype;

  if (shape->size() > kMaxDimensions) return bad("it has too many dimensions");
  for (const nlohmann::json& size_json : *shape) {
    const std::optional<size_t> size = AsSize(size_json);
    if (!size || *size > static_cast<size_t>(std::numeric_limits<int64_t>::max())) {
      return bad(absl::StrCat("shape ", shape->dump(), " is not a list of sizes"));
    }
    entry.shape.push_back(static_cast<int64_t>(*size));
  }
  const std::optional<size_t> shape_bytes = SizeInBytes(entry.shape, info->size_bytes);
  if (!shape_bytes) return bad(absl::StrCat("shape ", shape->dump(), " is too large"));

  const std::optional<size_t> begin = AsSize((*offsets)[0]);
  const std::optional<size_t> end = AsSize((*offsets)[1]);
  if (!begin || !end || *begin > *end)
    return bad(absl::StrCat("data_offsets ", offsets->dump(), " are not a range"));
  if (*end > data_size_bytes) {
    return bad(absl::StrCat("its data end at byte ", *end, " of ", data_size_bytes,
                            "; is the file truncated?"));
  }
  if (*end - *begin != *shape_bytes) {
    return bad(absl::StrCat(dtype_name, " of shape ", shape->dump(), " takes ", *shape_bytes,
                            " bytes, data_offsets say ", *end - *begin));
  }
  entry.begin = data_begin + *begin;
  entry.size_bytes = *shape_bytes;
  return entry;
}

/// The bytes of the JSON header, from the file's first 8 bytes.
absl::StatusOr<size_t> HeaderBytes(std::string_view head, size_t file_bytes,
                                   const std::string& file) {
  if (head.size() < kLengthBytes)
    return Bad(file, absl::StrCat("it has only ", head.size(), " bytes"));
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, head.data(), kLengthBytes);
  if (header_bytes > kMaxHeaderBytes || header_bytes > file_bytes - kLengthBytes) {
    return Bad(file, absl::StrCat("its first 8 bytes announce a header of ", header_bytes,
                                  " bytes, the file has ", file_bytes,
                                  "; is it truncated, or of another format?"));
  }
  return header_bytes;
}

/// @param head  the file as far as its header goes, at least.
absl::StatusOr<SafetensorsHeader> Parse(std::string_view head, size_t file_bytes,
                                        const std::string& file) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const size_t header_bytes, HeaderBytes(head, file_bytes, file));
  IMAGEDDPO_ASSIGN_OR_RETURN(const nlohmann::json json,
                             ParseJson(head.substr(kLengthBytes, header_bytes), file));

  const size_t data_begin = kLengthBytes + header_bytes;
  SafetensorsHeader header;
  for (const auto& [name, value] : json.items()) {
    if (name == kMetadataKey) {
      IMAGEDDPO_RETURN_IF_ERROR(ReadMetadata(value, file, header));
      continue;
    }
    IMAGEDDPO_ASSIGN_OR_RETURN(SafetensorsEntry entry,
                               ReadEntry(name, value, file, data_begin, file_bytes - data_begin));
    header.tensors.push_back(std::move(entry));
  }

  std::sort(header.tensors.begin(), header.tensors.end(),
            [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
              return std::tie(a.begin, a.size_bytes, a.name) <
                     std::tie(b.begin, b.size_bytes, b.name);
            });
  size_t expected = data_begin;
  for (const SafetensorsEntry& entry : header.tensors) {
    if (entry.begin != expected) {
      return Bad(file, absl::StrCat("tensor '", entry.name, "': its data ",
                                    entry.begin < expected ? "overlap the tensor before"
                                                           : "leave a hole before them"));
    }
    expected += entry.size_bytes;
  }
  if (expected != file_bytes) {
    return Bad(file,
               absl::StrCat(file_bytes - expected, " bytes after the last tensor belong to none"));
  }
  return header;
}

}  // namespace

size_t ElementSizeBytes(SafetensorsDtype dtype) { return InfoOf(dtype).size_bytes; }

const char* DtypeName(SafetensorsDtype dtype) { return InfoOf(dtype).name; }

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view file_bytes,
                                                         std::string_view name_for_errors) {
  return Parse(file_bytes, file_bytes.size(), std::string(name_for_errors));
}

absl::StatusOr<SafetensorsHeader> ReadSafetensorsHeader(const std::string& path) {
  IMAGEDDPO_ASSIGN_OR_RETURN(FileHead head, ReadFileHead(path, kLengthBytes));
  IMAGEDDPO_ASSIGN_OR_RETURN(const size_t header_bytes,
                             HeaderBytes(head.bytes, head.file_bytes, path));
  IMAGEDDPO_ASSIGN_OR_RETURN(head, ReadFileHead(path, kLengthBytes + header_bytes));
  if (head.bytes.size() < kLengthBytes + header_bytes) return Bad(path, "it became shorter");
  return Parse(head.bytes, head.file_bytes, path);
}

absl::StatusOr<std::string> FormatSafetensorsHeader(const SafetensorsHeader& header) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  if (!header.metadata.empty()) json[kMetadataKey] = header.metadata;
  size_t begin = 0;
  for (const SafetensorsEntry& entry : header.tensors) {
    if (entry.name == kMetadataKey)
      return absl::InvalidArgumentError("a tensor cannot be called __metadata__");
    nlohmann::ordered_json value;
    value["dtype"] = DtypeName(entry.dtype);
    value["shape"] = entry.shape;
    value["data_offsets"] = {begin, begin + entry.size_bytes};
    json[entry.name] = std::move(value);
    begin += entry.size_bytes;
  }
  std::string text;
  try {
    text = json.dump();
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat("a tensor's name or metadata is not UTF-8: ", error.what()));
  }
  text.resize((text.size() + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes, ' ');
  if (text.size() > kMaxHeaderBytes)
    return absl::InvalidArgumentError("too many tensors for one safetensors header");
  const uint64_t length = text.size();
  std::string bytes(kLengthBytes, '\0');
  std::memcpy(bytes.data(), &length, kLengthBytes);
  return bytes + text;
}

}  // namespace imageddpo
