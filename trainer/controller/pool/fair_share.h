#pragma once

#include <map>
#include <string>
#include <vector>

namespace imageddpo {

/// How much of the pool each owner has taken lately: the rank-seconds of its jobs, of which those
/// from one half-life ago count half. Knows no clock: it is told the time, in seconds since 1970.
/// A clock that was set back adds nothing. Thread-compatible.
class FairShare {
 public:
  /// @param half_life_s  0: everybody's usage is 0, so that only other things decide.
  explicit FairShare(double half_life_s) : half_life_s_(half_life_s) {}

  struct Usage {
    std::string owner;
    double rank_seconds = 0;  ///< As it counted at `at_s`.
    double at_s = 0;
  };
  /// What an earlier run of the service has counted.
  void Load(const Usage& usage);

  /// The owner's jobs have `change` ranks more (fewer, if negative) from now on.
  void RanksChanged(const std::string& owner, int change, double now_s);

  /// Rank-seconds as they count now; of ranks that work now too.
  double UsageOf(const std::string& owner, double now_s) const;
  int RanksOf(const std::string& owner) const;  ///< That work now.

  /// Brings all counts up to now and forgets owners with almost none. @return what is to be stored.
  std::vector<Usage> Settle(double now_s);

 private:
  struct Count {
    double rank_seconds = 0;
    double at_s = 0;
    int ranks = 0;
  };
  double At(const Count& count, double now_s) const;

  double half_life_s_;
  std::map<std::string, Count> counts_;  // By owner.
};

}  // namespace imageddpo
