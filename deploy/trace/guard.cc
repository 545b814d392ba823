#include "deploy/trace/guard.h"

#include <c10/util/Exception.h>

#include <exception>
#include <iostream>

namespace imageddpo {

int Guard(const char* program, int error_code, const std::function<int()>& main) {
  try {
    return main();
  } catch (const c10::Error& error) {
    std::cerr << program << ": " << error.what_without_backtrace() << "\n";
  } catch (const std::exception& error) {
    std::cerr << program << ": " << error.what() << "\n";
  }
  return error_code;
}

}  // namespace imageddpo
