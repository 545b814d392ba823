#pragma once

#include <dlfcn.h>

namespace imageddpo {

/// Looks for a function of a library that was opened with dlopen().
/// @param function  set to it, or to nullptr.
/// @return whether the library has it.
template <typename Function>
bool FindCall(void* library, const char* name, Function** function) {
  *function = reinterpret_cast<Function*>(dlsym(library, name));
  return *function != nullptr;
}

}  // namespace imageddpo
