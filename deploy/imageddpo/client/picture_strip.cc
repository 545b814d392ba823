#include "deploy/imageddpo/client/picture_strip.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/status.h"
#include "deploy/imageddpo/client/download.h"

namespace imageddpo {
namespace {

constexpr int kStripGap = 4;

absl::StatusOr<Image> ReadStripPicture(Client& client, const std::string& job_id, int64_t epoch,
                                       const std::string& name) {
  const std::string path = absl::StrFormat("eval/epoch-%06d/%s", epoch, name);
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string file, ReadArtifact(client, job_id, path));
  IMAGEDDPO_ASSIGN_OR_RETURN(const Image image, DecodeImage(file, path));
  const double width = static_cast<double>(kStripHeight) * image.width / image.height;
  return Resize(image, std::max(1, static_cast<int>(std::lround(width))), kStripHeight);
}

}  // namespace

absl::StatusOr<Image> ReadPictureStrip(Client& client, const std::string& job_id,
                                       int64_t first_epoch, int64_t newest_epoch, int most) {
  std::vector<Image> row;
  for (int i = 0; i < most; ++i) {
    const std::string input = absl::StrCat(i, "-input.png"),
                      output = absl::StrCat(i, "-output.png");
    std::vector<std::pair<int64_t, std::string>> wanted = {{newest_epoch, input},
                                                           {first_epoch, output}};
    if (newest_epoch != first_epoch) wanted.emplace_back(newest_epoch, output);
    for (const auto& [epoch, name] : wanted) {
      absl::StatusOr<Image> image = ReadStripPicture(client, job_id, epoch, name);
      if (absl::IsNotFound(image.status()) && i > 0) return Tile({row}, kStripGap);
      IMAGEDDPO_RETURN_IF_ERROR(image.status());
      row.push_back(*std::move(image));
    }
  }
  return Tile({row}, kStripGap);
}

}  // namespace imageddpo
