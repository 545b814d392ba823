#pragma once

#include <chrono>

namespace imageddpo {

/// Deadlines for waiting for another rank of the gang. A dead or stopped peer is noticed much
/// sooner, by the transport or by the controller, which then aborts the gang; these bound the waits
/// that nothing else ends.
inline constexpr std::chrono::hours kPhaseTimeout{24};  ///< For a peer's share of an epoch.
inline constexpr std::chrono::minutes kStepTimeout{
    60};  ///< For one micro-batch or update of a peer.
inline constexpr std::chrono::minutes kSetupTimeout{30};  ///< For a peer that loads its model.

}  // namespace imageddpo
