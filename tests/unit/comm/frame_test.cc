#include "common/comm/frame.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "imageddpo/v1/control.pb.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;

/// Every kind of place that bytes can have: singular, repeated, in submessages.
v1::WorkerMessage ReportOf(size_t picture_bytes) {
  v1::WorkerMessage message;
  v1::EvalReport& report = *message.mutable_eval();
  report.set_job_id("job-000001");
  report.set_rows("{}\n");
  (*report.mutable_parts_mean())["classifier.correct"] = 0.5;
  for (const char* name : {"a.png", "b.png", "c.png"}) {
    v1::NamedBytes& picture = *report.add_pictures();
    picture.set_name(name);
    picture.set_data(name + std::string(picture_bytes, '\xff'));
  }
  report.mutable_pictures(1)->set_data("small");
  report.set_best_lora(std::string(picture_bytes, '\0'));
  return message;
}

void ExpectSame(const v1::WorkerMessage& sent, const FrameLimits& limits) {
  v1::WorkerMessage emptied = sent;
  const absl::StatusOr<std::string> frame = ToFrame(&emptied, limits);
  ASSERT_TRUE(frame.ok()) << frame.status();
  v1::WorkerMessage received;
  const absl::Status status = FromFrame(*frame, &received);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(received.eval().pictures_size(), sent.eval().pictures_size());
  for (int i = 0; i < sent.eval().pictures_size(); ++i) {
    EXPECT_EQ(received.eval().pictures(i).data(), sent.eval().pictures(i).data());
    EXPECT_EQ(received.eval().pictures(i).name(), sent.eval().pictures(i).name());
  }
  EXPECT_EQ(received.eval().best_lora(), sent.eval().best_lora());
  EXPECT_EQ(received.eval().rows(), sent.eval().rows());
  EXPECT_EQ(received.eval().parts_mean().at("classifier.correct"), 0.5);
}

TEST(Frame, GivesBackEveryByte) {
  for (const size_t bytes : {0u, 1u, 63u, 64u, 65u, 100'000u}) {
    SCOPED_TRACE(bytes);
    ExpectSame(ReportOf(bytes), {});
    ExpectSame(ReportOf(bytes), {.blob_bytes = 8, .chunk_bytes = 64});
  }
  v1::WorkerMessage heartbeat, received;
  heartbeat.mutable_heartbeat()->set_lease_number(7);
  ASSERT_TRUE(FromFrame(*ToFrame(&heartbeat), &received).ok());
  EXPECT_EQ(received.heartbeat().lease_number(), 7u);
}

TEST(Frame, LargePartsDoNotCountForTheLimit) {
  // As with protobuf's 2 GiB: what is larger as a whole goes through.
  const FrameLimits limits = {.blob_bytes = 1000, .max_head_bytes = 2000, .chunk_bytes = 65536};
  ExpectSame(ReportOf(100'000), limits);
  v1::WorkerMessage large = ReportOf(0);
  large.mutable_warning()->set_message(std::string(2001, 'x'));  // Replaces the report.
  const absl::Status status = ToFrame(&large, limits).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("imageddpo.v1.WorkerMessage"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("at most 2000"));
}

TEST(Frame, ChangedAndMissingBytesAreNoticed) {
  v1::WorkerMessage message = ReportOf(1000);
  const std::string frame = *ToFrame(&message, {.blob_bytes = 100, .chunk_bytes = 256});
  v1::WorkerMessage received;
  ASSERT_TRUE(FromFrame(frame, &received).ok());
  const size_t blobs = 3 * 1000;  // At least the last 3,000 bytes: two pictures and a LoRA.
  ASSERT_GT(frame.size(), blobs);
  for (size_t i = frame.size() - blobs; i < frame.size(); i += 97) {
    std::string changed = frame;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    const absl::Status status = FromFrame(changed, &received);
    EXPECT_TRUE(absl::IsDataLoss(status)) << i;
    EXPECT_THAT(std::string(status.message()), HasSubstr("CRC-32"));
  }
  for (size_t size = 0; size < frame.size(); size += 61) {
    EXPECT_TRUE(absl::IsDataLoss(FromFrame(frame.substr(0, size), &received))) << size;
  }
  EXPECT_TRUE(absl::IsDataLoss(FromFrame(frame + "x", &received)));
  EXPECT_TRUE(absl::IsDataLoss(FromFrame("", &received)));  // What protobuf makes of 2 GiB.
}

}  // namespace
}  // namespace imageddpo
