#include "common/io/safetensors.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "common/io/file.h"
#include "tests/testing/faulty_file_system.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kReference =
    "tests/data/all_dtypes.safetensors";  // Of the format's own library.

TensorMap ReferenceTensors() {
  TensorMap tensors;
  const at::Tensor values = at::tensor({1, 2, 3, 4, 5, 100}, at::kDouble).reshape({2, 3});
  for (const auto& [name, type] : {std::pair{"F64", at::kDouble},
                                   {"F32", at::kFloat},
                                   {"F16", at::kHalf},
                                   {"BF16", at::kBFloat16},
                                   {"I64", at::kLong},
                                   {"I32", at::kInt},
                                   {"I16", at::kShort},
                                   {"I8", at::kChar},
                                   {"U8", at::kByte}}) {
    tensors[name] = values.to(type);
  }
  tensors["BOOL"] = at::tensor({1, 0, 1}, at::kInt).to(at::kBool);
  tensors["scalar"] = at::tensor(2.5F, at::kFloat).reshape({});
  tensors["empty"] = at::zeros({0, 4}, at::kFloat);
  return tensors;
}

void ExpectEqual(const at::Tensor& actual, const at::Tensor& expected, const std::string& name) {
  EXPECT_EQ(actual.scalar_type(), expected.scalar_type()) << name;
  EXPECT_EQ(actual.sizes(), expected.sizes()) << name;
  EXPECT_TRUE(at::equal(actual, expected)) << name;
}

TEST(SafetensorsTest, ReadsWhatTheFormatsLibraryWrites) {
  const auto file = SafetensorsFile::Open(kReference);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->metadata().at("format"), "pt");
  EXPECT_EQ((*file)->path(), kReference);
  const TensorMap expected = ReferenceTensors();
  EXPECT_EQ((*file)->names().size(), expected.size());
  for (const auto& [name, tensor] : expected) {
    ASSERT_TRUE((*file)->Contains(name)) << name;
    ExpectEqual((*file)->Get(name).value(), tensor, name);
  }
}

TEST(SafetensorsTest, WritesWhatTheFormatsLibraryWrites) {
  // One dtype per element size is enough to fix the order: sizes descending, then names.
  TensorMap tensors = ReferenceTensors();
  const auto bytes = SerializeSafetensors(tensors, {{"format", "pt"}});
  ASSERT_TRUE(bytes.ok());
  const auto parsed = ParseSafetensors(*bytes, "memory");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  ASSERT_EQ(parsed->size(), tensors.size());
  for (const auto& [name, tensor] : tensors) ExpectEqual(parsed->at(name), tensor, name);
  EXPECT_EQ(bytes->size(), std::filesystem::file_size(kReference));
}

TEST(SafetensorsTest, ViewsOutliveTheFileObjectAndTheFile) {
  const TempDir dir;
  ASSERT_TRUE(WriteSafetensors(dir / "f", {{"w", at::arange(1000, at::kFloat)}}).ok());
  at::Tensor view;
  {
    const auto file = SafetensorsFile::Open(dir / "f");
    view = (*file)->Get("w").value();
    EXPECT_EQ(view.const_data_ptr(), (*file)->Get("w")->const_data_ptr());  // A view, not a copy.
  }
  std::filesystem::remove(dir / "f");
  EXPECT_TRUE(at::equal(view, at::arange(1000, at::kFloat)));
}

TEST(SafetensorsTest, WritingToAViewDoesNotReachTheFile) {
  const TempDir dir;
  ASSERT_TRUE(WriteSafetensors(dir / "f", {{"w", at::zeros({4}, at::kFloat)}}).ok());
  const std::string before = dir.Read("f");
  const auto file = SafetensorsFile::Open(dir / "f");
  (*file)->Get("w")->fill_(1.0);
  EXPECT_EQ(dir.Read("f"), before);
}

TEST(SafetensorsTest, CopiesMisalignedData) {
  const TempDir dir;
  // 57 characters of header: the floats start at byte 65.
  std::string header = R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  header.resize(57, ' ');
  const uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  const float values[] = {1.5F, -2.0F};
  bytes += header + std::string(reinterpret_cast<const char*>(values), 8);
  const auto file = SafetensorsFile::Open(dir.Write("f", bytes));
  ASSERT_TRUE(file.ok()) << file.status();
  const at::Tensor tensor = (*file)->Get("w").value();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % 4, 0);
  EXPECT_TRUE(at::equal(tensor, at::tensor({1.5F, -2.0F}, at::kFloat)));
}

