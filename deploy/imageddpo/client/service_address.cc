#include "deploy/imageddpo/client/service_address.h"

#include <fstream>
#include <iterator>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/config/service_file.h"

namespace imageddpo {
namespace {

absl::StatusOr<std::string> Checked(const std::string& address, const std::string& source) {
  const size_t colon = address.rfind(':');
  int port = 0;
  const bool has_port = colon != std::string::npos && colon > 0 &&
                        absl::SimpleAtoi(address.substr(colon + 1), &port) && port >= 1 &&
                        port <= 65535;
  const bool is_plain = address.find_first_of("/ \t\n") == std::string::npos;
  if (has_port && is_plain) return address;
  return absl::InvalidArgumentError(
      absl::StrCat(source, " is `", address, "`; it must be HOST:PORT, as ", kDefaultAddress));
}

}  // namespace

absl::StatusOr<std::string> ResolveAddress(const AddressOptions& options,
                                           const std::string& environment) {
  if (!options.address.empty()) return Checked(options.address, "--address");
  if (!options.service_file.empty()) {
    std::ifstream stream(options.service_file, std::ios::binary);
    if (!stream) {
      return absl::UnavailableError(
          absl::StrCat(options.service_file,
                       " cannot be read; a running service writes it into its data_dir, so "
                       "perhaps none runs. Start one: deploy/imageddpod-run -n 3"));
    }
    const std::string text((std::istreambuf_iterator<char>(stream)),
                           std::istreambuf_iterator<char>());
    IMAGEDDPO_ASSIGN_OR_RETURN(const ServiceFile file,
                               ParseServiceFile(text, options.service_file));
    return Checked(file.grpc_address, absl::StrCat("`grpc_address` of ", options.service_file));
  }
  if (!environment.empty()) return Checked(environment, absl::StrCat("$", kAddressVariable));
  return std::string(kDefaultAddress);
}

}  // namespace imageddpo
