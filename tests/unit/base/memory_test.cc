#include "common/base/memory.h"

#include <gtest/gtest.h>

#ifdef IMAGEDDPO_JEMALLOC
#include <jemalloc/jemalloc.h>

#include <cstring>
#include <vector>
#endif

namespace imageddpo {
namespace {

#ifdef IMAGEDDPO_JEMALLOC

size_t ResidentBytes() {
  uint64_t epoch = 1;
  mallctl("epoch", nullptr, nullptr, &epoch, sizeof(epoch));
  size_t resident = 0, size = sizeof(resident);
  EXPECT_EQ(mallctl("stats.resident", &resident, &size, nullptr, 0), 0);
  return resident;
}

TEST(Memory, WhatIsFreedIsKeptUntilItIsGivenBack) {
  KeepFreeMemory();
  constexpr size_t kBlock = size_t{1} << 20, kBlocks = 32, kLarge = size_t{32} << 20;
  const size_t before = ResidentBytes();
  std::vector<char*> blocks;
  for (size_t i = 0; i < kBlocks; ++i) blocks.push_back(new char[kBlock]);
  blocks.push_back(new char[kLarge]);
  for (size_t i = 0; i < kBlocks; ++i) std::memset(blocks[i], 1, kBlock);
  std::memset(blocks.back(), 1, kLarge);
  for (const char* block : blocks) delete[] block;
  EXPECT_GE(ResidentBytes(), before + kBlocks * kBlock + kLarge);
  ReturnFreeMemory();
  EXPECT_LT(ResidentBytes(), before + kBlock * 4);
}

#else

TEST(Memory, CallsDoNothingWithAnotherAllocator) {
  KeepFreeMemory();
  ReturnFreeMemory();
}

#endif

}  // namespace
}  // namespace imageddpo
