#pragma once

// Sizes that a kernel and its launch (fused_kernels.cc) have to agree on.

/// Elements that one thread reads and writes at once.
constexpr int kPack = 4;

constexpr int kMostNormChannels = 4096;
constexpr int kMostNormGroups = 256;

constexpr int kLowRows = 64;      // Rows of x that a block takes,
constexpr int kLowOutputs = 32;   // and rows of `down` (a warp's threads stand on them).
constexpr int kLowThreads = 256;  // blockDim.x
