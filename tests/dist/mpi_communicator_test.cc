// The conformance suite over real processes: every process runs this program; each case forms a
// gang of the first `n` ranks.

#include <gtest/gtest.h>

#include <numeric>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/comm/meeting.h"
#include "common/comm/mpi/gang.h"
#include "common/comm/mpi/mpi_messenger.h"
#include "common/comm/mpi/mpi_runtime.h"
#include "tests/dist/conformance_group.h"
#include "tests/testing/exchange/exchange_cases.h"

namespace imageddpo {
namespace {

constexpr int kRanks = 8;

MpiMessenger* messenger = nullptr;  // Of the process; GoogleTest has no other way in.

std::vector<int> FirstRanks(int count) {
  std::vector<int> ranks(static_cast<std::size_t>(count));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

absl::StatusOr<std::unique_ptr<Communicator>> MakeGang(
    const std::vector<int>& members, const std::string& tag,
    std::chrono::milliseconds timeout = kConformanceTimeout) {
  auto gang = OpenGang(*messenger, members, tag, at::kCPU);
  if (!gang.ok()) {
    return gang;
  }
  if (const auto met = MeetGang(**gang, absl::StrJoin(members, ","), timeout); !met.ok()) {
    (*gang)->Abort(std::string(met.message()));
    return met;
  }
  return gang;
}

class MpiConformance : public testing::TestWithParam<std::tuple<ConformanceCase, int>> {};

TEST_P(MpiConformance, Holds) {
  const auto& [conformance_case, world_size] = GetParam();
  if (messenger->world_rank() >= world_size) {
    return;  // This process is not in the gang.
  }
  auto gang = MakeGang(FirstRanks(world_size), absl::StrCat(conformance_case.name, world_size));
  ASSERT_TRUE(gang.ok()) << gang.status();
  for (const std::string& what : RunConformanceCase(conformance_case, *std::move(gang))) {
    ADD_FAILURE() << "rank " << messenger->world_rank() << ": " << what;
  }
}

INSTANTIATE_TEST_SUITE_P(Mpi, MpiConformance,
                         testing::Combine(testing::ValuesIn(ConformanceCases()),
                                          testing::Range(1, kRanks + 1)),
                         [](const auto& info) {
                           return std::get<0>(info.param).name + "_" +
                                  std::to_string(std::get<1>(info.param));
                         });

INSTANTIATE_TEST_SUITE_P(MpiOfATraining, MpiConformance,
                         testing::Combine(testing::ValuesIn(ExchangeCases()),
                                          testing::Values(1, 2, 3, 5, 8)),
                         [](const auto& info) {
                           return std::get<0>(info.param).name + "_" +
                                  std::to_string(std::get<1>(info.param));
                         });

TEST(MpiGang, MembersAloneFormItInTheirOwnOrder) {
  const std::vector<int> members = {3, 1};
  const int self = messenger->world_rank();
  if (self != 1 && self != 3) {
    return;
  }
  auto gang = MakeGang(members, "three and one");
  ASSERT_TRUE(gang.ok()) << gang.status();
  EXPECT_EQ((*gang)->world_size(), 2);
  EXPECT_EQ((*gang)->rank(), self == 3 ? 0 : 1);
  (*gang)->SendBytes(absl::StrCat("from ", self), 1 - (*gang)->rank(), 1);
  EXPECT_EQ((*gang)->RecvBytes(1 - (*gang)->rank(), 1, kConformanceTimeout),
            absl::StrCat("from ", 4 - self));
}

TEST(MpiGang, BadListsAreRefused) {
  const int self = messenger->world_rank();
  const auto code = [](const std::vector<int>& ranks, const std::string& tag) {
    return MakeGang(ranks, tag).status().code();
  };
  EXPECT_EQ(code({}, "bad1"), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({(self + 1) % kRanks}, "bad2"), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({self, self}, "bad3"), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({self, kRanks}, "bad4"), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({self}, absl::StrCat("once ", self)), absl::StatusCode::kOk);
  EXPECT_EQ(code({self}, absl::StrCat("once ", self)), absl::StatusCode::kAlreadyExists);
}

TEST(MpiGang, AMemberThatDoesNotComeIsADeadline) {
  if (messenger->world_rank() > 1) {
    return;
  }
  const auto gang = MakeGang({0, 1, 2}, "without two", std::chrono::milliseconds(300));
  // Whoever runs out of time first tells the other.
  EXPECT_TRUE(absl::IsDeadlineExceeded(gang.status()) || absl::IsAborted(gang.status()))
      << gang.status();
}

TEST(MpiGang, MembersThatDisagreeDoNotStart) {
  const int self = messenger->world_rank();
  auto gang = OpenGang(*messenger, FirstRanks(kRanks), "disagreement", at::kCPU);
  ASSERT_TRUE(gang.ok()) << gang.status();
  const auto met = MeetGang(**gang, self == 2 ? "another list" : "one list", kConformanceTimeout);
  EXPECT_TRUE(absl::IsFailedPrecondition(met)) << met;
  // Nobody may close the gang while another still waits for its answer.
  EXPECT_TRUE(MakeGang(FirstRanks(kRanks), "after the disagreement").ok());
}

TEST(MpiGang, FiftyOneAfterTheOther) {
  for (int i = 0; i < 50; ++i) {
    auto gang = MakeGang(FirstRanks(kRanks), absl::StrCat("gang ", i));
    ASSERT_TRUE(gang.ok()) << gang.status();
    (*gang)->SendBytes(std::string(10'000, 'x'), ((*gang)->rank() + 1) % kRanks,
                       1);  // Nobody receives it.
  }
}

}  // namespace
}  // namespace imageddpo

int main(int argc, char** argv) {
  auto runtime = imageddpo::MpiRuntime::Start(&argc, &argv);
  if (!runtime.ok() || (*runtime)->world_size() != imageddpo::kRanks) {
    return 2;  // A suite that cannot run fails.
  }
  GTEST_FLAG_SET(brief, (*runtime)->world_rank() != 0);  // One report is enough.
  testing::InitGoogleTest(&argc, argv);
  int result = 1;
  {
    imageddpo::MpiMessenger own_messenger(**runtime, {});
    imageddpo::messenger = &own_messenger;
    result = RUN_ALL_TESTS();
    // Nobody leaves while another rank still looks at what the last test did.
    const auto all = imageddpo::OpenGang(own_messenger, imageddpo::FirstRanks(imageddpo::kRanks),
                                         "end", at::kCPU);
    if (!all.ok() || !imageddpo::MeetGang(**all, "end", std::chrono::seconds(30)).ok()) result = 1;
    own_messenger.Leave("the tests are over", std::chrono::seconds(5));
  }
  (*runtime)->Finish(result);
  return result;
}