TEST(SafetensorsTest, BoolsBecomeZeroOrOne) {
  auto bytes = SerializeSafetensors({{"b", at::ones({2}, at::kBool)}});
  bytes->back() = '\x07';
  const auto tensors = ParseSafetensors(*bytes, "memory");
  ASSERT_TRUE(tensors.ok());
  EXPECT_EQ(static_cast<const char*>(tensors->at("b").const_data_ptr())[1], 1);
}

TEST(SafetensorsTest, WritesStridedTensorsByValue) {
  const at::Tensor matrix = at::arange(12, at::kFloat).reshape({3, 4});
  const auto bytes = SerializeSafetensors({{"t", matrix.t()}, {"column", matrix.select(1, 2)}});
  const auto parsed = ParseSafetensors(*bytes, "memory");
  ASSERT_TRUE(parsed.ok());
  EXPECT_TRUE(at::equal(parsed->at("t"), matrix.t()));
  EXPECT_TRUE(at::equal(parsed->at("column"), matrix.select(1, 2)));
}

TEST(SafetensorsTest, EqualArgumentsGiveEqualBytes) {
  TensorMap tensors = ReferenceTensors();
  EXPECT_EQ(*SerializeSafetensors(tensors, {{"b", "1"}, {"a", "2"}}),
            *SerializeSafetensors(ReferenceTensors(), {{"a", "2"}, {"b", "1"}}));
}

TEST(SafetensorsTest, RefusesWhatTheFormatCannotHold) {
  EXPECT_THAT(
      std::string(
          SerializeSafetensors({{"c", at::zeros({1}, at::kComplexFloat)}}).status().message()),
      AllOf(HasSubstr("'c'"), HasSubstr("ComplexFloat")));
  EXPECT_FALSE(SerializeSafetensors({{"u", at::Tensor()}}).ok());
  EXPECT_FALSE(SerializeSafetensors({{"__metadata__", at::zeros({1})}}).ok());
  EXPECT_FALSE(SerializeSafetensors({{"\xff", at::zeros({1})}}).ok());
}

TEST(SafetensorsTest, OpenErrorsNameTheFile) {
  const TempDir dir;
  const auto message = [](const auto& file) { return std::string(file.status().message()); };
  const auto missing = SafetensorsFile::Open(dir / "none.safetensors");
  EXPECT_TRUE(absl::IsNotFound(missing.status()));
  EXPECT_THAT(message(missing), HasSubstr(dir / "none.safetensors"));
  EXPECT_THAT(message(SafetensorsFile::Open(dir.path())), HasSubstr("not a regular file"));
  EXPECT_THAT(message(SafetensorsFile::Open(dir.Write("empty", ""))), HasSubstr("empty"));

  std::ifstream stream(kReference, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(stream), {}};
  bytes.pop_back();
  const auto truncated = SafetensorsFile::Open(dir.Write("short", bytes));
  EXPECT_TRUE(absl::IsInvalidArgument(truncated.status()));
  EXPECT_THAT(message(truncated), AllOf(HasSubstr(dir / "short"), HasSubstr("truncated")));
}

TEST(SafetensorsTest, GetErrorNamesFileAndTensor) {
  const auto file = SafetensorsFile::Open(kReference);
  EXPECT_FALSE((*file)->Contains("w"));
  const absl::Status status = (*file)->Get("w").status();
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(kReference), HasSubstr("'w'")));
}

TEST(SafetensorsTest, AFailedWriteKeepsTheOldFile) {
  const TempDir dir;
  ASSERT_TRUE(WriteSafetensors(dir / "f", {{"w", at::zeros({4})}}).ok());
  const std::string before = dir.Read("f");
  FaultyFileSystem disk(FaultyFileSystem::Fault::kDiskFull, 1);
  EXPECT_TRUE(absl::IsResourceExhausted(WriteSafetensors(disk, dir / "f", {{"w", at::ones({4})}})));
  EXPECT_EQ(dir.Read("f"), before);
  EXPECT_THAT(*ListDirectory(dir.path()), ElementsAre("f"));
}

}  // namespace
}  // namespace imageddpo
