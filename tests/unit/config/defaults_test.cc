#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "common/config/job_config.h"
#include "common/config/resolve_steps.h"
#include "common/config/yaml/settings_schema.h"

namespace imageddpo {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

v1::JobSpec Filled(const std::string& text) {
  v1::JobSpec job = *ParseJobYaml(text, "job.yaml");
  FillDefaults(&job);
  return job;
}

// Settings without a default: the author has to choose them, or they are empty unless given.
const std::set<std::string>& WithoutDefault() {
  static const std::set<std::string> paths = {"model.path",
                                              "data.path",
                                              "eval.path",
                                              "eval.files",
                                              "checkpoint.best",
                                              "lora.init_from",
                                              "rewards.type",
                                              "rewards.model",
                                              "rewards.model_sha256",
                                              "rewards.measure",
                                              "rewards.reference",
                                              "rewards.name",
                                              "rewards.endpoints",
                                              "rewards.on_error",
                                              "rewards.timeout_seconds",
                                              "rewards.max_retries",
                                              "rewards.max_outage_seconds",
                                              "rewards.tls_ca_file",
                                              "rewards.token_file",
                                              "topology.rollout",
                                              "topology.trainer",
                                              "topology.colocated",
                                              "topology.min_rollout",
                                              "topology.min_trainer",
                                              "topology.min_colocated",
                                              "data.width",
                                              "data.height",
                                              "data.corrupt.kind",
                                              "sample.sde_window.size",
                                              "train.step_window.size"};
  return paths;
}

void ExpectAllPresent(const Message& section, const std::string& prefix) {
  const auto& reflection = *section.GetReflection();
  for (int i = 0; i < section.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = section.GetDescriptor()->field(i);
    const std::string path = prefix + field->name();
    if (WithoutDefault().contains(path)) continue;
    if (field->is_repeated()) {
      ASSERT_GT(reflection.FieldSize(section, field), 0) << path;
      if (field->message_type() != nullptr) {
        ExpectAllPresent(reflection.GetRepeatedMessage(section, field, 0), path + ".");
      }
    } else {
      EXPECT_TRUE(reflection.HasField(section, field)) << path << " has no default in defaults.cc";
      if (field->message_type() != nullptr) {
        ExpectAllPresent(reflection.GetMessage(section, field), path + ".");
      }
    }
  }
}

TEST(FillDefaults, FillsEverySettingOfTheSchema) {
  ExpectAllPresent(Filled("rewards: [{type: jpeg, measure: compressibility}]\n"
                          "data: {corrupt: {kind: fog}}\nsample: {sde_window: {size: 1}}\n"
                          "train: {step_window: {size: 1}}"),
                   "");
  EXPECT_FALSE(Filled("rewards: [{type: jpeg}]").data().has_corrupt());
}

TEST(FillDefaults, KeepsWhatIsGiven) {
  const std::string text =
      "seed: 0\nsample: {eta: 0.5, guidance_scale: 0}\ntrain: {batch_size: 3}\nlora: "
      "{target_modules: [to_k]}\n"
      "rewards: [{type: classifier, measure: logit_change, clamp: 0, weight: 0}]\neval: "
      "{batch_size: 5}";
  const v1::JobSpec job = Filled(text);
  EXPECT_EQ(job.seed(), 0U);
  EXPECT_EQ(job.sample().eta(), 0.5);
  EXPECT_EQ(job.sample().guidance_scale(), 0.0);
  EXPECT_EQ(job.train().batch_size(), 3);
  EXPECT_EQ(job.lora().target_modules_size(), 1);
  EXPECT_EQ(job.rewards(0).clamp(), 0.0);
  EXPECT_EQ(job.rewards(0).weight(), 0.0);
  EXPECT_EQ(job.eval().batch_size(), 5);
}

TEST(FillDefaults, TwiceIsOnce) {
  const v1::JobSpec once =
      Filled("rewards: [{type: jpeg}]\nsample: {batch_size: 12}\ntrain: {batch_size: 8}");
  v1::JobSpec twice = once;
  FillDefaults(&twice);
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(once, twice));
}

