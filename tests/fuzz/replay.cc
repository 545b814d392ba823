// Runs a target without libFuzzer, so that every `make test` with any compiler keeps it alive: over
// its seeds, and over changes of them that are the same at every run.
//
// usage: fuzz_NAME SEED_LIST INPUTS [NUMBER FILE]
//
// SEED_LIST names a file or folder of seeds a line. INPUTS are run in all, the seeds first; with
// NUMBER, that one alone is written to FILE.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/fuzz/inputs.h"
#include "tests/fuzz/mutation.h"

namespace imageddpo::fuzz {
namespace {

/// An input that takes longer than this is a finding too.
constexpr unsigned kMaxSeconds = 30;

std::string ContentOf(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  Require(static_cast<bool>(file), "every seed can be read");
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::vector<std::string> SeedsOf(const std::string& list) {
  std::vector<std::string> seeds = MadeSeeds();
  std::ifstream lines(list);
  Require(static_cast<bool>(lines), "the list of seeds can be read");
  for (std::string line; std::getline(lines, line);) {
    if (line.empty()) continue;
    std::vector<std::filesystem::path> paths = {line};
    if (std::filesystem::is_directory(line)) {
      paths.assign(std::filesystem::directory_iterator(line),
                   std::filesystem::directory_iterator());
      std::sort(paths.begin(), paths.end());
    }
    for (const std::filesystem::path& path : paths) seeds.push_back(ContentOf(path));
  }
  Require(!seeds.empty(), "there is a seed");
  return seeds;
}

std::string InputOf(const std::vector<std::string>& seeds, uint64_t number) {
  return number < seeds.size() ? seeds[number] : Mutation(seeds, number).Make();
}

/// Runs all inputs in a child, which may end in any way. @return the exit code.
int Run(const std::string& call, const std::vector<std::string>& seeds, uint64_t inputs) {
  void* const page =
      ::mmap(nullptr, sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  Require(page != MAP_FAILED, "the system gives shared memory");
  auto* const number = static_cast<volatile uint64_t*>(page);
  const pid_t child = ::fork();
  Require(child >= 0, "the system gives a process");
  if (child == 0) {
    for (uint64_t i = 0; i < inputs; ++i) {
      *number = i;
      const std::string input = InputOf(seeds, i);
      ::alarm(kMaxSeconds);
      Read(input);
    }
    std::exit(0);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
  }
  if (status == 0) {
    std::cout << inputs << " inputs, " << seeds.size() << " of them seeds\n";
    return 0;
  }
  std::cout << "input " << *number
            << (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? " took too long"
                                                                   : " ended the process")
            << " (status " << status << "). It is written by\n  " << call << " " << *number
            << " input\n";
  return 1;
}

int Main(const std::vector<std::string>& arguments) {
  if (arguments.size() != 3 && arguments.size() != 5) {
    std::cerr << "usage: " << arguments.front() << " SEED_LIST INPUTS [NUMBER FILE]\n";
    return 2;
  }
  const std::vector<std::string> seeds = SeedsOf(arguments[1]);
  const uint64_t inputs = std::max<uint64_t>(std::stoull(arguments[2]), seeds.size());
  if (arguments.size() == 3) {
    return Run(arguments[0] + " " + arguments[1] + " " + arguments[2], seeds, inputs);
  }
  std::ofstream file(arguments[4], std::ios::binary);
  file << InputOf(seeds, std::stoull(arguments[3]));
  return file.flush() ? 0 : 1;
}

}  // namespace
}  // namespace imageddpo::fuzz

int main(int argc, char** argv) {
  LLVMFuzzerInitialize(&argc, &argv);
  return imageddpo::fuzz::Main({argv, argv + argc});
}
