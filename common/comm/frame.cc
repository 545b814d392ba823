#include "common/comm/frame.h"

#include <google/protobuf/descriptor.h>
#include <zlib.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "imageddpo/v1/control.pb.h"

namespace imageddpo {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr std::size_t kSizeBytes = 8;
constexpr int kSingular = -1;  // In a path, in place of an index.

void PutSize(std::uint64_t size, char* to) {
  for (std::size_t i = 0; i < kSizeBytes; ++i) to[i] = static_cast<char>(size >> (8 * i) & 0xFF);
}

std::uint64_t SizeAt(const char* from) {
  std::uint64_t size = 0;
  for (std::size_t i = 0; i < kSizeBytes; ++i) {
    size |= std::uint64_t{static_cast<unsigned char>(from[i])} << (8 * i);
  }
  return size;
}

std::uint32_t Crc32(std::string_view bytes) {
  return static_cast<std::uint32_t>(
      crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

/// Moves the blobs of a message, and of its submessages, into `blobs` and describes them in `head`.
class Extraction {
 public:
  Extraction(const FrameLimits& limits, v1::FrameHead* head, std::vector<std::string>* blobs)
      : limits_(limits), head_(head), blobs_(blobs) {}

  void Visit(Message* message) {
    const Reflection& reflection = *message->GetReflection();
    std::vector<const FieldDescriptor*> fields;
    reflection.ListFields(*message, &fields);
    for (const FieldDescriptor* field : fields) {
      const bool is_message = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
      // The entries of a map have no order that lasts; none of ours has bytes.
      if (field->is_map() || (!is_message && field->type() != FieldDescriptor::TYPE_BYTES))
        continue;
      const int count = field->is_repeated() ? reflection.FieldSize(*message, field) : 1;
      for (int i = 0; i < count; ++i) {
        const int index = field->is_repeated() ? i : kSingular;
        path_.push_back(field->number());
        path_.push_back(index);
        if (is_message) {
          Visit(index == kSingular ? reflection.MutableMessage(message, field)
                                   : reflection.MutableRepeatedMessage(message, field, i));
        } else {
          Take(message, field, index);
        }
        path_.resize(path_.size() - 2);
      }
    }
  }

 private:
  void Take(Message* message, const FieldDescriptor* field, int index) {
    const Reflection& reflection = *message->GetReflection();
    std::string scratch;
    const std::string& bytes =
        index == kSingular
            ? reflection.GetStringReference(*message, field, &scratch)
            : reflection.GetRepeatedStringReference(*message, field, index, &scratch);
    if (bytes.size() < limits_.blob_bytes) return;
    v1::FrameHead::Blob& blob = *head_->add_blobs();
    blob.mutable_path()->Add(path_.begin(), path_.end());
    blob.set_size_bytes(static_cast<std::int64_t>(bytes.size()));
    for (std::size_t begin = 0; begin < bytes.size(); begin += limits_.chunk_bytes) {
      blob.add_chunk_crc32(Crc32(std::string_view(bytes).substr(begin, limits_.chunk_bytes)));
    }
    blobs_->push_back(bytes);
    index == kSingular ? reflection.SetString(message, field, "")
                       : reflection.SetRepeatedString(message, field, index, "");
  }

  const FrameLimits& limits_;
  v1::FrameHead* head_;
  std::vector<std::string>* blobs_;
  std::vector<int> path_;
};

absl::Status NoSuchField() {
  return absl::DataLossError("the head of a message names a field that the message does not have");
}

/// Sets the field that a blob belongs to.
absl::Status PutBlob(const v1::FrameHead::Blob& blob, std::string_view bytes, Message* message) {
  if (blob.path_size() == 0 || blob.path_size() % 2 != 0) return NoSuchField();
  for (int level = 0; level < blob.path_size(); level += 2) {
    const int index = blob.path(level + 1);
    const Reflection& reflection = *message->GetReflection();
    const FieldDescriptor* field = message->GetDescriptor()->FindFieldByNumber(blob.path(level));
    if (field == nullptr || field->is_map() || field->is_repeated() == (index == kSingular)) {
      return NoSuchField();
    }
    if (index != kSingular && (index < 0 || index >= reflection.FieldSize(*message, field))) {
      return NoSuchField();
    }
    const bool is_last = level + 2 == blob.path_size();
    if (is_last != (field->type() == FieldDescriptor::TYPE_BYTES)) return NoSuchField();
    if (is_last) {
      index == kSingular ? reflection.SetString(message, field, std::string(bytes))
                         : reflection.SetRepeatedString(message, field, index, std::string(bytes));
    } else if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
      return NoSuchField();
    } else {
      message = index == kSingular ? reflection.MutableMessage(message, field)
                                   : reflection.MutableRepeatedMessage(message, field, index);
    }
  }
  return absl::OkStatus();
}

absl::Status CheckBlob(const v1::FrameHead::Blob& blob, std::size_t chunk_bytes,
                       std::string_view bytes) {
  const std::size_t chunks = (bytes.size() + chunk_bytes - 1) / chunk_bytes;
  if (static_cast<std::size_t>(blob.chunk_crc32_size()) != chunks) {
    return absl::DataLossError("the head of a message has another number of checksums than chunks");
  }
  for (std::size_t i = 0; i < chunks; ++i) {
    const std::string_view chunk = bytes.substr(i * chunk_bytes, chunk_bytes);
    if (Crc32(chunk) == blob.chunk_crc32(static_cast<int>(i))) continue;
    return absl::DataLossError(absl::StrCat("a message's bytes ", i * chunk_bytes, " to ",
                                            i * chunk_bytes + chunk.size(), " of ", bytes.size(),
                                            " have changed on the way (CRC-32 differs)"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> ToFrame(Message* message, const FrameLimits& limits) {
  v1::FrameHead head;
  std::vector<std::string> blobs;
  Extraction(limits, &head, &blobs).Visit(message);
  head.set_chunk_bytes(static_cast<std::int64_t>(limits.chunk_bytes));
  const std::size_t message_bytes = message->ByteSizeLong();
  const bool fits = message_bytes <= limits.max_head_bytes &&
                    message->SerializeToString(head.mutable_message()) &&
                    head.ByteSizeLong() <= limits.max_head_bytes;
  std::string head_text;
  if (!fits || !head.SerializeToString(&head_text)) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "a message of type ", message->GetTypeName(), " has ", message_bytes,
        " bytes without its large parts; at most ", limits.max_head_bytes, " can be sent"));
  }
  std::size_t size = kSizeBytes + head_text.size();
  for (const std::string& blob : blobs) size += blob.size();
  std::string frame(kSizeBytes, '\0');
  frame.reserve(size);
  PutSize(head_text.size(), frame.data());
  frame.append(head_text);
  for (std::string& blob : blobs) {
    frame.append(blob);
    std::string().swap(blob);
  }
  return frame;
}

absl::Status FromFrame(std::string_view frame, Message* message) {
  const auto cut_off = [&] {
    return absl::DataLossError(absl::StrCat("a message of ", frame.size(), " bytes is cut off"));
  };
  if (frame.size() < kSizeBytes) return cut_off();
  const std::uint64_t head_bytes = SizeAt(frame.data());
  std::string_view rest = frame.substr(kSizeBytes);
  if (head_bytes > rest.size() || head_bytes > INT32_MAX) return cut_off();
  v1::FrameHead head;
  if (!head.ParseFromArray(rest.data(), static_cast<int>(head_bytes)) ||
      !message->ParseFromString(head.message())) {
    return absl::DataLossError(
        absl::StrCat("a message of ", frame.size(), " bytes cannot be parsed"));
  }
  rest.remove_prefix(head_bytes);
  for (const v1::FrameHead::Blob& blob : head.blobs()) {
    if (blob.size_bytes() < 0 || static_cast<std::uint64_t>(blob.size_bytes()) > rest.size() ||
        head.chunk_bytes() <= 0) {
      return cut_off();
    }
    const std::string_view bytes = rest.substr(0, static_cast<std::size_t>(blob.size_bytes()));
    if (absl::Status status = CheckBlob(blob, static_cast<std::size_t>(head.chunk_bytes()), bytes);
        !status.ok()) {
      return status;
    }
    if (absl::Status status = PutBlob(blob, bytes, message); !status.ok()) return status;
    rest.remove_prefix(bytes.size());
  }
  return rest.empty() ? absl::OkStatus() : cut_off();
}

}  // namespace imageddpo
