#include "deploy/demo/prepare.h"

#include <cstdio>
#include <optional>
#include <vector>

#include "deploy/demo/demo_data.h"

namespace imageddpo::demo {
namespace {

absl::Status WriteFolders(const Split& split, const std::vector<FolderPlan>& plans) {
  for (const FolderPlan& plan : plans) {
    const absl::StatusOr<bool> written = WriteFolder(split, plan);
    if (!written.ok()) return written.status();
    std::printf("%s: %d images%s\n", plan.path.c_str(), plan.count,
                *written ? "" : ", already there");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Prepare(const DataOptions& options) {
  const absl::StatusOr<Split> train = ReadSplit(options.dataset, "train");
  if (!train.ok()) return train.status();
  const absl::StatusOr<Split> test = ReadSplit(options.dataset, "test");
  if (!test.ok()) return test.status();
  const FolderPlan blurred{options.output / "blurred", options.sigma_px, options.train_count};
  const FolderPlan held_out{options.output / "held-out", options.sigma_px, options.held_out_count};
  const FolderPlan clean{options.output / "held-out-clean", std::nullopt, options.held_out_count};
  if (absl::Status status = WriteFolders(*train, {blurred}); !status.ok()) return status;
  return WriteFolders(*test, {held_out, clean});
}

}  // namespace imageddpo::demo
