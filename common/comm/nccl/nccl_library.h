#pragma once

#include "common/comm/nccl/nccl_api.h"

namespace imageddpo {

/// The table of the real NCCL library. In the CUDA configuration only.
NcclApi MakeNcclApi();

}  // namespace imageddpo
