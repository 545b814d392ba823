#include "common/trajectory/record/trajectory_inbox.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <future>
#include <string>

#include "common/comm/mailbox/thread_communicator.h"
#include "common/trajectory/record/tags.h"

namespace imageddpo {
namespace {

constexpr std::chrono::seconds kTimeout{20};
constexpr int64_t kBatch = 3, kSteps = 2, kParts = 2;

TrajectoryBatch Record(int64_t epoch, int64_t micro_batch, int64_t version) {
  TrajectoryBatch batch;
  batch.job_id = "job-1";
  batch.epoch = epoch;
  batch.micro_batch = micro_batch;
  batch.first_sample = micro_batch * kBatch;
  batch.weight_version = version;
  batch.image_ids = {"a", "b", "c"};
  batch.prompts = {"cat", "", "dog"};
  batch.keys = {.prompt_hashes = {11, 7, 12}, .negative_hash = 7, .same_tokens = {0, 1, 0}};
  batch.latents = at::randn({kBatch, kSteps + 1, 4, 5, 6});
  batch.timesteps_BK = at::tensor({901, 801, 901, 801, 901, 801}, at::kLong).view({3, 2});
  batch.log_probs_BK = at::randn({kBatch, kSteps});
  batch.rewards_B = at::randn({kBatch}, at::kDouble);
  batch.part_names = {"jpeg.value", "jpeg.bytes"};
  batch.parts_BP = at::randn({kBatch, kParts}, at::kDouble);
  batch.why_dropped = {{"jpeg", "image 'b': no value"}};
  batch.new_embeddings = {{7, at::randn({4, 8})}, {11, at::randn({4, 8})}, {12, at::randn({4, 8})}};
  batch.pictures = {{"0-output.png", std::string(5000, 'p')}};
  batch.sample_seconds = 1.5;
  batch.reward_seconds = 0.25;
  batch.wait_seconds = 0.5;
  return batch;
}

ExpectedRecord Expected(int64_t epoch, int64_t micro_batch, int64_t version,
                        bool with_latents = true) {
  return {.job_id = "job-1",
          .epoch = epoch,
          .micro_batch = micro_batch,
          .batch_size = kBatch,
          .weight_version = version,
          .with_latents = with_latents};
}

bool Never() { return false; }

void ExpectEqual(const TrajectoryBatch& found, const TrajectoryBatch& sent) {
  EXPECT_EQ(found.epoch, sent.epoch);
  EXPECT_EQ(found.micro_batch, sent.micro_batch);
  EXPECT_EQ(found.first_sample, sent.first_sample);
  EXPECT_EQ(found.weight_version, sent.weight_version);
  EXPECT_EQ(found.image_ids, sent.image_ids);
  EXPECT_EQ(found.prompts, sent.prompts);
  EXPECT_EQ(found.keys.prompt_hashes, sent.keys.prompt_hashes);
  EXPECT_EQ(found.keys.same_tokens, sent.keys.same_tokens);
  EXPECT_EQ(found.keys.negative_hash, sent.keys.negative_hash);
  EXPECT_EQ(found.part_names, sent.part_names);
  EXPECT_TRUE(at::equal(found.latents, sent.latents));
  EXPECT_TRUE(at::equal(found.timesteps_BK, sent.timesteps_BK));
  EXPECT_TRUE(at::equal(found.log_probs_BK, sent.log_probs_BK));
  EXPECT_TRUE(at::equal(found.rewards_B, sent.rewards_B));
  EXPECT_TRUE(at::equal(found.parts_BP, sent.parts_BP));
  EXPECT_EQ(found.why_dropped, sent.why_dropped);
  EXPECT_EQ(found.sample_seconds, sent.sample_seconds);
  EXPECT_EQ(found.reward_seconds, sent.reward_seconds);
  EXPECT_EQ(found.wait_seconds, sent.wait_seconds);
}

/// Rank 0 samples, rank 1 trains; both are driven by the test's thread.
class InboxTest : public testing::Test {
 protected:
  std::vector<std::unique_ptr<Communicator>> ranks_ = MakeThreadCommunicators(2);
  TrajectorySender sender_{ranks_[0].get(), 1, 3};
  TrajectoryInbox inbox_{ranks_[1].get(), {0}};
};

TEST_F(InboxTest, EveryFieldArrivesAndEmbeddingsOnce) {
  inbox_.Expect({Expected(4, 0, 3), Expected(4, 1, 3), Expected(4, 2, 3, false)});
  const TrajectoryBatch first = Record(4, 0, 3), second = Record(4, 1, 3), third = Record(4, 2, 3);
  sender_.Send(first, {}, kTimeout);
  sender_.Send(second, {.pictures = false}, kTimeout);
  sender_.Send(third, {.latents = false}, kTimeout);
  const auto received = inbox_.TakeEpoch(kTimeout, Never);
  ASSERT_TRUE(received.ok()) << received.status();
  ASSERT_EQ(received->size(), 3);
  ExpectEqual((*received)[0], first);
  ExpectEqual((*received)[1], second);
  ASSERT_EQ((*received)[0].new_embeddings.size(), 3);
  for (const auto& [hash, embedding] : first.new_embeddings) {
    EXPECT_TRUE(at::equal((*received)[0].new_embeddings.at(hash), embedding));
  }
  EXPECT_TRUE((*received)[1].new_embeddings.empty());
  ASSERT_EQ((*received)[0].pictures.size(), 1);
  EXPECT_EQ((*received)[0].pictures[0].png, first.pictures[0].png);
  EXPECT_TRUE((*received)[1].pictures.empty());
  EXPECT_FALSE((*received)[2].latents.defined());
  EXPECT_TRUE(at::equal((*received)[2].rewards_B, third.rewards_B));
}

TEST_F(InboxTest, EmbeddingsComeAgainInTheNextEpochSoThatNobodyKeepsThem) {
  inbox_.Expect({Expected(0, 0, 0), Expected(0, 1, 0)});
  inbox_.Expect({Expected(1, 0, 0)});
  for (const auto& [epoch, m] : {std::pair<int64_t, int64_t>{0, 0}, {0, 1}, {1, 0}}) {
    sender_.Send(Record(epoch, m, 0), {}, kTimeout);
    ASSERT_TRUE(inbox_.Poll().ok());
  }
  const auto first = inbox_.TakeEpoch(kTimeout, Never), second = inbox_.TakeEpoch(kTimeout, Never);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->at(0).new_embeddings.size(), 3U);
  EXPECT_TRUE(first->at(1).new_embeddings.empty());
  EXPECT_EQ(second->at(0).new_embeddings.size(), 3U);
}

TEST_F(InboxTest, TheMeansOfStepsComeWithTheLatents) {
  std::vector<ExpectedRecord> expected = {Expected(0, 0, 0), Expected(0, 1, 0),
                                          Expected(0, 2, 0, false)};
  expected[0].with_means = expected[0].with_base_means = true;
  expected[1].with_base_means = true;
  inbox_.Expect(expected);
  std::vector<TrajectoryBatch> sent = {Record(0, 0, 0), Record(0, 1, 0), Record(0, 2, 0)};
  for (TrajectoryBatch& record : sent) record.base_means = at::randn({kBatch, kSteps, 4, 5, 6});
  sent[0].means = at::randn({kBatch, kSteps, 4, 5, 6});
  for (size_t m = 0; m < sent.size(); ++m) {
    sender_.Send(sent[m], {.latents = m < 2}, kTimeout);
  }
  const auto received = inbox_.TakeEpoch(kTimeout, Never);
  ASSERT_TRUE(received.ok()) << received.status();
  ExpectEqual((*received)[0], sent[0]);
  EXPECT_TRUE(at::equal((*received)[0].means, sent[0].means));
  EXPECT_TRUE(at::equal((*received)[0].base_means, sent[0].base_means));
  EXPECT_FALSE((*received)[1].means.defined());
  EXPECT_TRUE(at::equal((*received)[1].base_means, sent[1].base_means));
  EXPECT_TRUE(at::equal((*received)[1].latents, sent[1].latents));
  EXPECT_FALSE((*received)[2].base_means.defined()) << "nothing is replayed there";
}

TEST_F(InboxTest, StepsThatDoNotFollowEachOtherComeWithMoreLatents) {
  inbox_.Expect({Expected(0, 0, 0), Expected(0, 1, 0), Expected(0, 2, 0, false)});
  std::vector<TrajectoryBatch> sent = {Record(0, 0, 0), Record(0, 1, 0), Record(0, 2, 0)};
  for (const size_t m : {size_t{0}, size_t{2}}) {
    sent[m].latents = at::randn({kBatch, 2 * kSteps, 4, 5, 6});
    sent[m].latent_of_step = {0, 2};
  }
  for (const TrajectoryBatch& record : sent) {
    sender_.Send(record, {.latents = record.micro_batch < 2}, kTimeout);
  }
  const auto received = inbox_.TakeEpoch(kTimeout, Never);
  ASSERT_TRUE(received.ok()) << received.status();
  for (const size_t m : {size_t{0}, size_t{1}}) ExpectEqual((*received)[m], sent[m]);
  for (size_t m = 0; m < 3; ++m) EXPECT_EQ((*received)[m].latent_of_step, sent[m].latent_of_step);
}

TEST_F(InboxTest, WhatIsPolledNeedsNoCredit) {
  inbox_.Expect({Expected(0, 0, 0), Expected(0, 1, 0)});
  inbox_.Expect({Expected(1, 0, 0), Expected(1, 1, 0)});
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    for (int64_t m = 0; m < 2; ++m) {
      sender_.Send(Record(epoch, m, 0), {}, kTimeout);  // The fourth needs that the first is taken.
      ASSERT_TRUE(inbox_.Poll().ok());
    }
  }
  sender_.Flush(kTimeout);
  EXPECT_EQ(inbox_.TakeEpoch(kTimeout, Never)->front().epoch, 0);
  EXPECT_EQ(inbox_.TakeEpoch(kTimeout, Never)->front().epoch, 1);
}

