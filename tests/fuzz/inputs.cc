#include "tests/fuzz/inputs.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>

namespace imageddpo::fuzz {

void Require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

MemoryFile::MemoryFile(std::string_view bytes) : fd_(::memfd_create("input", MFD_CLOEXEC)) {
  Require(fd_ >= 0, "the system gives a file in memory");
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t written = ::write(fd_, bytes.data() + done, bytes.size() - done);
    Require(written > 0, "a file in memory can be written");
    done += static_cast<size_t>(written);
  }
}

MemoryFile::~MemoryFile() { ::close(fd_); }

std::string MemoryFile::path() const { return "/proc/self/fd/" + std::to_string(fd_); }

}  // namespace imageddpo::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  imageddpo::fuzz::Read({reinterpret_cast<const char*>(data), size});
  return 0;
}

extern "C" int LLVMFuzzerInitialize(int* /*argc*/, char*** /*argv*/) {
  const char* const folder = std::getenv("FUZZ_WRITE_SEEDS");
  if (folder == nullptr) return 0;
  int number = 0;
  for (const std::string& seed : imageddpo::fuzz::MadeSeeds()) {
    std::ofstream file(std::string(folder) + "/made-" + std::to_string(number++), std::ios::binary);
    file << seed;
    imageddpo::fuzz::Require(static_cast<bool>(file.flush()), "a seed can be written");
  }
  std::_Exit(0);
}
