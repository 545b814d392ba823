#pragma once

namespace imageddpo {

/// Exit code of a rank that wants the whole service to be started again.
inline constexpr int kExitRestart = 75;

}  // namespace imageddpo
