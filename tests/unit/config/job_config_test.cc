#include "common/config/job_config.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "common/config/resolve_steps.h"

namespace imageddpo {
namespace {

using google::protobuf::util::MessageDifferencer;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

v1::JobSpec Parsed(const std::string& text) {
  const absl::StatusOr<v1::JobSpec> job = ParseJobYaml(text, "job.yaml");
  EXPECT_TRUE(job.ok()) << job.status();
  return job.ok() ? *job : v1::JobSpec();
}

std::string TextRefusal(const std::string& text) {
  const absl::StatusOr<v1::JobSpec> job = ParseJobYaml(text, "job.yaml");
  EXPECT_EQ(job.status().code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(job.status().message());
}

constexpr char kExample[] = R"(
name: deblur
seed: 42
model: { path: deploy/demo/tiny-sd, precision: fp32 }
lora: { rank: 4, alpha: 4, target_modules: [to_q, to_k, to_v, to_out.0] }
data: { path: out/demo/blurred }          # a comment
eval: { path: out/demo/held-out, every_epochs: 10, seed: 7 }
rewards:
  - { type: classifier, model: deploy/demo/classifier.pt, measure: logit_change, weight: 1.0 }
sample: { num_steps: 10, noise_strength: 0.5, guidance_scale: 1.0, eta: 1.0, batch_size: 128, num_batches_per_epoch: 1 }
train: { batch_size: 32, gradient_accumulation_steps: 1, learning_rate: 4.0e-3, clip_range: 1.0e-3, num_inner_epochs: 1 }
num_epochs: 80
checkpoint: { every_epochs: 10, keep: 3 }
topology: auto
)";

TEST(ParseJobYaml, ReadsTheExampleOfTheDesign) {
  const v1::JobSpec job = Parsed(kExample);
  EXPECT_EQ(job.name(), "deblur");
  EXPECT_EQ(job.seed(), 42U);
  EXPECT_EQ(job.model().path(), "deploy/demo/tiny-sd");
  EXPECT_THAT(job.lora().target_modules(), ElementsAre("to_q", "to_k", "to_v", "to_out.0"));
  ASSERT_EQ(job.rewards_size(), 1);
  EXPECT_EQ(job.rewards(0).measure(), "logit_change");
  EXPECT_EQ(job.sample().batch_size(), 128);
  EXPECT_EQ(job.train().learning_rate(), 4.0e-3);
  EXPECT_EQ(job.eval().seed(), 7U);
  EXPECT_TRUE(job.has_topology());
  EXPECT_FALSE(job.topology().has_rollout());
}

TEST(ParseJobYaml, KeepsGivenAndNotGivenApart) {
  const v1::JobSpec job = Parsed("seed: 0\nsample: {eta: 0}\ndata: {prompt: ''}");
  EXPECT_TRUE(job.has_seed());
  EXPECT_TRUE(job.sample().has_eta());
  EXPECT_TRUE(job.data().has_prompt());
  EXPECT_FALSE(job.data().has_negative_prompt());
  EXPECT_FALSE(job.sample().has_num_steps());
  EXPECT_FALSE(job.has_num_epochs());
}

TEST(ParseJobYaml, ReadsJsonAlsoInProtobufsSpellingOfWholeNumbers) {
  const v1::JobSpec job = Parsed(
      R"({"name": "a", "seed": "18446744073709551615", "sample": {"num_steps": "20", "eta": 1}})");
  EXPECT_EQ(job.seed(), 18446744073709551615ULL);
  EXPECT_EQ(job.sample().num_steps(), 20);
  EXPECT_EQ(job.sample().eta(), 1.0);
}

TEST(ParseJobYaml, ReadsRealsAsTheNearestDouble) {
  for (const char* text : {"0.1", "0.29", "0.57", "1e-4", "4.0e-3", ".5", "1.", "+2.5", "3"}) {
    const v1::JobSpec job = Parsed(std::string("sample: {noise_strength: ") + text + "}");
    EXPECT_EQ(job.sample().noise_strength(), std::strtod(text, nullptr)) << text;
  }
}

TEST(ParseJobYaml, ReadsTopologies) {
  EXPECT_EQ(Parsed("topology: {rollout: 3, trainer: 2}").topology().rollout(), 3);
  EXPECT_EQ(Parsed("topology: {colocated: 4}").topology().colocated(), 4);
  EXPECT_THAT(TextRefusal("seed: 1\ntopology: automatic"),
              HasSubstr("`topology` (job.yaml:2) must be `auto`, `{rollout: R, trainer: T}` or "
                        "`{colocated: C}`, not `automatic`"));
}

TEST(ParseJobYaml, TextMayLookLikeAnything) {
  const v1::JobSpec job =
      Parsed("name: 2024\ndata: {prompt: yes, path: '~', negative_prompt: \"null\"}");
  EXPECT_EQ(job.name(), "2024");
  EXPECT_EQ(job.data().prompt(), "yes");
  EXPECT_EQ(job.data().path(), "~");
  EXPECT_EQ(job.data().negative_prompt(), "null");
}

TEST(ParseJobYaml, AnAutomaticMicroBatchIsOneThatIsNotGiven) {
  EXPECT_FALSE(Parsed("device: {device_batch_size: auto}").device().has_device_batch_size());
  EXPECT_EQ(Parsed("device: {device_batch_size: 3}").device().device_batch_size(), 3);
  v1::JobSpec job = Parsed("device: {device_batch_size: 3}");
  EXPECT_TRUE(ApplyJobSetting("device.device_batch_size=auto", &job).ok());
  EXPECT_FALSE(job.device().has_device_batch_size());
  EXPECT_EQ(TextRefusal("device: {device_batch_size: most}"),
            "`device.device_batch_size` (job.yaml:1) must be a whole number or `auto`, not `most`");
  EXPECT_EQ(TextRefusal("device: {num_threads: auto}"),
            "`device.num_threads` (job.yaml:1) must be a whole number, not `auto`");
}

TEST(ParseJobYaml, AResolutionIsANumberOrWidthAndHeight) {
  EXPECT_EQ(Parsed("data: {resolution: 512}").data().resolution(), 512);
  v1::JobSpec job = Parsed("data: {resolution: [768, 512]}");
  EXPECT_FALSE(job.data().has_resolution());
  EXPECT_EQ(job.data().width(), 768);
  EXPECT_EQ(job.data().height(), 512);
  EXPECT_EQ(Parsed(JobToYaml(job)).SerializeAsString(), job.SerializeAsString());
  ASSERT_TRUE(ApplyJobSetting("data.resolution=256", &job).ok());
  EXPECT_EQ(job.data().resolution(), 256);
  EXPECT_FALSE(job.data().has_width() || job.data().has_height());
  ASSERT_TRUE(ApplyJobSetting("data.resolution=[64, 96]", &job).ok());
  EXPECT_FALSE(job.data().has_resolution());
  EXPECT_EQ(job.data().height(), 96);
  for (const char* wrong : {"[768]", "[1, 2, 3]", "[a, b]", "[]"}) {
    EXPECT_THAT(TextRefusal(std::string("data: {resolution: ") + wrong + "}"),
                HasSubstr("`data.resolution` (job.yaml:1) must be a whole number or two of them"));
  }
  EXPECT_THAT(TextRefusal("data: {resolution: large}"), HasSubstr("as `[768, 512]`, not `large`"));
}

TEST(ParseJobYaml, NamesAnUnknownKeyItsLineAndTheClosestOne) {
  EXPECT_EQ(TextRefusal("name: a\nsample:\n  batch_size: 4\n  num_step: 10\n"),
            "unknown setting `sample.num_step` (job.yaml:4); did you mean `num_steps`?");
  EXPECT_EQ(TextRefusal("sed: 1"), "unknown setting `sed` (job.yaml:1); did you mean `seed`?");
  EXPECT_EQ(TextRefusal("rewards:\n- type: jpeg\n- {wieght: 2}"),
            "unknown setting `rewards[1].wieght` (job.yaml:3); did you mean `weight`?");
  EXPECT_EQ(TextRefusal("sample: {numSteps: 4}"),
            "unknown setting `sample.numSteps` (job.yaml:1); did you mean `num_steps`?");
}

TEST(ParseJobYaml, FindsASettingThatStandsInAnotherSection) {
  EXPECT_EQ(TextRefusal("learning_rate: 1e-4"),
            "unknown setting `learning_rate` (job.yaml:1); did you mean `train.learning_rate`?"
            " (`imageddpo import-trl` turns a whole DDPOConfig into a job file)");
  EXPECT_THAT(TextRefusal("sample_num_steps: 4"), HasSubstr("did you mean `sample.num_steps`?"));
  EXPECT_THAT(
      TextRefusal("batch_size: 4"),
      HasSubstr("did you mean `eval.batch_size` or `sample.batch_size` or `train.batch_size`?"));
  EXPECT_THAT(TextRefusal("train: {num_steps: 4}"),
              HasSubstr("did you mean `eval.num_steps` or `sample.num_steps`?"));
  EXPECT_THAT(TextRefusal("model: {zzzzzzzz: 1}"), HasSubstr("`model` has: path, precision"));
}

TEST(ParseJobYaml, NamesAWrongTypeItsLineAndTheExpectedOne) {
  EXPECT_EQ(TextRefusal("sample:\n  num_steps: ten"),
            "`sample.num_steps` (job.yaml:2) must be a whole number, not `ten`");
  EXPECT_EQ(TextRefusal("sample: {num_steps: 10.5}"),
            "`sample.num_steps` (job.yaml:1) must be a whole number, not `10.5`");
  EXPECT_EQ(TextRefusal("sample: {eta: high}"),
            "`sample.eta` (job.yaml:1) must be a number, not `high`");
  EXPECT_EQ(TextRefusal("sample: {eta: .nan}"),
            "`sample.eta` (job.yaml:1) must be a finite number, not `.nan`");
  EXPECT_EQ(TextRefusal("sample: {eta: -inf}"),
            "`sample.eta` (job.yaml:1) must be a finite number, not `-inf`");
  EXPECT_EQ(TextRefusal("sample: {eta: 1e999}"),
            "`sample.eta` (job.yaml:1) must be a finite number, not `1e999`");
  EXPECT_EQ(TextRefusal("seed: -1"),
            "`seed` (job.yaml:1) must be a whole number, 0 or more, not `-1`");
  EXPECT_EQ(TextRefusal("seed: 0x10"),
            "`seed` (job.yaml:1) must be a whole number, 0 or more, not `0x10`");
  EXPECT_EQ(TextRefusal("num_epochs: 99999999999999999999"),
            "`num_epochs` (job.yaml:1) must be a whole number, not `99999999999999999999`");
  EXPECT_EQ(TextRefusal("name: [a]"), "`name` (job.yaml:1) must be text, not a list");
  EXPECT_EQ(TextRefusal("sample: 4"),
            "`sample` (job.yaml:1) must be a section of settings, not `4`");
  EXPECT_EQ(TextRefusal("lora: {target_modules: to_q}"),
            "`lora.target_modules` (job.yaml:1) must be a list of text, not `to_q`");
  EXPECT_EQ(
      TextRefusal("rewards: {type: jpeg}"),
      "`rewards` (job.yaml:1) must be a list of sections of settings, not a section of settings");
  EXPECT_THAT(TextRefusal("seed:"),
              HasSubstr("`seed` (job.yaml:1) has no value; it must be a whole number"));
}

TEST(ParseJobYaml, TellsAllFaultsAtOnce) {
  const std::string message = TextRefusal("seed: x\nnmae: a\nsample: {eta: [1]}");
  EXPECT_THAT(message, HasSubstr("`seed` (job.yaml:1)"));
  EXPECT_THAT(message, HasSubstr("`nmae` (job.yaml:2)"));
  EXPECT_THAT(message, HasSubstr("`sample.eta` (job.yaml:3)"));
}

TEST(ParseJobYaml, TellsWrongValuesBesideLinesThatCannotBeRead) {
  EXPECT_EQ(TextRefusal("nmae: a\nrewards: [{type: jpeg, measure: incompressability, wieght: "
                        "2}]\nsample: {num_steps: x}\n"
                        "train: {trust_region: rato, batch_size: 3}"),
            "unknown setting `nmae` (job.yaml:1); did you mean `name`?\n"
            "unknown setting `rewards[0].wieght` (job.yaml:2); did you mean `weight`?\n"
            "`sample.num_steps` (job.yaml:3) must be a whole number, not `x`\n"
            "`rewards[0].measure` is `incompressability`; it must be one of compressibility, "
            "incompressibility; did you mean `incompressibility`?\n"
            "`train.trust_region` is `rato`; it must be one of ratio, kl; did you mean `ratio`?")
      << "and nothing that follows from the lines that were left out";
}

TEST(ParseJobYaml, RefusesWhatYamlLetsPass) {
  EXPECT_EQ(TextRefusal("seed: 1\nseed: 2"), "`seed` (job.yaml:2) is given twice");
  EXPECT_THAT(TextRefusal("name: a\n---\nname: b"), HasSubstr("second YAML document"));
  EXPECT_THAT(TextRefusal(",{name: a}"), HasSubstr("1 is not valid YAML"));
  EXPECT_THAT(TextRefusal("name: a\n,{"), HasSubstr("YAML"));
  EXPECT_THAT(TextRefusal("- a\n- b"), HasSubstr("not a list"));
  EXPECT_THAT(TextRefusal("hello"), HasSubstr("not `hello`"));
  EXPECT_THAT(TextRefusal(""), HasSubstr("job.yaml has no settings"));
  EXPECT_THAT(TextRefusal("# only a comment\n"), HasSubstr("no settings"));
  EXPECT_THAT(TextRefusal("rewards: [~]"), HasSubstr("`rewards[0]` (job.yaml:1) is empty"));
  EXPECT_THAT(TextRefusal("sample: {num_steps: 4"), HasSubstr("not valid YAML"));
  EXPECT_THAT(TextRefusal("a: b\n  c: d"), HasSubstr("job.yaml:2"));
  EXPECT_THAT(TextRefusal("? [a, b]\n: c"), HasSubstr("is not a setting's name"));
}

TEST(ParseJobYaml, IsUtf8OrNamesTheLineThatIsNot) {
  EXPECT_EQ(TextRefusal("seed: 1\ndata: {prompt: \"caf\xe9\"}"),
            "job.yaml:2: the line is not UTF-8: data: {prompt: \"caf\\xE9\"}; save the file as "
            "UTF-8");
  EXPECT_THAT(TextRefusal(std::string("n\0a\0", 4)), HasSubstr("job.yaml is text in UTF-16"));
  // yaml-cpp would stop here without an error.
  for (const char control : {'\0', '\x04', '\x1b'}) {
    const std::string text = std::string("seed: 1\nname: a") + control + "\nnum_epochs: 3";
    EXPECT_THAT(TextRefusal(text), HasSubstr("job.yaml:2 has the control character \\x"));
  }
  EXPECT_EQ(Parsed("\xef\xbb\xbfseed: 7").seed(), 7u);
  const std::string little = "\xff\xfe" + std::string("s\0e\0e\0d\0:\0 \0007\0", 14);
  EXPECT_EQ(Parsed(little).seed(), 7u) << "UTF-16 with a byte order mark is YAML";
  EXPECT_EQ(Parsed("data: {prompt: \"a\\0b\\e\"}").data().prompt(), std::string("a\0b\x1b", 4));
}

TEST(ParseJobYaml, ReadsJsonsPairsOfEscapes) {
  EXPECT_EQ(Parsed(R"({"data": {"path": "\ud83d\ude00 \\ud83d \u00e9"}})").data().path(),
            "\xf0\x9f\x98\x80 \\ud83d \xc3\xa9");
  EXPECT_THAT(TextRefusal(R"({"data": {"path": "\ud83d"}})"), HasSubstr("job.yaml:1"));
}

TEST(ParseJobYaml, SurvivesHostileFiles) {
  const std::string deep(20000, '[');
  EXPECT_FALSE(ParseJobYaml(deep, "job.yaml").ok());
  EXPECT_FALSE(ParseJobYaml(std::string("na\0me: 1", 8), "job.yaml").ok());
  std::string bomb = "rewards: &a [{type: x}]\nlora: {target_modules: &b [a,a,a,a,a,a,a,a]}\n";
  bomb += "data: {path: [*b,*b,*b,*b], prompt: [*a,*a,*a]}\n";
  EXPECT_THAT(TextRefusal(bomb), HasSubstr("`data.path`"));
}

TEST(ParseJobYaml, AnEmptySectionIsNotGiven) {
  const v1::JobSpec job = Parsed("name: a\nsample:\n  # eta: 1\ntrain: ~\n");
  EXPECT_FALSE(job.has_sample());
  EXPECT_FALSE(job.has_train());
}

TEST(JobToYaml, IsReadBackToTheSameJob) {
  v1::JobSpec job = Parsed(kExample);
  FillDefaults(&job);
  job.mutable_data()->set_prompt("a \"quoted\" photo: of #1, naïve\n\ttabs & 100%");
  job.mutable_data()->set_path("/\xf0\x9f\x98\x80 'it' -x\\xE9 \u009b\u0085\u2028\u202e\x7f\x1b");
  job.mutable_data()->set_negative_prompt("null");
  job.mutable_lora()->set_init_from("-");
  job.set_seed(18446744073709551615ULL);
  job.mutable_sample()->set_noise_strength(0.1 + 0.2);
  job.mutable_train()->set_adam_epsilon(5e-324);
  job.mutable_train()->set_learning_rate(1.7976931348623157e308);
  job.add_rewards();
  job.mutable_rewards(1)->set_type("jpeg");
  const std::string yaml = JobToYaml(job);
  const absl::StatusOr<v1::JobSpec> again = ParseJobYaml(yaml, "again");
  ASSERT_TRUE(again.ok()) << again.status() << "\n" << yaml;
  EXPECT_TRUE(MessageDifferencer::Equals(job, *again)) << yaml;
  EXPECT_THAT(yaml, HasSubstr("\\u009b\\u0085\\u2028\\u202e\\u007f\\u001b"))
      << "terminals read it too";
}

TEST(JobToYaml, WritesOnlyWhatIsPresentAndIsNeat) {
  v1::JobSpec job = Parsed(
      "train: {learning_rate: 3e-4}\nname: a-b_c.1\nrewards: [{type: jpeg, weight: 1}, {type: "
      "classifier}]"
      "\ntopology: auto\nlora: {target_modules: [to_q, '1']}");
  EXPECT_EQ(JobToYaml(job),
            "name: a-b_c.1\n"
            "lora:\n"
            "  target_modules: [to_q, \"1\"]\n"
            "rewards:\n"
            "  - type: jpeg\n"
            "    weight: 1\n"
            "  - type: classifier\n"
            "train:\n"
            "  learning_rate: 0.0003\n"
            "topology: auto\n");
}

TEST(ApplyJobSetting, SetsScalarsListsItemsAndTopology) {
  v1::JobSpec job = Parsed(kExample);
  for (const char* assignment : {"sample.num_steps=20", "train.learning_rate=1e-3", "name=other",
                                 "rewards.0.weight=0.5", "lora.target_modules=[to_q, to_v]",
                                 "topology={rollout: 2, trainer: 1}", "data.prompt=a = b: c"}) {
    EXPECT_TRUE(ApplyJobSetting(assignment, &job).ok()) << assignment;
  }
  EXPECT_EQ(job.sample().num_steps(), 20);
  EXPECT_EQ(job.sample().batch_size(), 128) << "the rest of the section stays";
  EXPECT_EQ(job.train().learning_rate(), 1e-3);
  EXPECT_EQ(job.name(), "other");
  EXPECT_EQ(job.rewards(0).weight(), 0.5);
  EXPECT_EQ(job.rewards(0).measure(), "logit_change");
  EXPECT_THAT(job.lora().target_modules(), ElementsAre("to_q", "to_v"));
  EXPECT_EQ(job.topology().rollout(), 2);
  EXPECT_EQ(job.data().prompt(), "a = b: c");
  EXPECT_TRUE(ApplyJobSetting("topology=auto", &job).ok());
  EXPECT_FALSE(job.topology().has_rollout());
  EXPECT_TRUE(ApplyJobSetting("advantage.mode=per_key", &job).ok())
      << "a section that was not there";
  EXPECT_EQ(job.advantage().mode(), "per_key");
  EXPECT_TRUE(ApplyJobSetting("data.prompt=", &job).ok());
  EXPECT_TRUE(job.data().has_prompt());
  EXPECT_EQ(job.data().prompt(), "");
}

TEST(ApplyJobSetting, RefusesAndChangesNothing) {
  const v1::JobSpec before = Parsed(kExample);
  v1::JobSpec job = before;
  const auto refusal = [&](const char* assignment) {
    const absl::Status status = ApplyJobSetting(assignment, &job);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << assignment;
    EXPECT_TRUE(MessageDifferencer::Equals(job, before)) << assignment;
    return std::string(status.message());
  };
  EXPECT_EQ(refusal("sample.num_step=3"),
            "unknown setting `sample.num_step`; did you mean `num_steps`?");
  EXPECT_EQ(refusal("sampel.num_steps=3"), "unknown setting `sampel`; did you mean `sample`?");
  EXPECT_EQ(refusal("sample.num_steps=x"), "`sample.num_steps` must be a whole number, not `x`");
  EXPECT_THAT(refusal("sample.num_steps="), HasSubstr("has no value"));
  EXPECT_THAT(refusal("sample.num_steps"), HasSubstr("not of the form SETTING=VALUE"));
  EXPECT_THAT(refusal("=3"), HasSubstr("not of the form"));
  EXPECT_THAT(refusal("seed.x=3"), HasSubstr("has no settings of its own"));
  EXPECT_THAT(refusal("rewards.weight=3"), HasSubstr("the job has 1 `rewards`"));
  EXPECT_THAT(refusal("rewards.1.weight=3"), HasSubstr("`rewards.0.NAME`"));
  EXPECT_THAT(refusal("sample.eta=[1"), HasSubstr("`sample.eta`"));
  EXPECT_EQ(refusal("data.path=/caf\xe9"),
            "`data.path=/caf\\xE9` is not UTF-8; such a path is given as it is written here");
}

}  // namespace
}  // namespace imageddpo
