#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/endpoint.h"

namespace imageddpo {

/// What is stored of one token: enough to recognise it, not to use it.
struct TokenRecord {
  std::string id;  ///< The first 8 digits of sha256: what `list` shows and `revoke` takes.
  std::string owner;
  Role role = Role::kViewer;
  std::string sha256;  ///< Of the token, 64 hexadecimal digits.
  absl::Time create_time;
  absl::Time expire_time = absl::InfiniteFuture();  ///< InfiniteFuture: never.
};

/// A new token and its record. The token is "imageddpo_" and 64 hexadecimal digits, 256 bits from
/// the system's generator: too many to be guessed from their hash, so the hash needs no salt and no
/// slow function.
/// @param lifetime  InfiniteDuration: it does not expire.
/// @return INVALID_ARGUMENT: the owner is empty, longer than 64 bytes or has other characters than
/// letters, digits, `.`, `_`, `-`, `@`; INTERNAL: no random numbers.
struct NewToken {
  std::string token;
  TokenRecord record;
};
absl::StatusOr<NewToken> MakeToken(const std::string& owner, Role role, absl::Time now,
                                   absl::Duration lifetime);

/// The file's text: JSON with a list `tokens`, times in RFC 3339, `expire_time` empty where the
/// token does not expire.
std::string TokensToJson(const std::vector<TokenRecord>& tokens);
/// @param name  for messages. @return INVALID_ARGUMENT naming it, the token's place and the fault.
absl::StatusOr<std::vector<TokenRecord>> ParseTokens(std::string_view text,
                                                     const std::string& name);

/// Reads the file. @return no tokens where there is none.
absl::StatusOr<std::vector<TokenRecord>> ReadTokenFile(const std::string& path);
/// Replaces the file in one step.
absl::Status WriteTokenFile(const std::string& path, const std::vector<TokenRecord>& tokens);

}  // namespace imageddpo
