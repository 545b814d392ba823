// A library to preload into imageddpod, for allocations.py: a thread that writes the allocator's
// own statistics into a file, <pid> in the folder that COUNT_ALLOCATIONS names, every few
// milliseconds.
#include <fcntl.h>
#include <jemalloc/jemalloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

namespace {

constexpr std::chrono::milliseconds kInterval(2);

/// As allocations.py reads it. Written by one thread.
struct Statistics {
  std::atomic<uint64_t> calls;           ///< Allocations since the process started.
  std::atomic<uint64_t> live_bytes;      ///< In blocks that are not freed.
  std::atomic<uint64_t> resident_bytes;  ///< In pages that the allocator holds.
};

template <typename T>
T Read(const char* name) {
  T value = 0;
  size_t size = sizeof(value);
  if (mallctl(name, &value, &size, nullptr, 0) != 0) std::abort();
  return value;
}

void Write(Statistics* to) {
  for (;;) {
    uint64_t epoch = 1;  // Brings the statistics up to date.
    if (mallctl("epoch", nullptr, nullptr, &epoch, sizeof(epoch)) != 0) std::abort();
    to->calls = Read<uint64_t>("stats.arenas.4096.small.nrequests") +
                Read<uint64_t>("stats.arenas.4096.large.nrequests");  // 4096: all arenas together.
    to->live_bytes = Read<size_t>("stats.allocated");
    to->resident_bytes = Read<size_t>("stats.resident");
    std::this_thread::sleep_for(kInterval);
  }
}

[[gnu::constructor]] void Start() {
  const char* folder = std::getenv("COUNT_ALLOCATIONS");
  if (folder == nullptr || std::strcmp(program_invocation_short_name, "imageddpod") != 0) return;
  const std::string path = std::string(folder) + "/" + std::to_string(getpid());
  const int file = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (file < 0 || ftruncate(file, sizeof(Statistics)) != 0) std::abort();
  void* mapped = mmap(nullptr, sizeof(Statistics), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (mapped == MAP_FAILED) std::abort();
  close(file);
  std::thread(Write, static_cast<Statistics*>(mapped)).detach();
}

}  // namespace
