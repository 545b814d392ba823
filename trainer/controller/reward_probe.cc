#include "trainer/controller/reward_probe.h"

#include <optional>
#include <utility>

#include "absl/time/time.h"

namespace imageddpo {

RewardProbe::RewardProbe(Ask ask, Answer answer)
    : ask_(std::move(ask)), answer_(std::move(answer)), thread_([this] { Run(); }) {}

RewardProbe::~RewardProbe() {
  is_stopped_ = true;
  questions_.Close();
  thread_.join();
}

void RewardProbe::Put(const std::string& job_id, const ResolvedJob& job) {
  questions_.Put({job_id, job});
}

void RewardProbe::Run() {
  while (!is_stopped_) {
    const std::optional<Question> question = questions_.Take(absl::InfiniteDuration());
    if (!question.has_value() || is_stopped_) continue;
    const bool is_back = ask_(question->job, [this] { return is_stopped_.load(); });
    answer_(question->job_id, is_back);
  }
}

}  // namespace imageddpo
