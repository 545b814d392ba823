// Seconds and memory of opening a set of many images, the second time: open_bench FOLDER COUNT.
// Makes the set below FOLDER (links to few files, in sub-folders, each with a line of
// metadata.jsonl) and prints JSON.

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "common/base/host.h"
#include "common/io/image.h"
#include "nlohmann/json.hpp"
#include "rollout/data/listing/open_set.h"

namespace imageddpo {
namespace {

namespace fs = std::filesystem;

constexpr int kPerFolder = 1000;

void MakeSet(const fs::path& folder, int count) {
  std::vector<uint8_t> rgb(size_t{32} * 32 * 3);
  for (size_t i = 0; i < rgb.size(); ++i) rgb[i] = static_cast<uint8_t>(i * 31);
  const std::string png = *EncodePng({.width = 32, .height = 32, .rgb = rgb});
  std::ofstream metadata(folder / "metadata.jsonl");
  fs::path original;
  for (int i = 0; i < count; ++i) {
    const std::string name = absl::StrFormat("%03d/%06d.png", i / kPerFolder, i);
    if (i % kPerFolder == 0) {
      original = folder / name;
      fs::create_directories(original.parent_path());
      std::ofstream(original, std::ios::binary) << png;
    } else {
      fs::create_hard_link(original, folder / name);
    }
    metadata << absl::StrFormat(
                    R"({"file_name": "%s", "text": "a picture of thing number %d", "label": %d})",
                    name, i, i % kPerFolder)
             << "\n";
  }
}

int64_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  int64_t total = 0, resident = 0;
  file >> total >> resident;
  return resident * 4096;
}

int Main(int argc, char** argv) {
  int count = 0;
  if (argc != 3 || !absl::SimpleAtoi(argv[2], &count) || count < 1) {
    std::cerr << "usage: open_bench FOLDER COUNT\n";
    return 2;
  }
  MakeSet(argv[1], count);
  OpenOptions options;
  options.check.num_threads = std::max(4, AvailableProcessors());
  static_cast<void>(OpenSet(argv[1], options));  // The first time, the kernel reads the disk.
  const int64_t before_bytes = ResidentBytes();
  const auto start = std::chrono::steady_clock::now();
  const absl::StatusOr<OpenedSet> set = OpenSet(argv[1], options);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!set.ok() || set->listing.examples.size() != count) {
    std::cerr << "open_bench: " << set.status() << "\n";
    return 1;
  }
  std::cout << nlohmann::json{{"images", count},
                              {"open_seconds", seconds},
                              {"resident_bytes", ResidentBytes()},
                              {"resident_bytes_before", before_bytes}}
                   .dump()
            << std::endl;
  return 0;
}

}  // namespace
}  // namespace imageddpo

int main(int argc, char** argv) { return imageddpo::Main(argc, argv); }
