#include "common/comm/valid_texts.h"

#include <google/protobuf/descriptor.h>

#include <string>
#include <vector>

#include "common/base/text.h"

namespace imageddpo {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

void MakeTextsValid(Message* message) {
  const Reflection& reflection = *message->GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(*message, &fields);
  for (const FieldDescriptor* field : fields) {
    const int size = field->is_repeated() ? reflection.FieldSize(*message, field) : 0;
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      if (!field->is_repeated()) MakeTextsValid(reflection.MutableMessage(message, field));
      for (int i = 0; i < size; ++i) {
        MakeTextsValid(reflection.MutableRepeatedMessage(message, field, i));
      }
    } else if (field->type() == FieldDescriptor::TYPE_STRING) {
      if (!field->is_repeated()) {
        const std::string text = reflection.GetString(*message, field);
        if (!IsValidUtf8(text)) reflection.SetString(message, field, ValidMessage(text));
      }
      for (int i = 0; i < size; ++i) {
        const std::string text = reflection.GetRepeatedString(*message, field, i);
        if (!IsValidUtf8(text)) {
          reflection.SetRepeatedString(message, field, i, ValidMessage(text));
        }
      }
    }
  }
}

}  // namespace imageddpo
