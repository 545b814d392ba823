#include "rollout/data/listing/check.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/process.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/io/image_probe.h"
#include "rollout/data/listing/npy.h"

namespace imageddpo {
namespace {

constexpr int64_t kExamplesPerTurn = 16;
constexpr size_t kFaultsShown = 20;
constexpr size_t kMaxFaultBytes = 500;

/// Whether the file itself is at fault, so that reading it again gives the same.
bool IsFaultOfFile(const absl::Status& status) {
  return absl::IsInvalidArgument(status) || absl::IsNotFound(status) ||
         absl::IsPermissionDenied(status) || absl::IsDataLoss(status);
}

/// Calls `check` for all examples from several threads and collects the bad ones.
absl::StatusOr<std::vector<BadExample>> CheckAll(
    int64_t count, const CheckOptions& options, const std::function<absl::Status(int64_t)>& check) {
  std::atomic<int64_t> next{0};
  std::atomic<bool> stopped{false};
  absl::Mutex mutex;
  std::vector<BadExample> bad;
  absl::Status error;
  const auto work = [&] {
    while (!stopped) {
      const int64_t begin = next.fetch_add(kExamplesPerTurn);
      if (begin >= count) return;
      if (options.is_stopped && options.is_stopped()) {
        const absl::MutexLock lock(&mutex);
        stopped = true;
        error.Update(absl::CancelledError("stopped while the images were checked"));
        return;
      }
      for (int64_t i = begin; i < std::min(begin + kExamplesPerTurn, count); ++i) {
        absl::Status status = check(i);
        if (status.ok()) continue;
        const absl::MutexLock lock(&mutex);
        if (IsFaultOfFile(status)) {
          bad.push_back({i, std::move(status)});
        } else {
          stopped = true;
          error.Update(status);
        }
      }
    }
  };
  std::vector<std::thread> threads;
  const int64_t turns = (count + kExamplesPerTurn - 1) / kExamplesPerTurn;
  for (int64_t t = 1; t < std::min<int64_t>(options.num_threads, turns); ++t) {
    threads.emplace_back(work);
  }
  work();
  for (std::thread& thread : threads) thread.join();
  if (!error.ok()) return error;
  std::sort(bad.begin(), bad.end(),
            [](const BadExample& a, const BadExample& b) { return a.index < b.index; });
  return bad;
}

absl::Status CheckTarget(const ExampleTable& examples, int64_t i, bool decode) {
  const std::string target = examples.target_file_name(i);
  if (target.empty()) return absl::OkStatus();
  const absl::Status status = decode ? ReadImage(target).status() : ProbeImage(target).status();
  return Annotate(status, absl::StrCat("the target of '", examples.id(i), "'"));
}

}  // namespace

absl::StatusOr<Image> ReadExampleImage(const ExampleTable& examples, int64_t i) {
  const std::string file = examples.file_name(i);
  return examples.row(i) >= 0 ? ReadNpyImage(file, examples.row(i)) : ReadImage(file);
}

absl::StatusOr<HeaderScan> ScanHeaders(const ExampleTable& examples, const CheckOptions& options) {
  HeaderScan scan;
  scan.sizes_bytes.resize(static_cast<size_t>(examples.size()));
  IMAGEDDPO_ASSIGN_OR_RETURN(
      scan.bad, CheckAll(examples.size(), options, [&](int64_t i) -> absl::Status {
        const std::string file = examples.file_name(i);
        struct stat info {};
        if (::stat(file.c_str(), &info) == 0) {
          scan.sizes_bytes[static_cast<size_t>(i)] = static_cast<uint64_t>(info.st_size);
        }
        // An array's head was read when it was listed.
        if (examples.row(i) < 0) IMAGEDDPO_RETURN_IF_ERROR(ProbeImage(file).status());
        return CheckTarget(examples, i, /*decode=*/false);
      }));
  return scan;
}

absl::StatusOr<std::vector<BadExample>> DecodeAll(
    const ExampleTable& examples, const CheckOptions& options,
    const std::function<void(int64_t, const Image*)>& use) {
  absl::Mutex mutex;
  return CheckAll(examples.size(), options, [&](int64_t i) -> absl::Status {
    const absl::StatusOr<Image> image = ReadExampleImage(examples, i);
    if (use) {
      const absl::MutexLock lock(&mutex);
      use(i, image.ok() ? &*image : nullptr);
    }
    if (!image.ok()) return image.status();
    return CheckTarget(examples, i, /*decode=*/true);
  });
}

std::string BadImagesText(const std::string& path, int64_t num_listed,
                          const std::vector<std::string>& faults) {
  std::string text = absl::StrCat(faults.size(), " of ", num_listed, " images of '",
                                  ValidText(path), "' cannot be read:");
  for (size_t i = 0; i < std::min(kFaultsShown, faults.size()); ++i) {
    // A line each, whatever the file's name holds.
    absl::StrAppend(&text, "\n  ", Excerpt(Printable(faults[i]), kMaxFaultBytes));
  }
  if (faults.size() > kFaultsShown) {
    absl::StrAppend(&text, "\n  and ", faults.size() - kFaultsShown, " more");
  }
  return text;
}

BackgroundDecode::BackgroundDecode(const ExampleTable* examples, std::vector<int64_t> share,
                                   std::function<bool(int64_t)> was_read)
    : examples_(examples), was_read_(std::move(was_read)) {
  thread_ = std::thread([this, share = std::move(share)] { Run(share); });
}

BackgroundDecode::~BackgroundDecode() {
  stop_ = true;
  thread_.join();
}

void BackgroundDecode::Run(const std::vector<int64_t>& share) {
  LowerThreadPriority();
  for (const int64_t i : share) {
    if (stop_) return;
    if (was_read_ && was_read_(i)) continue;
    absl::Status status = ReadExampleImage(*examples_, i).status();
    status.Update(CheckTarget(*examples_, i, /*decode=*/true));
    if (status.ok()) continue;
    const absl::MutexLock lock(&mutex_);
    faults_.emplace_back(status.message());
  }
  done_.store(true, std::memory_order_release);
}

absl::Status BackgroundDecode::status() const {
  const absl::MutexLock lock(&mutex_);
  if (faults_.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(BadImagesText(examples_->folder(), examples_->size(), faults_),
                   "\nremove or repair them, or set `data.on_error: skip`"));
}

}  // namespace imageddpo
