#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "rollout/data/listing/listing.h"

namespace imageddpo {

/// What `imageddpo check-data` finds out about a set of images. Counts; no images are kept.
class DataSummary {
 public:
  /// @param width,height  what images will be scaled and cropped to; 0: not asked for.
  DataSummary(int width, int height) : width_(width), height_(height) {}

  /// An image that could be decoded.
  void Add(const std::string& format, int width, int height);

  /// @param faults  a line for each image that cannot be read.
  std::string ToText(const Listing& listing, const std::vector<std::string>& faults) const;
  std::string ToJson(const Listing& listing, const std::vector<std::string>& faults) const;

 private:
  int width_, height_;
  std::map<std::string, int64_t> formats_;
  std::map<std::pair<int, int>, int64_t> sizes_;
  int64_t enlarged_ = 0, cropped_ = 0;
};

}  // namespace imageddpo
