// Writes a TorchScript file whose forward() has the source on the standard input:
//   reward_script FILE CONTRACT < SOURCE     CONTRACT: the text of the imageddpo.json inside
#include <iostream>
#include <iterator>
#include <string>

#include "tests/unit/reward/script_writer.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: reward_script FILE CONTRACT < SOURCE\n";
    return 2;
  }
  const std::string source(std::istreambuf_iterator<char>(std::cin), {});
  imageddpo::WriteScript(argv[1], source, {{"imageddpo.json", argv[2]}});
  return 0;
}
