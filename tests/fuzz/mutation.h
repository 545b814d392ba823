#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace imageddpo::fuzz {

/// Changes an input the way files break and people forge them: bits and bytes that differ, numbers
/// at their limits, parts that are missing, doubled, moved or of another input. A function of the
/// seeds and of `number` alone, on every machine.
class Mutation {
 public:
  /// @param seeds  at least one; must outlive the object.
  Mutation(const std::vector<std::string>& seeds, uint64_t number)
      : seeds_(seeds), random_(number) {}

  std::string Make();

 private:
  static constexpr size_t kMaxBytes = 1 << 16;

  size_t Below(size_t limit) { return static_cast<size_t>(random_() % limit); }
  void Change(std::string* text);
  void PutNumber(std::string* text);
  /// Puts a number at its limits in place of a run of digits.
  void ChangeDigits(std::string* text);

  const std::vector<std::string>& seeds_;
  std::mt19937_64 random_;
};

}  // namespace imageddpo::fuzz
