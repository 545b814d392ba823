#pragma once

#include <functional>

namespace imageddpo {

/// Runs the main function of a program that computes. What it throws ends the program with one
/// line,
/// "<program>: <message>", without libtorch's backtrace, and with `error_code`.
int Guard(const char* program, int error_code, const std::function<int()>& main);

}  // namespace imageddpo
