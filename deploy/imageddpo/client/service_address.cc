#include "deploy/imageddpo/client/service_address.h"

#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/config/service_file.h"

namespace imageddpo {
namespace {

absl::StatusOr<Endpoint> Checked(const std::string& text, const std::string& source) {
  absl::StatusOr<Address> address = Address::Parse(text);
  if (address.ok()) return Endpoint{*std::move(address)};
  return absl::InvalidArgumentError(absl::StrCat(source, " is `", text,
                                                 "`; it must be HOST:PORT, as ", kDefaultAddress,
                                                 ", or unix:PATH, the path of a socket"));
}

}  // namespace

absl::StatusOr<Endpoint> ResolveAddress(const AddressOptions& options,
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
  return Checked(kDefaultAddress, "the default");
}

}  // namespace imageddpo
