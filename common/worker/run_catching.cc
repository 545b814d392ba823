#include "common/worker/run_catching.h"

#include <c10/util/Exception.h>

#include <exception>
#include <new>
#include <stdexcept>

#include "absl/strings/str_cat.h"
#include "common/comm/communicator.h"

namespace imageddpo {

absl::Status RunCatching(const std::function<absl::Status()>& job) {
  try {
    return job();
  } catch (const CommError& error) {
    return ToStatus(error);
  } catch (const c10::OutOfMemoryError& error) {
    return absl::ResourceExhaustedError(error.what_without_backtrace());
  } catch (const c10::Error& error) {
    const std::string message = error.what_without_backtrace();
    // The CPU allocator has no error type of its own.
    return message.find("not enough memory") != std::string::npos ||
                   message.find("alloc_cpu") != std::string::npos
               ? absl::ResourceExhaustedError(message)
               : absl::InternalError(message);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("the host's memory is used up");
  } catch (const std::invalid_argument& error) {
    return absl::InvalidArgumentError(error.what());
  } catch (const std::exception& error) {
    return absl::InternalError(error.what());
  } catch (...) {
    return absl::InternalError("an exception that is no std::exception");
  }
}

}  // namespace imageddpo
