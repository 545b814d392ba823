#pragma once

#include "common/comm/nccl/nccl_api.h"

namespace imageddpo {

/// The table of the NCCL library itself. Part of the CUDA configuration only.
NcclApi MakeNcclApi();

}  // namespace imageddpo
