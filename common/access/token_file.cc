#include "common/access/token_file.h"

#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/io/file.h"

namespace imageddpo {
namespace {

using nlohmann::json;

constexpr char kPrefix[] = "imageddpo_";
constexpr size_t kSecretBytes = 32;
constexpr size_t kIdDigits = 8;
constexpr size_t kMaxOwnerBytes = 64;

bool IsOwner(std::string_view owner) {
  return !owner.empty() && owner.size() <= kMaxOwnerBytes &&
         std::all_of(owner.begin(), owner.end(), [](unsigned char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '_' || c == '-' || c == '@';
         });
}

bool IsSha256(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::string TimeText(absl::Time time) {
  if (time == absl::InfiniteFuture()) return "";
  return absl::FormatTime(absl::RFC3339_sec, time, absl::UTCTimeZone());
}

/// Empty: `empty`.
absl::StatusOr<absl::Time> ReadTime(const std::string& text, absl::Time empty) {
  if (text.empty()) return empty;
  absl::Time time;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, text, &time, &error)) {
    return absl::InvalidArgumentError(
        absl::StrCat("has the time `", text, "`; it must be as 2026-01-31T08:15:30Z"));
  }
  return time;
}

absl::StatusOr<TokenRecord> ReadRecord(const json& entry) {
  std::string role, created, expires;
  TokenRecord record;
  for (const auto& [key, target] :
       {std::pair("owner", &record.owner), std::pair("role", &role),
        std::pair("sha256", &record.sha256), std::pair("create_time", &created),
        std::pair("expire_time", &expires)}) {
    const auto found = entry.is_object() ? entry.find(key) : entry.end();
    if (!entry.is_object() || found == entry.end() || !found->is_string()) {
      return absl::InvalidArgumentError(absl::StrCat("has no text `", key, "`"));
    }
    *target = found->get<std::string>();
  }
  if (!IsOwner(record.owner)) return absl::InvalidArgumentError("has an `owner` that is no name");
  if (!IsSha256(record.sha256)) {
    return absl::InvalidArgumentError("has a `sha256` that is not 64 hexadecimal digits");
  }
  record.id = record.sha256.substr(0, kIdDigits);
  IMAGEDDPO_ASSIGN_OR_RETURN(record.role, ParseRole(role));
  IMAGEDDPO_ASSIGN_OR_RETURN(record.create_time, ReadTime(created, absl::UnixEpoch()));
  IMAGEDDPO_ASSIGN_OR_RETURN(record.expire_time, ReadTime(expires, absl::InfiniteFuture()));
  return record;
}

}  // namespace

absl::StatusOr<NewToken> MakeToken(const std::string& owner, Role role, absl::Time now,
                                   absl::Duration lifetime) {
  if (!IsOwner(owner)) {
    return absl::InvalidArgumentError(absl::StrCat("the owner is `", Excerpt(owner, 100),
                                                   "`; it must be 1 to ", kMaxOwnerBytes,
                                                   " letters, digits, `.`, `_`, `-` or `@`"));
  }
  std::array<unsigned char, kSecretBytes> secret{};
  if (RAND_bytes(secret.data(), static_cast<int>(secret.size())) != 1) {
    return absl::InternalError("the system gives no random numbers");
  }
  NewToken made;
  made.token =
      absl::StrCat(kPrefix, absl::BytesToHexString(absl::string_view(
                                reinterpret_cast<const char*>(secret.data()), secret.size())));
  made.record = {.id = "",
                 .owner = owner,
                 .role = role,
                 .sha256 = Sha256Hex(made.token),
                 .create_time = now,
                 .expire_time = now + lifetime};
  made.record.id = made.record.sha256.substr(0, kIdDigits);
  return made;
}

std::string TokensToJson(const std::vector<TokenRecord>& tokens) {
  json list = json::array();
  for (const TokenRecord& token : tokens) {
    list.push_back({{"id", token.id},
                    {"owner", token.owner},
                    {"role", RoleName(token.role)},
                    {"sha256", token.sha256},
                    {"create_time", TimeText(token.create_time)},
                    {"expire_time", TimeText(token.expire_time)}});
  }
  const json file = {{"tokens", std::move(list)}};
  return file.dump(2) + "\n";
}

absl::StatusOr<std::vector<TokenRecord>> ParseTokens(std::string_view text,
                                                     const std::string& name) {
  const json file = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!file.is_object() || !file.contains("tokens") || !file["tokens"].is_array()) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " is no token file: it holds no JSON object with a list `tokens`"));
  }
  std::vector<TokenRecord> tokens;
  for (const json& entry : file["tokens"]) {
    absl::StatusOr<TokenRecord> record = ReadRecord(entry);
    if (!record.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": token ", tokens.size() + 1, " ", record.status().message()));
    }
    tokens.push_back(*std::move(record));
  }
  return tokens;
}

absl::StatusOr<std::vector<TokenRecord>> ReadTokenFile(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadFile(path);
  if (absl::IsNotFound(text.status())) return std::vector<TokenRecord>();
  if (!text.ok()) return text.status();
  return ParseTokens(*text, path);
}

absl::Status WriteTokenFile(const std::string& path, const std::vector<TokenRecord>& tokens) {
  return WriteFileAtomically(path, TokensToJson(tokens));
}

}  // namespace imageddpo
