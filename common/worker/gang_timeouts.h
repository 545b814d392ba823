#pragma once

#include <chrono>

namespace imageddpo {

/// How long a rank waits for another rank of its gang. A dead or stopped peer is noticed much
/// sooner, by the transport or by the controller, which then aborts the gang; these only bound what
/// nothing else does.
inline constexpr std::chrono::hours kPhaseTimeout{24};  ///< For a peer's share of an epoch.
inline constexpr std::chrono::minutes kStepTimeout{
    60};  ///< For one micro-batch or update of a peer.
inline constexpr std::chrono::minutes kSetupTimeout{30};  ///< For a peer that loads its model.

}  // namespace imageddpo
