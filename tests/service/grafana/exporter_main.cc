// Shows every metric that there is, with values that move, until standard input ends. Prints its
// port.

#include <poll.h>
#include <unistd.h>

#include <iostream>

#include "tests/testing/full_exporter.h"

int main() {
  imageddpo::FullExporter exporter;
  std::cout << exporter.port() << std::endl;
  while (true) {
    pollfd input{STDIN_FILENO, POLLIN, 0};
    if (poll(&input, 1, 500) > 0) return 0;
    exporter.Step();
  }
}
