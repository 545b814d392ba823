#include "common/base/process.h"

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>

#include "absl/strings/str_cat.h"

namespace imageddpo {
namespace {

std::string ReadText(const std::string& path) {
  std::ifstream file(path);
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

std::string ThisHost() {
  std::array<char, 128> link{};
  const ssize_t size = readlink("/proc/self/ns/pid", link.data(), link.size());
  return absl::StrCat(ReadText("/proc/sys/kernel/random/boot_id"), " ",
                      std::string(link.data(), size > 0 ? static_cast<size_t>(size) : 0));
}

/// Field 22 of /proc/<pid>/stat; the name before it may hold spaces and parentheses.
std::optional<uint64_t> StartTicks(int32_t pid) {
  const std::string stat = ReadText(absl::StrCat("/proc/", pid, "/stat"));
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(stat.substr(name_end + 1));
  std::string field;
  for (int number = 3; number < 22; ++number) fields >> field;
  uint64_t ticks = 0;
  if (!(fields >> ticks)) return std::nullopt;
  return ticks;
}

}  // namespace

ProcessId ThisProcess() {
  return {ThisHost(), static_cast<int32_t>(getpid()), StartTicks(getpid()).value_or(0)};
}

absl::Status KillProcess(const ProcessId& process) {
  if (process.pid <= 1 || process.start_ticks == 0 || process.host != ThisHost()) {
    return absl::FailedPreconditionError(
        absl::StrCat("process ", process.pid, " does not run on this host"));
  }
  if (process.pid == getpid()) {
    return absl::FailedPreconditionError("a process does not kill itself");
  }
  const std::optional<uint64_t> start_ticks = StartTicks(process.pid);
  if (!start_ticks.has_value() || *start_ticks != process.start_ticks) return absl::OkStatus();
  if (kill(process.pid, SIGKILL) != 0 && errno != ESRCH) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot kill process ", process.pid));
  }
  return absl::OkStatus();
}

void LowerThreadPriority() {
  constexpr int kLowest = 19;
  static_cast<void>(::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kLowest));
}

}  // namespace imageddpo
