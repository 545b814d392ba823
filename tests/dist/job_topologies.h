#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/io/image.h"
#include "common/io/image_tensor.h"
#include "tests/dist/job_runner.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {

/// Small jobs with the demo's model on eleven made-up images, to be run on several topologies.
class JobTopologies : public testing::Test {
 protected:
  static constexpr int kEpochs = 4;

  static void SetUpTestSuite() {
    dir_ = new TempDir();
    at::manual_seed(5);
    for (int i = 0; i < 11; ++i) {
      const at::Tensor image = at::rand({3, 4, 4}).repeat_interleave(8, 1).repeat_interleave(8, 2);
      const std::string folder = i < 8 ? "train" : "held-out";
      dir_->Write(absl::StrCat(folder, "/", i, ".png"), *EncodePng(TensorToImage(image)));
    }
  }
  static void TearDownTestSuite() {
    delete dir_;
    dir_ = nullptr;
  }

  /// kEpochs, the demo's model and the made-up images.
  static void SetModelAndData(v1::JobSpec* job) {
    const char* source = std::getenv("IMAGEDDPO_SOURCE_DIR");
    job->set_num_epochs(kEpochs);
    job->mutable_model()->set_path(absl::StrCat(source ? source : ".", "/deploy/demo/tiny-sd"));
    job->mutable_data()->set_path(*dir_ / "train");
    job->mutable_eval()->set_path(*dir_ / "held-out");
  }

  static void ExpectSame(const JobOutcome& outcome, const JobOutcome& reference,
                         const Topology& topology) {
    EXPECT_EQ(outcome.rows, reference.rows) << topology.ToString();
    EXPECT_EQ(outcome.evaluations, reference.evaluations) << topology.ToString();
    ASSERT_EQ(outcome.checkpoints.size(), reference.checkpoints.size()) << topology.ToString();
    for (const auto& [epoch, checkpoint] : outcome.checkpoints) {
      const v1::Checkpoint& other = reference.checkpoints.at(epoch);
      EXPECT_EQ(checkpoint.state(), other.state()) << topology.ToString() << ", epoch " << epoch;
      EXPECT_EQ(checkpoint.SerializeAsString(), other.SerializeAsString())
          << topology.ToString() << ", epoch " << epoch;
    }
  }

  /// Continues the job after `epoch` of its epochs on another topology.
  static void ExpectSameAfterAResume(const v1::JobSpec& job, const JobOutcome& whole, int epoch,
                                     const Topology& topology) {
    const JobOutcome resumed = RunOnThreads(job, topology, &whole.checkpoints.at(epoch));
    const size_t rows_before = whole.rows.size() / kEpochs * static_cast<size_t>(epoch);
    const std::string where = absl::StrCat("after epoch ", epoch, " on ", topology.ToString());
    EXPECT_EQ(resumed.rows,
              std::vector<std::string>(
                  whole.rows.begin() + static_cast<std::ptrdiff_t>(rows_before), whole.rows.end()))
        << where;
    ASSERT_TRUE(resumed.checkpoints.contains(kEpochs)) << where;
    EXPECT_EQ(resumed.checkpoints.at(kEpochs).SerializeAsString(),
              whole.checkpoints.at(kEpochs).SerializeAsString())
        << where;
    for (const auto& [version, evaluation] : resumed.evaluations) {
      EXPECT_EQ(evaluation, whole.evaluations.at(version)) << where << ", version " << version;
    }
    EXPECT_TRUE(resumed.evaluations.contains(kEpochs)) << where;
  }

  inline static TempDir* dir_ = nullptr;
};

}  // namespace imageddpo
