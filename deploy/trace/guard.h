#pragma once

#include <functional>

namespace imageddpo {

/// Runs the main function of a program that computes. What it throws ends the program with
/// `error_code` and one line: its name and the message, without libtorch's backtrace.
int Guard(const char* program, int error_code, const std::function<int()>& main);

}  // namespace imageddpo
