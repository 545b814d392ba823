#include "common/nn/weight_map.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "common/sd/unet.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class WeightsTest : public testing::Test {
 protected:
  void Save(const std::string& name, const TensorMap& tensors) {
    const absl::Status status = WriteSafetensors(dir_ / name, tensors);
    ASSERT_TRUE(status.ok()) << status;
  }
  absl::StatusOr<WeightMap> Open() { return WeightMap::Open(dir_.path(), "model", {}); }
  std::string OpenError() { return std::string(Open().status().message()); }

  TempDir dir_;
};

TEST_F(WeightsTest, TakesCopiesInTheAskedDtype) {
  const at::Tensor half = at::randn({2, 3}).to(at::kHalf);
  Save("model.safetensors", {{"a", half}});
  at::Tensor taken;
  {
    absl::StatusOr<WeightMap> weights = Open();
    ASSERT_TRUE(weights.ok()) << weights.status();
    taken = weights->Take("a", {2, 3});
    EXPECT_TRUE(weights->Finish().ok()) << weights->Finish();
  }
  std::filesystem::remove(dir_ / "model.safetensors");
  EXPECT_EQ(taken.scalar_type(), at::kFloat);
  EXPECT_FALSE(taken.requires_grad());
  EXPECT_TRUE(at::equal(taken, half.to(at::kFloat)));
}

TEST_F(WeightsTest, NamesEveryKindOfMisfitWithFileKeyAndShapes) {
  Save("model.safetensors", {{"good", at::zeros({1})},
                             {"narrow", at::zeros({2, 3})},
                             {"whole", at::zeros({2}, at::kLong)},
                             {"extra", at::zeros({1})}});
  absl::StatusOr<WeightMap> weights = Open();
  ASSERT_TRUE(weights.ok()) << weights.status();
  weights->Take("good", {1});
  weights->Take("narrow", {2, 4});
  weights->Take("whole", {2});
  weights->Take("gone.weight", {7, 5});
  const absl::Status status = weights->Finish();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr(dir_ / "model.safetensors"), HasSubstr("missing: gone.weight [7, 5]"),
                    HasSubstr("narrow is Float [2, 3], expected floating point [2, 4]"),
                    HasSubstr("whole is Long [2]"), HasSubstr("not part of the model: extra"),
                    Not(HasSubstr("good"))));
}

TEST_F(WeightsTest, LongListsAreCut) {
  TensorMap tensors;
  for (int i = 0; i < 20; ++i) tensors["left" + std::to_string(i)] = at::zeros({1});
  Save("model.safetensors", tensors);
  const std::string message(Open()->Finish().message());
  EXPECT_THAT(message, HasSubstr("(20 in all)"));
  EXPECT_LT(message.size(), 400u);
}

TEST_F(WeightsTest, DroppedTensorsAndOtherShapes) {
  Save("model.safetensors", {{"ids", at::arange(4)}, {"conv", at::ones({2, 2, 1, 1})}});
  absl::StatusOr<WeightMap> weights = Open();
  ASSERT_TRUE(weights.ok());
  weights->Drop("ids");
  weights->Drop("not there at all");
  EXPECT_EQ(weights->TakeAnyShape("conv", {{2, 2}, {2, 2, 1, 1}}).sizes(), at::IntArrayRef({2, 2}));
  EXPECT_TRUE(weights->Finish().ok()) << weights->Finish();
}

TEST_F(WeightsTest, ReadsVariantsAndShards) {
  for (const char* name : {"model.safetensors", "model.fp16.safetensors"}) {
    Save(name, {{"a", at::ones({1})}});
    EXPECT_TRUE(Open().ok()) << name;
    std::filesystem::remove(dir_ / name);
  }
  Save("one.safetensors", {{"a", at::ones({1})}});
  Save("two.safetensors", {{"b", at::ones({1})}});
  const std::string index =
      R"({"metadata": {}, "weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})";
  for (const char* name : {"model.safetensors.index.json", "model.safetensors.index.fp16.json",
                           "model.fp16.safetensors.index.json"}) {
    const std::string path = dir_.Write(name, index);
    absl::StatusOr<WeightMap> weights = Open();
    ASSERT_TRUE(weights.ok()) << weights.status();
    weights->Take("a", {1});
    EXPECT_THAT(std::string(weights->Finish().message()), HasSubstr("not part of the model: b"));
    weights->Take("b", {1});
    EXPECT_TRUE(weights->Finish().ok());
    std::filesystem::remove(path);
  }
}

