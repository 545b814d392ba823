#include "tests/gpu_check/trace.h"

#include <torch/csrc/autograd/profiler_kineto.h>

#include <set>

#include "tests/gpu_check/device.h"

namespace imageddpo {

void Trace(at::Device device, const std::string& file, const std::function<void()>& work) {
  namespace profiler = torch::autograd::profiler;
  using torch::profiler::impl::ActivityType;
  const torch::profiler::impl::ProfilerConfig config(torch::profiler::impl::ProfilerState::KINETO);
  std::set<ActivityType> activities = {ActivityType::CPU};
  if (device.is_cuda()) activities.insert(ActivityType::CUDA);
  profiler::prepareProfiler(config, activities);
  profiler::enableProfiler(config, activities,
                           {at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION});
  work();
  Synchronize(device);
  profiler::disableProfiler()->save(file);
}

}  // namespace imageddpo
