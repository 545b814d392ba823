// Fields, enum values and methods that were released keep their meaning: today's protos against the
// stored form of the released ones.

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "imageddpo/v1/cluster.pb.h"
#include "imageddpo/v1/reward.pb.h"
#include "imageddpo/v1/service.pb.h"

namespace imageddpo {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::DescriptorProto;
using google::protobuf::EnumDescriptor;
using google::protobuf::EnumDescriptorProto;
using google::protobuf::FieldDescriptor;
using google::protobuf::FieldDescriptorProto;
using google::protobuf::FileDescriptorProto;
using google::protobuf::FileDescriptorSet;
using google::protobuf::MethodDescriptor;
using google::protobuf::ServiceDescriptor;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using Breaks = std::vector<std::string>;

std::string TypeNameOf(const FieldDescriptor& field) {
  if (field.message_type() != nullptr) return "." + field.message_type()->full_name();
  if (field.enum_type() != nullptr) return "." + field.enum_type()->full_name();
  return "";
}

void CompareField(const FieldDescriptorProto& stored, const Descriptor& message, Breaks* faults) {
  const std::string name = absl::StrCat(message.full_name(), ".", stored.name());
  const FieldDescriptor* const field = message.FindFieldByNumber(stored.number());
  if (field == nullptr) {
    if (!message.IsReservedNumber(stored.number())) {
      faults->push_back(absl::StrCat(name, " is gone: write `reserved ", stored.number(), ";`"));
    }
    return;
  }
  if (field->name() != stored.name()) {
    faults->push_back(absl::StrCat(name, " is now called ", field->name(),
                                   "; files and JSON have its name, so keep it"));
  }
  const bool same = static_cast<int>(field->type()) == static_cast<int>(stored.type()) &&
                    static_cast<int>(field->label()) == static_cast<int>(stored.label()) &&
                    TypeNameOf(*field) == stored.type_name() &&
                    field->has_optional_keyword() == stored.proto3_optional();
  if (!same)
    faults->push_back(absl::StrCat(name, " has another type; give a new field a new number"));
}

void CompareEnum(const EnumDescriptorProto& stored, const std::string& scope,
                 const DescriptorPool& pool, Breaks* faults) {
  const std::string name = absl::StrCat(scope, ".", stored.name());
  const EnumDescriptor* const found = pool.FindEnumTypeByName(name);
  if (found == nullptr) return faults->push_back(absl::StrCat("the enum ", name, " is gone"));
  for (const auto& value : stored.value()) {
    const auto* const now = found->FindValueByNumber(value.number());
    if (now == nullptr && found->IsReservedNumber(value.number())) continue;
    if (now == nullptr || now->name() != value.name()) {
      faults->push_back(absl::StrCat(name, ".", value.name(), " = ", value.number(), " is now ",
                                     now == nullptr ? "gone: reserve its number" : now->name()));
    }
  }
}

void CompareMessage(const DescriptorProto& stored, const std::string& scope,
                    const DescriptorPool& pool, Breaks* faults) {
  const std::string name = absl::StrCat(scope, ".", stored.name());
  const Descriptor* const message = pool.FindMessageTypeByName(name);
  if (message == nullptr) return faults->push_back(absl::StrCat("the message ", name, " is gone"));
  for (const FieldDescriptorProto& field : stored.field()) CompareField(field, *message, faults);
  for (const auto& range : stored.reserved_range()) {
    for (int number = range.start(); number < range.end(); ++number) {
      if (message->FindFieldByNumber(number) != nullptr) {
        faults->push_back(absl::StrCat(name, " uses the reserved number ", number, " again"));
      }
    }
  }
  for (const DescriptorProto& nested : stored.nested_type())
    CompareMessage(nested, name, pool, faults);
  for (const EnumDescriptorProto& nested : stored.enum_type())
    CompareEnum(nested, name, pool, faults);
}

void CompareServices(const FileDescriptorProto& stored, const DescriptorPool& pool,
                     Breaks* faults) {
  for (const auto& service : stored.service()) {
    const std::string name = absl::StrCat(stored.package(), ".", service.name());
    const ServiceDescriptor* const found = pool.FindServiceByName(name);
    for (const auto& method : service.method()) {
      const MethodDescriptor* const now =
          found == nullptr ? nullptr : found->FindMethodByName(method.name());
      const bool same = now != nullptr &&
                        "." + now->input_type()->full_name() == method.input_type() &&
                        "." + now->output_type()->full_name() == method.output_type() &&
                        now->client_streaming() == method.client_streaming() &&
                        now->server_streaming() == method.server_streaming();
      if (!same) {
        faults->push_back(absl::StrCat("the method ", name, ".", method.name(),
                                       now == nullptr ? " is gone" : " has other types"));
      }
    }
  }
}

/// What today's protos break of the stored ones.
Breaks Compare(const FileDescriptorSet& stored) {
  const DescriptorPool& pool = *v1::Job::descriptor()->file()->pool();
  Breaks faults;
  for (const FileDescriptorProto& file : stored.file()) {
    for (const DescriptorProto& message : file.message_type())
      CompareMessage(message, file.package(), pool, &faults);
    for (const EnumDescriptorProto& type : file.enum_type())
      CompareEnum(type, file.package(), pool, &faults);
    CompareServices(file, pool, &faults);
  }
  return faults;
}

class CompatibilityTest : public testing::Test {
 protected:
  void SetUp() override {
    // What is not referred to may not be linked, and then is not in the pool.
    ASSERT_NE(v1::ClusterFile::descriptor(), nullptr);
    ASSERT_NE(v1::ScoreRequest::descriptor(), nullptr);
    const char* const source = std::getenv("IMAGEDDPO_SOURCE_DIR");
    ASSERT_NE(source, nullptr);
    std::ifstream file(absl::StrCat(source, "/tests/data/proto/v1.binpb"), std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)),
                            std::istreambuf_iterator<char>());
    ASSERT_TRUE(stored_.ParseFromString(bytes));
    ASSERT_EQ(stored_.file_size(), 5);
  }
  DescriptorProto& Stored(const std::string& message) {
    for (FileDescriptorProto& file : *stored_.mutable_file()) {
      for (DescriptorProto& type : *file.mutable_message_type()) {
        if (type.name() == message) return type;
      }
    }
    ADD_FAILURE() << "no " << message;
    return *stored_.mutable_file(0)->mutable_message_type(0);
  }

  FileDescriptorSet stored_;
};

