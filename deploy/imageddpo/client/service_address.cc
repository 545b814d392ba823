#include "deploy/imageddpo/client/service_address.h"

#include <cstdlib>
#include <filesystem>
#include <initializer_list>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/config/service_file.h"
#include "common/io/file.h"
#include "deploy/imageddpo/client/contexts.h"

namespace imageddpo {
namespace {

absl::StatusOr<Address> Checked(const std::string& text, const std::string& source) {
  absl::StatusOr<Address> address = Address::Parse(text);
  if (address.ok()) return address;
  return absl::InvalidArgumentError(absl::StrCat(source, " is `", text,
                                                 "`; it must be HOST:PORT, as gpu1:50051, or "
                                                 "unix:PATH, the path of a socket"));
}

/// The first that is not empty.
std::string FirstOf(std::initializer_list<std::string> values) {
  for (const std::string& value : values) {
    if (!value.empty()) return value;
  }
  return "";
}

/// An address, and what goes with it alone.
struct Place {
  Address address;
  Context context;
};

absl::StatusOr<Place> FromServiceFile(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadFile(path);
  if (!text.ok()) {
    return absl::UnavailableError(
        absl::StrCat(path,
                     " cannot be read; a running service writes it into its data_dir, so "
                     "perhaps none runs. Start one: deploy/imageddpod-run -n 3"));
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(const ServiceFile file, ParseServiceFile(*text, path));
  Place place;
  IMAGEDDPO_ASSIGN_OR_RETURN(place.address,
                             Checked(file.grpc_address, absl::StrCat("`grpc_address` of ", path)));
  if (file.tls) {
    place.context.tls_ca_file =
        (std::filesystem::path(path).parent_path() / "access/ca.pem").string();
  }
  return place;
}

/// @param name  empty: the one in use, or the default address where there is none.
absl::StatusOr<Place> FromContext(const std::string& name, const std::string& contexts_file) {
  Contexts contexts;
  if (!contexts_file.empty()) {
    IMAGEDDPO_ASSIGN_OR_RETURN(contexts, ReadContexts(contexts_file));
  }
  const std::string chosen = name.empty() ? contexts.current : name;
  Place place;
  if (chosen.empty()) {
    IMAGEDDPO_ASSIGN_OR_RETURN(place.address, Checked(kDefaultAddress, "the default"));
    return place;
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(place.context, FindContext(contexts, chosen));
  IMAGEDDPO_ASSIGN_OR_RETURN(
      place.address,
      Checked(place.context.address, absl::StrCat("the address of the context ", chosen)));
  return place;
}

absl::StatusOr<Place> FindPlace(const AddressOptions& options, const AddressOptions& environment,
                                const std::string& contexts_file) {
  Place place;
  if (!options.address.empty()) {
    IMAGEDDPO_ASSIGN_OR_RETURN(place.address, Checked(options.address, "--address"));
    return place;
  }
  if (!options.service_file.empty()) return FromServiceFile(options.service_file);
  if (options.context.empty() && !environment.address.empty()) {
    IMAGEDDPO_ASSIGN_OR_RETURN(place.address,
                               Checked(environment.address, absl::StrCat("$", kAddressVariable)));
    return place;
  }
  return FromContext(FirstOf({options.context, environment.context}), contexts_file);
}

/// @return INVALID_ARGUMENT naming the file.
absl::StatusOr<std::string> TokenOf(const std::string& file) {
  const absl::StatusOr<std::string> text = ReadFile(file);
  if (!text.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("the token: ", text.status().message()));
  }
  return std::string(absl::StripAsciiWhitespace(*text));
}

}  // namespace

AddressOptions AddressFromEnvironment() {
  const auto value = [](const char* name) {
    const char* text = std::getenv(name);
    return std::string(text == nullptr ? "" : text);
  };
  return {.address = value(kAddressVariable),
          .context = value("IMAGEDDPO_CONTEXT"),
          .tls_ca_file = value("IMAGEDDPO_TLS_CA_FILE"),
          .token_file = value("IMAGEDDPO_TOKEN_FILE"),
          .token = value("IMAGEDDPO_TOKEN")};
}

absl::StatusOr<Endpoint> ResolveAddress(const AddressOptions& options,
                                        const AddressOptions& environment,
                                        const std::string& contexts_file) {
  IMAGEDDPO_ASSIGN_OR_RETURN(Place place, FindPlace(options, environment, contexts_file));
  Endpoint endpoint{std::move(place.address)};
  endpoint.tls = {
      .ca_file = FirstOf({options.tls_ca_file, environment.tls_ca_file, place.context.tls_ca_file}),
      .certificate_file =
          FirstOf({options.tls_certificate_file, place.context.tls_certificate_file}),
      .key_file = FirstOf({options.tls_key_file, place.context.tls_key_file})};
  if (options.token_file.empty() && !environment.token.empty()) {
    endpoint.token = environment.token;
  } else if (const std::string file =
                 FirstOf({options.token_file, environment.token_file, place.context.token_file});
             !file.empty()) {
    IMAGEDDPO_ASSIGN_OR_RETURN(endpoint.token, TokenOf(file));
  }
  if (!endpoint.token.empty() && endpoint.tls.empty() && !endpoint.address.IsLocal()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the token would travel unencrypted to ", endpoint.address.ToString(),
                     "; name the service's authority with --tls-ca-file"));
  }
  return endpoint;
}

}  // namespace imageddpo