// The values of TRL's DDPOConfig as literals, so that a changed default of ours fails.
TEST(FillDefaults, AreThoseOfDdpoConfig) {
  const v1::JobSpec job = Filled("name: a");
  EXPECT_EQ(job.num_epochs(), 100);
  EXPECT_EQ(job.sample().num_steps(), 50);
  EXPECT_EQ(job.sample().eta(), 1.0);
  EXPECT_EQ(job.sample().guidance_scale(), 5.0);
  EXPECT_EQ(job.sample().batch_size(), 1);
  EXPECT_EQ(job.sample().num_batches_per_epoch(), 2);
  EXPECT_EQ(job.train().batch_size(), 1);
  EXPECT_EQ(job.train().gradient_accumulation_steps(), 1);
  EXPECT_EQ(job.train().learning_rate(), 3e-4);
  EXPECT_EQ(job.train().clip_range(), 1e-4);
  EXPECT_EQ(job.train().num_inner_epochs(), 1);
  EXPECT_EQ(job.train().adv_clip_max(), 5.0);
  EXPECT_EQ(job.train().max_grad_norm(), 1.0);
  EXPECT_EQ(job.train().adam_beta1(), 0.9);
  EXPECT_EQ(job.train().adam_beta2(), 0.999);
  EXPECT_EQ(job.train().adam_weight_decay(), 1e-4);
  EXPECT_EQ(job.train().adam_epsilon(), 1e-8);
  EXPECT_EQ(job.advantage().buffer_size(), 16);
  EXPECT_EQ(job.advantage().min_count(), 16);
  EXPECT_EQ(job.sample().noise_strength(), 0.2);
}

TEST(FillDefaults, DeviceBatchDividesBothBatches) {
  EXPECT_EQ(
      Filled("sample: {batch_size: 128}\ntrain: {batch_size: 32}").device().device_batch_size(),
      32);
  EXPECT_EQ(Filled("sample: {batch_size: 12}\ntrain: {batch_size: 8}").device().device_batch_size(),
            4);
  EXPECT_EQ(
      Filled("device: {device_batch_size: 0}\nsample: {batch_size: 2}\ntrain: {batch_size: 2}")
          .device()
          .device_batch_size(),
      2);
  EXPECT_EQ(Filled("device: {device_batch_size: 3}").device().device_batch_size(), 3);
  EXPECT_EQ(Filled("sample: {batch_size: 12}\ntrain: {batch_size: 8}").eval().batch_size(), 4);
  EXPECT_EQ(
      Filled("sample: {batch_size: 256}\ntrain: {batch_size: 64}").device().device_batch_size(), 32)
      << "more gain nothing";
  EXPECT_EQ(
      Filled("sample: {batch_size: 74}\ntrain: {batch_size: 37}").device().device_batch_size(), 37);
  EXPECT_EQ(Filled("sample: {batch_size: -3}").device().device_batch_size(), 1)
      << "left to ValidateJob";
}

TEST(FillDefaults, RewardsFollowTheirType) {
  const v1::JobSpec job = Filled(
      "rewards:\n- {type: classifier, measure: logit_change}\n- {type: classifier, measure: "
      "margin_change}\n"
      "- {type: classifier, measure: logit_max_margin}\n- {type: jpeg, measure: compressibility}");
  EXPECT_EQ(job.rewards(0).clamp(), 10.0);
  EXPECT_EQ(job.rewards(1).clamp(), 10.0);
  EXPECT_EQ(job.rewards(2).clamp(), 0.0);
  EXPECT_EQ(job.rewards(3).clamp(), 0.0);
  EXPECT_EQ(job.rewards(3).jpeg_quality(), 95);
  EXPECT_FALSE(job.rewards(0).has_jpeg_quality());
  EXPECT_EQ(job.rewards(0).weight(), 1.0);
}

TEST(AllSettings, AreScalarOptionalAndDouble) {
  for (const Setting& setting : AllSettings(*v1::JobSpec::descriptor())) {
    const FieldDescriptor* field = setting.field;
    if (field->message_type() != nullptr || field->is_repeated()) continue;
    EXPECT_TRUE(field->has_optional_keyword()) << setting.path;
    EXPECT_NE(field->cpp_type(), FieldDescriptor::CPPTYPE_FLOAT) << setting.path;
    const auto type = field->cpp_type();
    EXPECT_TRUE(type == FieldDescriptor::CPPTYPE_INT64 || type == FieldDescriptor::CPPTYPE_UINT64 ||
                type == FieldDescriptor::CPPTYPE_DOUBLE || type == FieldDescriptor::CPPTYPE_BOOL ||
                type == FieldDescriptor::CPPTYPE_STRING)
        << setting.path << " has a type that yaml_to_json.cc does not read";
  }
}

}  // namespace
}  // namespace imageddpo
