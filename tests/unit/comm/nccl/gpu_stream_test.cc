// The stream of a communicator over a stub of CUDA's runtime: it sets no device but its own.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "common/comm/communicator.h"
#include "common/comm/nccl/gpu_runtime.h"

namespace imageddpo {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

/// As CUDA's runtime: a thread's current device is 0 until another one is set.
class StubRuntime {
 public:
  GpuRuntime Table() {
    return {.get_device =
                [this](int* device) {
                  const std::lock_guard lock(mutex_);
                  *device = Current();
                  return 0;
                },
            .set_device =
                [this](int device) {
                  const std::lock_guard lock(mutex_);
                  current_[std::this_thread::get_id()] = device;
                  set_.push_back(device);
                  return 0;
                },
            .create_stream = [this](void** stream) { return Create(stream); },
            .destroy_stream = [this](void*) { return Destroy(); },
            .create_event = [this](void** event) { return Create(event); },
            .destroy_event = [this](void*) { return Destroy(); },
            .record_event = [this](void*, void*) { return record_result; },
            .query_event = [this](void*) { return query_result; },
            .wait_event = [](void*, void*) { return 0; },
            .copy = [](void*, const void*, std::size_t, void*) { return 0; },
            .current_stream = [](int) -> void* { return nullptr; },
            .describe = [](int error) { return "error " + std::to_string(error); }};
  }

  std::vector<int> set() const { return set_; }          ///< Devices, in the order of the calls.
  std::vector<int> made_on() const { return made_on_; }  ///< Where streams and events were made.
  int alive() const { return alive_; }
  int record_result = 0, query_result = GpuRuntime::kNotReady;

 private:
  int Current() { return current_[std::this_thread::get_id()]; }
  int Create(void** object) {
    const std::lock_guard lock(mutex_);
    *object = this;
    made_on_.push_back(Current());
    ++alive_;
    return 0;
  }
  int Destroy() {
    const std::lock_guard lock(mutex_);
    --alive_;
    return 0;
  }

  std::mutex mutex_;
  std::map<std::thread::id, int> current_;
  std::vector<int> set_, made_on_;
  int alive_ = 0;
};

TEST(GpuStream, SetsItsOwnDeviceOnceOnEachThreadAndNoOther) {
  StubRuntime stub;
  {
    const std::unique_ptr<GpuStream> stream = MakeGpuStream(stub.Table(), 3);
    const std::unique_ptr<GpuEvent> ready = stream->MarkCaller();
    std::thread issuing([&] {
      stream->BindThread();
      stream->WaitFor(*ready);
      stream->Copy(nullptr, nullptr, 0);
      const std::unique_ptr<GpuEvent> done = stream->Mark();
      EXPECT_FALSE(done->Done());
      stub.query_result = 0;
      EXPECT_TRUE(done->Done());
    });
    issuing.join();
    stream->MarkCaller();
    EXPECT_THAT(stub.set(), ElementsAre(3, 3)) << "this thread and the issuing one";
  }
  EXPECT_THAT(stub.set(), SizeIs(2)) << "nothing is set back at the end";
  EXPECT_THAT(stub.made_on(), Each(3));
  EXPECT_EQ(stub.alive(), 0);
}

TEST(GpuStream, OfTheCurrentDeviceSetsNone) {
  StubRuntime stub;
  MakeGpuStream(stub.Table(), 0)->MarkCaller();
  EXPECT_THAT(stub.set(), SizeIs(0));
}

TEST(GpuStream, ErrorsSayWhatCudaSays) {
  StubRuntime stub;
  const std::unique_ptr<GpuStream> stream = MakeGpuStream(stub.Table(), 1);
  stub.record_result = 719;
  try {
    stream->Mark();
    FAIL() << "no error";
  } catch (const CommError& error) {
    EXPECT_EQ(error.kind(), CommError::Kind::kTransport);
    EXPECT_THAT(error.what(), HasSubstr("error 719"));
  }
  EXPECT_EQ(stub.alive(), 1) << "the event is gone, the stream is there";
  stub.record_result = 0;
  const std::unique_ptr<GpuEvent> event = stream->Mark();
  stub.query_result = 700;
  EXPECT_THROW(event->Done(), CommError);
}

}  // namespace
}  // namespace imageddpo
