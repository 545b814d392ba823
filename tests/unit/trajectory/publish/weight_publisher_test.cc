#include "common/trajectory/publish/weight_publisher.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <utility>

#include "common/comm/mailbox/mailbox_communicator.h"
#include "common/comm/mailbox/thread_communicator.h"
#include "common/sd/unet.h"
#include "common/trajectory/record/tags.h"
#include "imageddpo/v1/trajectory.pb.h"

namespace imageddpo {
namespace {

constexpr std::chrono::seconds kTimeout{20};

/// Rank 0 leads, ranks 1 and 2 sample; all are driven by the test's thread.
class WeightsTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* source = std::getenv("IMAGEDDPO_SOURCE_DIR");
    const std::string model = std::string(source ? source : ".") + "/deploy/demo/tiny-sd/unet";
    auto unet = Unet::Load(model, {});
    ASSERT_TRUE(unet.ok()) << unet.status();
    unet_ = *std::move(unet);
    const auto normal = [](const std::string&, at::IntArrayRef shape) { return at::randn(shape); };
    published_ = *Lora::Create(unet_->linears(), {}, normal);
    received_ = *Lora::Create(unet_->linears(), {}, normal);
  }

  absl::Status Receive(int rank, int64_t version) {
    WeightReceiver receiver(ranks_[rank].get(), 0, {1, 2});
    return receiver.Receive(version, &received_, unet_.get(), kTimeout);
  }

  /// What the leader's check returns after rank 2 has sent a changed receipt.
  template <typename Change>
  std::string VerdictOn(Change change) {
    v1::WeightReceipt receipt;
    receipt.set_version(4);
    receipt.set_modules_bound(static_cast<int64_t>(published_.modules().size()));
    receipt.set_hash(published_.Hash());
    WeightPublisher publisher(ranks_[0].get(), {1, 2});
    publisher.Announce(published_, 4, published_.Hash());
    EXPECT_TRUE(Receive(1, 4).ok());
    EXPECT_TRUE(Receive(2, 4).ok());
    (void)ranks_[0]->RecvBytes(2, kReceiptTag, kTimeout);  // The unchanged receipt.
    change(&receipt);
    ranks_[2]->SendBytes(receipt.SerializeAsString(), 0, kReceiptTag);
    return publisher.CheckReceipts(kTimeout).ToString();
  }

  std::vector<std::unique_ptr<Communicator>> ranks_ = MakeThreadCommunicators(3);
  std::unique_ptr<Unet> unet_;
  Lora published_, received_;
};

TEST_F(WeightsTest, EveryRankProvesThatItRunsTheVersion) {
  WeightPublisher publisher(ranks_[0].get(), {1, 2});
  EXPECT_EQ(publisher.oldest_unchecked(), -1);
  publisher.Announce(published_, 3, published_.Hash());
  const std::string hash_of_3 = published_.Hash();
  {
    const at::NoGradGuard no_grad;
    published_.Parameters().front().add_(1);  // Training goes on at once.
  }
  publisher.Announce(published_, 4, published_.Hash());
  EXPECT_EQ(publisher.oldest_unchecked(), 3);
  for (const int rank : {1, 2}) {
    ASSERT_TRUE(Receive(rank, 3).ok());
    EXPECT_EQ(received_.Hash(), hash_of_3);
    ASSERT_TRUE(Receive(rank, 4).ok());
    EXPECT_EQ(received_.Hash(), published_.Hash());
  }
  EXPECT_TRUE(publisher.CheckReceipts(kTimeout).ok());
  EXPECT_EQ(publisher.oldest_unchecked(), 4);
  EXPECT_TRUE(publisher.CheckReceipts(kTimeout).ok());
  EXPECT_EQ(publisher.oldest_unchecked(), -1);
}

TEST_F(WeightsTest, ARankThatCannotIsNamed) {
  EXPECT_EQ(VerdictOn([](v1::WeightReceipt*) {}), "OK");
  const auto has = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  const std::string version = VerdictOn([](auto* receipt) { receipt->set_version(3); });
  has(version, "gang rank 2: its LoRA version is 3, expected 4");
  has(VerdictOn([](auto* receipt) { receipt->set_modules_bound(1); }),
      "gang rank 2: its number of bound modules is 1");
  has(VerdictOn([](auto* receipt) { receipt->set_hash("0123"); }),
      "gang rank 2: its LoRA hash is 0123");
}

