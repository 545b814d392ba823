#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/io/image.h"
#include "rollout/data/listing/example.h"

// Whether the images of a set can be read.
namespace imageddpo {

/// The decoded image of an example. Errors name the file.
absl::StatusOr<Image> ReadExampleImage(const ExampleTable& examples, int64_t i);

/// An example whose image or target cannot be read.
struct BadExample {
  int64_t index = 0;
  absl::Status status;  ///< Names the file, and its real format where that is known.
};

struct CheckOptions {
  int num_threads = 1;
  std::function<bool()> is_stopped;  ///< Asked often, by any thread; may be empty.
};

/// What the headers of all files say.
struct HeaderScan {
  std::vector<BadExample> bad;        ///< Ascending.
  std::vector<uint64_t> sizes_bytes;  ///< Of each example's file; 0 where it is not there.
};

/// Reads the header of every file, on several threads: about 20 µs a file that the kernel has
/// cached.
/// @return CANCELLED: it was stopped. The error of the disk where it is no fault of a file.
absl::StatusOr<HeaderScan> ScanHeaders(const ExampleTable& examples, const CheckOptions& options);

/// Decodes every image and target, on several threads. Holds one image for each thread.
/// @param use  is called with each image that could be decoded, by one thread at a time; with null
///             for one that could not. May be empty.
/// @return the bad ones, ascending. Errors as ScanHeaders().
absl::StatusOr<std::vector<BadExample>> DecodeAll(
    const ExampleTable& examples, const CheckOptions& options,
    const std::function<void(int64_t i, const Image* image)>& use = {});

/// "20 of 2000 images of '/data' cannot be read:", then a line for each of the first 20.
std::string BadImagesText(const std::string& path, int64_t num_listed,
                          const std::vector<std::string>& faults);

/// Decodes images once on a thread of its own with the lowest priority, so that a bad one is found
/// long before it is drawn. Thread-safe.
class BackgroundDecode {
 public:
  /// @param examples  outlives this object. @param share  indices into it.
  /// @param was_read  whether an example's image, and its target where it has one, were decoded
  ///                  elsewhere in the meantime: it is passed over then. Asked on the thread of
  ///                  this object; may be empty.
  BackgroundDecode(const ExampleTable* examples, std::vector<int64_t> share,
                   std::function<bool(int64_t)> was_read = {});
  ~BackgroundDecode();  ///< Stops after the image that is being decoded.
  BackgroundDecode(const BackgroundDecode&) = delete;
  BackgroundDecode& operator=(const BackgroundDecode&) = delete;

  bool done() const { return done_.load(std::memory_order_acquire); }
  /// INVALID_ARGUMENT naming what was found so far.
  absl::Status status() const;

 private:
  void Run(const std::vector<int64_t>& share);

  const ExampleTable* const examples_;
  const std::function<bool(int64_t)> was_read_;
  std::atomic<bool> stop_{false}, done_{false};
  mutable absl::Mutex mutex_;
  std::vector<std::string> faults_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace imageddpo
