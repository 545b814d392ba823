#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// libFuzzer's entries. The first calls Read(); the second, with FUZZ_WRITE_SEEDS in the
/// environment, writes MadeSeeds() into that folder and exits.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv);

namespace imageddpo::fuzz {

/// A target of this folder is one file that defines these two. Reads one input from outside. A
/// finding is whatever ends the process: an exception, a signal, a sanitizer's report, Require().
void Read(std::string_view input);
/// Inputs that are no files of the tree.
std::vector<std::string> MadeSeeds();

/// Ends the process where what the header of a reader promises does not hold.
void Require(bool holds, const char* what);

/// An input as a file in memory, for readers that take a path.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes);
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::string path() const;

 private:
  const int fd_;
};

}  // namespace imageddpo::fuzz