TEST_F(WeightsTest, ARankRefusesAnotherVersionThanItWaitsFor) {
  WeightPublisher publisher(ranks_[0].get(), {1, 2});
  publisher.Announce(published_, 5, published_.Hash());
  EXPECT_EQ(Receive(1, 4).code(), absl::StatusCode::kInternal);
}

/// Five ranks of which rank 0 leads: it sends to ranks 4, 2 and 1, and rank 2 forwards to rank 3.
class TreeTest : public WeightsTest {
 protected:
  WeightReceiver Receiver(int rank) { return {ranks_[rank].get(), 0, {1, 2, 3, 4}}; }

  /// How the call ends: its error's kind and text.
  template <typename Call>
  static std::pair<CommError::Kind, std::string> ErrorOf(const Call& call) {
    try {
      (void)call();
    } catch (const CommError& error) {
      return {error.kind(), error.what()};
    }
    ADD_FAILURE() << "ended well";
    return {CommError::Kind::kTransport, ""};
  }

  absl::Status ReceiveBy(int rank, std::chrono::milliseconds timeout = kTimeout) {
    return Receiver(rank).Receive(0, &received_, unet_.get(), timeout);
  }

  std::vector<std::shared_ptr<Mailbox>> mailboxes_ = MakeThreadMailboxes(5);
  void SetUp() override {
    WeightsTest::SetUp();
    ranks_.clear();
    for (const auto& mailbox : mailboxes_) {
      ranks_.push_back(std::make_unique<MailboxCommunicator>(mailbox, at::kCPU));
    }
  }
};

TEST_F(TreeTest, ARankThatExpectsTheVersionForwardsItWhileItDoesSomethingElse) {
  WeightReceiver inner = Receiver(2);
  inner.Expect(published_.num_parameters());
  WeightPublisher publisher(ranks_[0].get(), {1, 2, 3, 4});
  publisher.Announce(published_, 0, published_.Hash());
  WeightReceiver below = Receiver(3);
  below.Expect(published_.num_parameters());
  ranks_[2]->SendBytes("a record", 0, kEvalTag);  // Rank 2 samples.
  ASSERT_TRUE(below.Receive(0, &received_, unet_.get(), kTimeout).ok());
  EXPECT_EQ(received_.Hash(), published_.Hash());
  for (const int rank : {1, 4}) ASSERT_TRUE(ReceiveBy(rank).ok());
  ASSERT_TRUE(inner.Receive(0, &received_, unet_.get(), kTimeout).ok());
  EXPECT_TRUE(publisher.CheckReceipts(kTimeout).ok());
}

TEST_F(TreeTest, ARankThatDoesNotComeIsADeadlineThatNamesIt) {
  constexpr std::chrono::milliseconds kDeadline{50};
  WeightPublisher publisher(ranks_[0].get(), {1, 2, 3, 4});
  publisher.Announce(published_, 0, published_.Hash());
  for (const int rank : {1, 4}) ASSERT_TRUE(ReceiveBy(rank).ok());
  const auto below = ErrorOf([&] { return ReceiveBy(3, kDeadline); });
  const auto leader = ErrorOf([&] { return publisher.CheckReceipts(kDeadline); });
  for (const auto& [kind, text] : {below, leader}) {
    EXPECT_EQ(kind, CommError::Kind::kTimeout) << text;
    EXPECT_NE(text.find("rank 2"), std::string::npos) << text;
  }
}

TEST_F(TreeTest, ARankThatDiesEndsTheOthersAtOnce) {
  WeightPublisher publisher(ranks_[0].get(), {1, 2, 3, 4});
  publisher.Announce(published_, 0, published_.Hash());
  for (const int rank : {0, 3}) {  // As a transport tells it.
    mailboxes_[rank]->Fail(CommError::Kind::kPeerFailed, "rank 2 is lost");
  }
  const auto below = ErrorOf([&] { return ReceiveBy(3); });
  const auto leader = ErrorOf([&] { return publisher.CheckReceipts(kTimeout); });
  for (const auto& [kind, text] : {below, leader}) {
    EXPECT_EQ(kind, CommError::Kind::kPeerFailed) << text;
    EXPECT_NE(text.find("rank 2 is lost"), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace imageddpo
