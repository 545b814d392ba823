#include "common/comm/valid_texts.h"

#include <gtest/gtest.h>

#include "imageddpo/v1/control.pb.h"
#include "imageddpo/v1/job.pb.h"

namespace imageddpo {
namespace {

TEST(MakeTextsValid, ReachesEveryTextAndNoBytes) {
  v1::WorkerMessage message;
  message.mutable_ended()->set_message("caf\xe9");
  MakeTextsValid(&message);
  EXPECT_EQ(message.ended().message(), "caf\\xE9");
  EXPECT_TRUE(v1::WorkerMessage().ParseFromString(message.SerializeAsString()));

  (*message.mutable_eval()->mutable_parts_mean())["r\xff"] = 2;
  auto* picture = message.mutable_eval()->add_pictures();
  picture->set_name("\xe9.png");
  picture->set_data("\x89PNG");
  MakeTextsValid(&message);
  EXPECT_EQ(message.eval().parts_mean().at("r\\xFF"), 2);
  EXPECT_EQ(message.eval().pictures(0).name(), "\\xE9.png");
  EXPECT_EQ(message.eval().pictures(0).data(), "\x89PNG");
  v1::WorkerMessage read;
  EXPECT_TRUE(read.ParseFromString(message.SerializeAsString()));
  EXPECT_EQ(read.eval().parts_mean().size(), 1u);
}

TEST(MakeTextsValid, LeavesNamesThatAreEscapedAlready) {
  v1::WorkerMessage message;
  message.mutable_ended()->set_message("image 'caf\\xE9.png': cannot open /data/caf\xe9.png");
  MakeTextsValid(&message);
  EXPECT_EQ(message.ended().message(), "image 'caf\\xE9.png': cannot open /data/caf\\xE9.png");
}

}  // namespace
}  // namespace imageddpo
