#pragma once

#include <c10/core/Device.h>

#include <string>
#include <vector>

#include "common/comm/nccl/gpu_stream.h"
#include "common/comm/nccl/nccl_api.h"

namespace imageddpo {

/// Every call of the table on one device, with a communicator of one rank: what can be known of
/// NCCL itself where there is one GPU only. (A group of one rank makes no such calls.)
/// @return what is wrong; nothing if all is well.
std::vector<std::string> CheckLibraryCalls(const NcclApi& api, GpuStream& stream,
                                           at::Device device);

}  // namespace imageddpo
