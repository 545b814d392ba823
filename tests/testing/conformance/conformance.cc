#include "tests/testing/conformance/conformance.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>

#include <exception>
#include <stdexcept>

#include "absl/strings/str_cat.h"
#include "tests/testing/conformance/conformance_tools.h"

namespace imageddpo {

const std::vector<at::ScalarType> kConformanceDtypes = {at::kFloat, at::kDouble, at::kBFloat16,
                                                        at::kLong,  at::kByte,   at::kBool};
const std::vector<std::int64_t> kConformanceSizes = {0, 1, 7, 1001, 65'537};

at::Tensor Pattern(const Communicator& group, std::int64_t size, at::ScalarType dtype, int seed) {
  const int values = dtype == at::kBool ? 2 : 19;
  return at::arange(size, at::kLong)
      .mul(7)
      .add(seed * 3)
      .remainder(values)
      .to(dtype)
      .to(group.device());
}

at::Tensor Filled(const Communicator& group, std::int64_t size, double value,
                  at::ScalarType dtype) {
  return at::full({size}, value, at::TensorOptions().dtype(dtype).device(group.device()));
}

bool Same(const at::Tensor& a, const at::Tensor& b) { return at::equal(a, b); }

std::string Describe(std::int64_t size, at::ScalarType dtype) {
  return absl::StrCat(size, " elements of ", toString(dtype));
}

int Next(const Communicator& group) { return (group.rank() + 1) % group.world_size(); }

int Previous(const Communicator& group) {
  return (group.rank() + group.world_size() - 1) % group.world_size();
}

void WaitAll(const std::vector<std::unique_ptr<Work>>& works) {
  for (const auto& work : works) {
    work->Wait(kConformanceTimeout);
  }
}

void ExpectCommError(Findings& findings, const std::string& what, CommError::Kind kind,
                     const std::string& words, const std::function<void()>& call) {
  try {
    call();
    findings.Expect(false, what + ": ended well");
  } catch (const CommError& error) {
    const bool fits =
        error.kind() == kind && std::string(error.what()).find(words) != std::string::npos;
    findings.Expect(
        fits, absl::StrCat(what, ": error of kind ", static_cast<int>(error.kind()), ", expected ",
                           static_cast<int>(kind), " with \"", words, "\": ", error.what()));
  }
}

void ExpectRefused(Findings& findings, const std::string& what, const std::function<void()>& call) {
  try {
    call();
    findings.Expect(false, what + ": was accepted");
  } catch (const std::invalid_argument&) {
    return;
  }
}

std::vector<ConformanceCase> ConformanceCases() {
  std::vector<ConformanceCase> cases = DataCases();
  for (const auto& one : ErrorCases()) {
    cases.push_back(one);
  }
  return cases;
}

std::vector<std::string> RunConformanceCase(const ConformanceCase& conformance_case,
                                            std::unique_ptr<Communicator> group) {
  Findings findings;
  try {
    conformance_case.run(std::move(group), findings);
  } catch (const std::exception& error) {
    findings.Expect(false, error.what());
  }
  return findings.wrong();
}

}  // namespace imageddpo
