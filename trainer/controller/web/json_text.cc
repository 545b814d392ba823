#include "trainer/controller/web/json_text.h"

#include <google/protobuf/util/json_util.h>

#include "common/comm/valid_texts.h"

namespace imageddpo {

absl::StatusOr<std::string> JsonOf(google::protobuf::Message* message) {
  MakeTextsValid(message);
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string text;
  const auto status = google::protobuf::util::MessageToJsonString(*message, &text, options);
  if (!status.ok()) return absl::InternalError(status.ToString());
  return text;
}

}  // namespace imageddpo
