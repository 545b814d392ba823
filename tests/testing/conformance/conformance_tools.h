#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/testing/all_ranks.h"
#include "tests/testing/conformance/conformance.h"

namespace imageddpo {

/// float32, float64, bfloat16, int64, uint8, bool.
extern const std::vector<at::ScalarType> kConformanceDtypes;
/// Numbers of elements: 0, 1, odd numbers, more than an MPI envelope holds, and more than an eager
/// message.
extern const std::vector<std::int64_t> kConformanceSizes;

/// [size] on the group's device: a pattern that differs by `seed` and survives every dtype.
at::Tensor Pattern(const Communicator& group, std::int64_t size, at::ScalarType dtype, int seed);
/// [size] of one value, on the group's device.
at::Tensor Filled(const Communicator& group, std::int64_t size, double value,
                  at::ScalarType dtype = at::kFloat);

bool Same(const at::Tensor& a, const at::Tensor& b);
/// "7 elements of Float".
std::string Describe(std::int64_t size, at::ScalarType dtype);

int Next(const Communicator& group);
int Previous(const Communicator& group);

void WaitAll(const std::vector<std::unique_ptr<Work>>& works);

/// Records a finding unless `call` throws a CommError of `kind` whose message contains `words`.
void ExpectCommError(Findings& findings, const std::string& what, CommError::Kind kind,
                     const std::string& words, const std::function<void()>& call);
/// Records a finding unless `call` throws std::invalid_argument.
void ExpectRefused(Findings& findings, const std::string& what, const std::function<void()>& call);

// The two halves of ConformanceCases().
std::vector<ConformanceCase> DataCases();
std::vector<ConformanceCase> ErrorCases();

}  // namespace imageddpo
