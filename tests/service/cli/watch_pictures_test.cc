// `imageddpo watch` on a terminal that shows pictures, as a process.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/io/image.h"
#include "tests/service/cli/fake_service.h"
#include "tests/service/cli/program.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class WatchPicturesTest : public ::testing::Test {
 protected:
  /// A job that was evaluated at its beginning and its end.
  WatchPicturesTest() {
    v1::Job job;
    job.set_id("job-000001");
    job.mutable_spec()->set_name("deblur");
    job.mutable_spec()->set_num_epochs(6);
    job.set_state(v1::SUCCEEDED);
    service_.SetJob(job);
    v1::JobEvent event;
    for (const int64_t epoch : {0, 6}) {
      event.mutable_eval()->set_epoch(epoch);
      service_.AddEvent(event);
    }
    event.mutable_state()->set_state(v1::SUCCEEDED);
    service_.AddEvent(event);
  }

  void AddPictures() {
    const Image grey{.width = 4, .height = 4, .rgb = std::vector<uint8_t>(48, 128)};
    for (const char* name :
         {"0/0-input.png", "0/0-output.png", "6/0-input.png", "6/0-output.png"}) {
      service_.SetFile(absl::StrCat("eval/epoch-00000", name), *EncodePng(grey));
    }
  }

  std::string Watch(const std::string& how) {
    return OnTerminal({"--address", service_.address(), "watch", "job-000001", "--pictures", how},
                      70);
  }

  TempDir dir_;
  FakeService service_;
};

TEST_F(WatchPicturesTest, TheNewestAreBesideTheFirstOnes) {
  AddPictures();
  const std::string text = Watch("blocks");
  EXPECT_THAT(text, HasSubstr("held-out images: input, after 0, after 6 epochs\r\n\x1b[38;"));
  int blocks = 0;
  for (size_t at = text.find("m▀"); at != std::string::npos; at = text.find("m▀", at + 1)) ++blocks;
  EXPECT_EQ(blocks, 61 * 10);
  EXPECT_THAT(text, HasSubstr("job-000001 SUCCEEDED after"));
  EXPECT_THAT(Watch("kitty"), HasSubstr("\x1b_Ga=T,f=100,q=2,c=61,r=10,m="));
}

TEST_F(WatchPicturesTest, ThereAreNoneWhereTheyAreNotWantedOrNotThere) {
  EXPECT_THAT(Watch("blocks"), Not(HasSubstr("held-out images"))) << "there are no files";
  AddPictures();
  EXPECT_THAT(Watch("none"), Not(HasSubstr("held-out images")));
  ClientProgram piped(
      dir_.path(), {"--address", service_.address(), "watch", "job-000001", "--pictures", "kitty"});
  EXPECT_EQ(piped.Wait(), 0) << piped.err();
  EXPECT_THAT(piped.out(), HasSubstr("evaluation after 6 epochs"));
  EXPECT_THAT(piped.out(), Not(HasSubstr("\x1b"))) << "no terminal";
}

}  // namespace
}  // namespace imageddpo