TEST_F(InboxTest, ASenderWaitsForAReceiverThatIsBehind) {
  for (int64_t m = 0; m < 3; ++m) sender_.Send(Record(0, m, 0), {}, kTimeout);
  try {
    sender_.Send(Record(0, 3, 0), {}, std::chrono::milliseconds(50));
    ADD_FAILURE() << "a fourth record was under way";
  } catch (const CommError& error) {
    EXPECT_EQ(error.kind(), CommError::Kind::kTimeout) << error.what();
  }
}

TEST_F(InboxTest, OnlyExpectedRecordsAreTaken) {
  inbox_.Expect({Expected(0, 0, 0)});
  sender_.Send(Record(0, 0, 0), {}, kTimeout);
  sender_.Send(Record(1, 0, 0), {}, kTimeout);
  ASSERT_TRUE(inbox_.Poll().ok());
  ASSERT_TRUE(inbox_.TakeEpoch(kTimeout, Never).ok());
  EXPECT_THROW(sender_.Flush(std::chrono::milliseconds(50)), CommError);
  inbox_.Expect({Expected(1, 0, 0)});
  ASSERT_TRUE(inbox_.TakeEpoch(kTimeout, Never).ok());
  sender_.Flush(kTimeout);
}

TEST_F(InboxTest, MemoryIsUsedAgainOnceNobodyHoldsIt) {
  for (int64_t epoch = 0; epoch < 3; ++epoch) inbox_.Expect({Expected(epoch, 0, 0)});
  const auto next = [&](int64_t epoch) {
    sender_.Send(Record(epoch, 0, 0), {}, kTimeout);
    return inbox_.TakeEpoch(kTimeout, Never)->front().latents;
  };
  at::Tensor first = next(0);
  const void* const memory = first.const_data_ptr();
  const at::Tensor values = first.clone();
  at::Tensor view = first.select(0, 1);
  first = at::Tensor();
  EXPECT_NE(next(1).const_data_ptr(), memory) << "a view of it is still held";
  EXPECT_TRUE(at::equal(view, values.select(0, 1)));
  view = at::Tensor();
  EXPECT_EQ(next(2).const_data_ptr(), memory);
}

