#include "common/kernels/gpu/cuda_launcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;

/// A host with two GPUs that answers as NVIDIA's driver does, and keeps what it is asked for. The
/// handle of device d's context is &contexts[d]; each thread has a current one of its own.
struct FakeDriver {
  int contexts[2] = {}, module = 0, function = 0, stream = 0;
  std::vector<void*> made_current;
  std::vector<std::string> launched;
  std::string loaded;
  std::string failing;  ///< The call that answers with an error.
  static thread_local void* current;

  int Answer(const std::string& call) const { return call == failing ? 999 : 0; }

  CudaDriver Table() {
    return {.capability =
                [this](int, int* major, int* minor) {
                  *major = 9;
                  *minor = 0;
                  return Answer("capability");
                },
            .primary_context =
                [this](int ordinal, void** context) {
                  *context = &contexts[ordinal];
                  return Answer("primary_context");
                },
            .current_context =
                [](void** context) {
                  *context = current;
                  return 0;
                },
            .make_current =
                [this](void* context) {
                  made_current.push_back(context);
                  current = context;
                  return Answer("make_current");
                },
            .load =
                [this](const void* cubin, void** to) {
                  loaded = static_cast<const char*>(cubin);
                  *to = &module;
                  return Answer("load");
                },
            .find =
                [this](void* in, const char*, void** found) {
                  *found = in == &module ? &function : nullptr;
                  return Answer("find");
                },
            .launch =
                [this](void* what, const GpuLaunch& launch, void* on) {
                  const bool right = what == &function && on == &stream && current == &contexts[1];
                  launched.push_back(right ? launch.kernel : "wrongly");
                  return Answer("launch");
                },
            .error_text = [](int error) { return "error " + std::to_string(error); },
            .stream = [this](at::Device) -> void* { return &stream; }};
  }

  absl::StatusOr<std::unique_ptr<CudaLauncher>> Make() {
    current = nullptr;
    return CudaLauncher::Create(
        at::Device(at::kCUDA, 1), Table(), [](const std::string&, int capability) {
          return absl::StatusOr<std::string>("code for " + std::to_string(capability));
        });
  }
};

thread_local void* FakeDriver::current = nullptr;

GpuLaunch OneLaunch() {
  return {.kernel = "geglu_f32", .blocks = {1, 1}, .threads = 32, .arguments = nullptr};
}

TEST(CudaLauncher, CompilesForItsGpuAndLaunchesOnTheCurrentStream) {
  FakeDriver driver;
  const auto launcher = driver.Make();
  ASSERT_TRUE(launcher.ok()) << launcher.status();
  EXPECT_EQ(driver.loaded, "code for 90");
  (*launcher)->Launch(at::Device(at::kCUDA, 1), OneLaunch());
  EXPECT_EQ(driver.launched, std::vector<std::string>{"geglu_f32"});
  EXPECT_TRUE((*launcher)->Reaches(at::Device(at::kCUDA, 1)));
  EXPECT_FALSE((*launcher)->Reaches(at::Device(at::kCUDA, 0)));
  EXPECT_FALSE((*launcher)->Reaches(at::kCPU));
}

// A context on another rank's GPU takes half a gigabyte of it.
TEST(CudaLauncher, MakesNoOtherDevicesContextCurrentAndItsOwnOncePerThread) {
  FakeDriver driver;
  const auto launcher = driver.Make();
  ASSERT_TRUE(launcher.ok()) << launcher.status();
  const auto launch_twice = [&] {
    for (int i = 0; i < 2; ++i) (*launcher)->Launch(at::Device(at::kCUDA, 1), OneLaunch());
  };
  launch_twice();
  EXPECT_EQ(driver.made_current, std::vector<void*>{&driver.contexts[1]});
  std::thread(launch_twice).join();  // As the thread of a backward pass.
  EXPECT_EQ(driver.made_current, (std::vector<void*>{&driver.contexts[1], &driver.contexts[1]}));
  EXPECT_EQ(driver.launched, std::vector<std::string>(4, "geglu_f32"));
}

TEST(CudaLauncher, SaysWhatTheDriverSays) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"capability", "asked about cuda:1: NVIDIA's driver says error 999"},
      {"primary_context", "the context of cuda:1: NVIDIA's driver says error 999"},
      {"make_current", "the context of cuda:1: NVIDIA's driver says error 999"},
      {"load", "the kernels cannot be loaded: NVIDIA's driver says error 999"},
      {"find", "the kernel geglu_f32 is not found: NVIDIA's driver says error 999"}};
  for (const auto& [call, text] : cases) {
    FakeDriver driver;
    driver.failing = call;
    const auto launcher = driver.Make();
    EXPECT_EQ(launcher.status().code(), absl::StatusCode::kInternal) << call;
    EXPECT_THAT(std::string(launcher.status().message()), HasSubstr(text));
  }
  FakeDriver driver;
  driver.failing = "launch";
  const auto launcher = driver.Make();
  ASSERT_TRUE(launcher.ok()) << launcher.status();
  try {
    (*launcher)->Launch(at::Device(at::kCUDA, 1), OneLaunch());
    FAIL() << "the launch's error was not seen";
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), HasSubstr("the kernel geglu_f32 cannot be launched on cuda:1: "
                                        "NVIDIA's driver says error 999"));
  }
}

}  // namespace
}  // namespace imageddpo
