#pragma once

#include <vector>

#include "tests/testing/conformance/conformance.h"

namespace imageddpo {

/// What trainers and rollout ranks send each other in an update and for a new LoRA version, as
/// cases for groups of any size, run by RunConformanceCase(): the same bits as one rank alone has,
/// and no more bytes than the headers say. Loads the demo's UNet: run from the source's root.
std::vector<ConformanceCase> ExchangeCases();

}  // namespace imageddpo