TEST_F(WeightsTest, BadIndexes) {
  Save("one.safetensors", {{"a", at::ones({1})}});
  Save("two.safetensors", {{"a", at::ones({1})}, {"b", at::ones({1})}});
  const auto error = [&](const std::string& text) {
    dir_.Write("model.safetensors.index.json", text);
    return OpenError();
  };
  EXPECT_THAT(error("{}"), AllOf(HasSubstr("index.json"), HasSubstr("weight_map")));
  EXPECT_THAT(error("{\"\xe9\": 1}"), HasSubstr("index.json:1: the line is not UTF-8"));
  EXPECT_THAT(error(R"({"weight_map": {"a": 3}})"), HasSubstr("weight_map of a"));
  EXPECT_THAT(error(R"({"weight_map": {"a": "../one.safetensors"}})"), HasSubstr("same folder"));
  EXPECT_THAT(error(R"({"weight_map": {"z": "one.safetensors"}})"),
              AllOf(HasSubstr("one.safetensors"), HasSubstr("z")));
  EXPECT_THAT(error(R"({"weight_map": {"a": "gone.safetensors"}})"), HasSubstr("gone.safetensors"));
  EXPECT_THAT(error(R"({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})"),
              HasSubstr("is also in"));
}

TEST_F(WeightsTest, FoldersWithoutWeightsSayWhatToDo) {
  EXPECT_THAT(OpenError(), AllOf(HasSubstr(dir_.path()), HasSubstr("no model.safetensors")));
  dir_.Write("pytorch_model.bin", "x");
  EXPECT_THAT(OpenError(), AllOf(HasSubstr("pytorch_model.bin"), HasSubstr("convert"),
                                 HasSubstr("save_pretrained")));
  dir_.Write("model.non_ema.safetensors", "x");
  EXPECT_THAT(OpenError(), AllOf(HasSubstr("model.non_ema.safetensors"), HasSubstr("rename")));
  const auto nowhere = WeightMap::Open(dir_ / "nowhere", "model", {});
  EXPECT_EQ(nowhere.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(nowhere.status().message()), HasSubstr("nowhere"));
}

TEST_F(WeightsTest, TruncatedFile) {
  Save("model.safetensors", {{"a", at::ones({100})}});
  const std::string path = dir_ / "model.safetensors";
  for (const int64_t size : {0, 4, 20, 400}) {
    std::filesystem::resize_file(path, size);
    EXPECT_THAT(OpenError(), HasSubstr(path)) << size;
    Save("model.safetensors", {{"a", at::ones({100})}});
  }
}

/// The same through a whole model.
TEST_F(WeightsTest, UnetOfAnotherShapeThanItsConfig) {
  std::filesystem::copy("tests/data/parity/models/sd1/unet", dir_ / "unet");
  const std::string path = dir_ / "unet/config.json";
  std::string text = dir_.Read("unet/config.json");
  text.replace(text.find("\"layers_per_block\": 1"), 21, "\"layers_per_block\": 2");
  dir_.Write("unet/config.json", text);
  const auto unet = Unet::Load(dir_ / "unet", {});
  EXPECT_EQ(unet.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(unet.status().message()),
              AllOf(HasSubstr("diffusion_pytorch_model.fp16.safetensors does not fit"),
                    HasSubstr("unet/config.json"), HasSubstr("missing: down_blocks.0.resnets.1"),
                    HasSubstr("in all)")));
}

TEST_F(WeightsTest, DeviceThatIsNotThere) {
  Save("model.safetensors", {{"a", at::ones({1})}});
  absl::StatusOr<WeightMap> weights =
      WeightMap::Open(dir_.path(), "model", {.device = at::Device(at::kHPU)});
  ASSERT_TRUE(weights.ok()) << weights.status();
  weights->Take("a", {1});
  EXPECT_THAT(std::string(weights->Finish().message()), HasSubstr("a cannot be put on hpu"));
}

}  // namespace
}  // namespace imageddpo