TEST_F(InboxTest, AStopEndsTheWait) {
  inbox_.Expect({Expected(0, 0, 0)});
  EXPECT_EQ(inbox_.TakeEpoch(kTimeout, [] { return true; }).status().code(),
            absl::StatusCode::kCancelled);
  EXPECT_EQ(TrajectoryInbox(ranks_[1].get(), {0}).TakeEpoch(kTimeout, Never).status().code(),
            absl::StatusCode::kInternal);
}

TEST(Inbox, EpochsAreInOrderWhateverTheOrderOfArrival) {
  // Three rollout ranks, seven micro-batches; the last rank is first.
  const auto ranks = MakeThreadCommunicators(4);
  TrajectoryInbox inbox(ranks[3].get(), {0, 1, 2});
  std::vector<ExpectedRecord> expected;
  for (int64_t m = 0; m < 7; ++m) {
    expected.push_back(Expected(0, m, 0));
    expected.back().sampler = static_cast<int>(m % 3);
  }
  inbox.Expect(expected);
  auto taken = std::async(std::launch::async, [&] { return inbox.TakeEpoch(kTimeout, Never); });
  for (const int rank : {2, 1, 0}) {
    TrajectorySender sender(ranks[rank].get(), 3);
    for (int64_t m = rank; m < 7; m += 3) sender.Send(Record(0, m, 0), {}, kTimeout);
    if (rank == 0) sender.Flush(kTimeout);
  }
  const auto received = taken.get();
  ASSERT_TRUE(received.ok()) << received.status();
  for (int64_t m = 0; m < 7; ++m) EXPECT_EQ((*received)[m].micro_batch, m);
}