TEST_F(CompatibilityTest, WhatWasReleasedKeepsItsMeaning) {
  EXPECT_THAT(Compare(stored_), IsEmpty())
      << "undo these changes; for additions run tests/data/proto/store.sh";
}

TEST_F(CompatibilityTest, EveryKindOfChangeIsNoticed) {
  FieldDescriptorProto& field = *Stored("Job").mutable_field(0);
  ASSERT_EQ(field.name(), "id");
  field.set_type(FieldDescriptorProto::TYPE_INT64);
  EXPECT_THAT(Compare(stored_), ElementsAre(HasSubstr("imageddpo.v1.Job.id has another type")));
  field.set_type(FieldDescriptorProto::TYPE_STRING);
  field.set_name("name");
  EXPECT_THAT(Compare(stored_), ElementsAre(HasSubstr("Job.name is now called id")));
  field.set_number(9999);
  EXPECT_THAT(Compare(stored_), ElementsAre(HasSubstr("write `reserved 9999;`")));
  field.set_number(1);
  field.set_name("id");
  auto& range = *Stored("Job").add_reserved_range();
  range.set_start(3);
  range.set_end(4);
  EXPECT_THAT(Compare(stored_), ElementsAre(HasSubstr("uses the reserved number 3 again")));
  Stored("Job").clear_reserved_range();
  Stored("Job").set_name("Work");
  EXPECT_THAT(Compare(stored_), ElementsAre(HasSubstr("the message imageddpo.v1.Work is gone")));
}

TEST_F(CompatibilityTest, EnumsAndMethodsToo) {
  for (FileDescriptorProto& file : *stored_.mutable_file()) {
    for (EnumDescriptorProto& type : *file.mutable_enum_type()) {
      if (type.name() == "JobState") type.mutable_value(1)->set_name("WAITING");
    }
    for (auto& service : *file.mutable_service()) {
      if (service.name() == "TrainerService") service.mutable_method(0)->set_server_streaming(true);
    }
  }
  EXPECT_THAT(Compare(stored_), ElementsAre(HasSubstr("JobState.WAITING = 1 is now QUEUED"),
                                            HasSubstr("TrainerService.SubmitJob has other types")));
}

}  // namespace
}  // namespace imageddpo
