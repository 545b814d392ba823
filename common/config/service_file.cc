#include "common/config/service_file.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/base/text.h"

namespace imageddpo {

using nlohmann::json;

std::string ServiceFileToJson(const ServiceFile& file) {
  const json object = {{"grpc_address", file.grpc_address},
                       {"http_address", file.http_address},
                       {"pid", file.pid},
                       {"version", file.version},
                       {"tls", file.tls}};
  return object.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

absl::StatusOr<ServiceFile> ParseServiceFile(std::string_view text, const std::string& name) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string_view utf8, Utf8Of(text, name));
  const json object = json::parse(utf8, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " is not a service file: it holds no JSON object"));
  }
  ServiceFile file;
  for (const auto& [key, target] :
       {std::pair("grpc_address", &file.grpc_address),
        std::pair("http_address", &file.http_address), std::pair("version", &file.version)}) {
    const auto it = object.find(key);
    if (it == object.end() || !it->is_string()) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, " is not a service file: it has no text `", key, "`"));
    }
    *target = it->get<std::string>();
  }
  const auto pid = object.find("pid");
  if (pid != object.end() && pid->is_number_integer()) file.pid = pid->get<int64_t>();
  const auto tls = object.find("tls");
  if (tls != object.end() && tls->is_boolean()) file.tls = tls->get<bool>();
  return file;
}

}  // namespace imageddpo