struct Wrong {
  std::string what;
  std::function<void(TrajectoryBatch*)> change;
};

class WrongRecord : public testing::TestWithParam<Wrong> {};

TEST_P(WrongRecord, IsRefusedByName) {
  const auto ranks = MakeThreadCommunicators(2);
  TrajectorySender sender(ranks[0].get(), 1);
  TrajectoryInbox inbox(ranks[1].get(), {0});
  inbox.Expect({Expected(5, 0, 4), Expected(5, 1, 4)});
  sender.Send(Record(5, 0, 4), {}, kTimeout);
  TrajectoryBatch wrong = Record(5, 1, 4);
  GetParam().change(&wrong);
  sender.Send(wrong, {}, kTimeout);
  const absl::Status status = inbox.TakeEpoch(kTimeout, Never).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_NE(std::string(status.message()).find("gang rank 0: " + GetParam().what),
            std::string::npos)
      << status;
}

INSTANTIATE_TEST_SUITE_P(
    Inbox, WrongRecord,
    testing::Values(Wrong{"job_id", [](auto* r) { r->job_id = "job-2"; }},
                    Wrong{"epoch", [](auto* r) { r->epoch = 6; }},
                    Wrong{"micro_batch", [](auto* r) { r->micro_batch = 3; }},
                    Wrong{"weight_version", [](auto* r) { r->weight_version = 5; }},
                    Wrong{"shape",
                          [](auto* r) {
                            r->latents = at::randn({3, 3, 4, 5, 7});
                          }},
                    Wrong{"has_means",
                          [](auto* r) {
                            r->means = at::randn({3, 2, 4, 5, 6});
                          }},
                    Wrong{"has_base_means",
                          [](auto* r) {
                            r->base_means = at::randn({3, 2, 4, 5, 6});
                          }},
                    Wrong{"number of latent_of_step", [](auto* r) { r->latent_of_step = {0}; }},
                    Wrong{"latent_of_step",
                          [](auto* r) {
                            r->latent_of_step = {0, 3};
                          }},
                    Wrong{"number of prompts", [](auto* r) { r->prompts.pop_back(); }},
                    Wrong{"number of rewards",
                          [](auto* r) { r->rewards_B = at::ones({2}, at::kDouble); }},
                    Wrong{"number of log_probs",
                          [](auto* r) {
                            r->log_probs_BK = at::ones({3, 3});
                          }}),
    [](const auto& info) {
      std::string name = info.param.what;
      std::replace(name.begin(), name.end(), ' ', '_');
      return name;
    });

TEST(Inbox, BytesThatAreNoHeadAreRefused) {
  const auto ranks = MakeThreadCommunicators(2);
  TrajectoryInbox inbox(ranks[1].get(), {0});
  inbox.Expect({Expected(0, 0, 0)});
  ranks[0]->Send(at::full({1}, 3, at::kLong), 1, kTrajectoryTag);
  ranks[0]->Send(at::full({3}, 255, at::kByte), 1, kTrajectoryTag);
  EXPECT_NE(std::string(inbox.Poll().message()).find("header cannot be read"), std::string::npos);

  TrajectoryInbox other(ranks[0].get(), {1});
  other.Expect({Expected(0, 0, 0)});
  ranks[1]->Send(at::full({1}, -3, at::kLong), 0, kTrajectoryTag);
  EXPECT_NE(std::string(other.Poll().message()).find("-3 bytes"), std::string::npos);
}

}  // namespace
}  // namespace imageddpo
