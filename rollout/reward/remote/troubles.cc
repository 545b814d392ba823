#include "rollout/reward/remote/troubles.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/text.h"
#include "rollout/reward/remote/remote_reward.h"

namespace imageddpo {
namespace {

constexpr size_t kMaxShownBytes = 1000;
constexpr int kMostParts = 64;
constexpr size_t kMaxPartNameBytes = 64;

bool IsPartName(const std::string& name) {
  return !name.empty() && name.size() <= kMaxPartNameBytes &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return absl::ascii_islower(static_cast<unsigned char>(c)) ||
                  absl::ascii_isdigit(static_cast<unsigned char>(c)) || c == '_';
         });
}

/// gRPC's client half repeats every address it tried.
std::string WhyAway(const std::string& message) {
  if (absl::StrContains(message, "Connection refused")) return "connection refused";
  if (absl::StrContains(message, "No such file")) return "there is no such socket";
  if (absl::StrContains(message, "Socket closed") ||
      absl::StrContains(message, "Connection reset") || absl::StrContains(message, "Broken pipe")) {
    return "the connection was closed";
  }
  return message.empty() ? "no answer" : Excerpt(message, kMaxShownBytes);
}

Trouble TooLarge(const std::string& message) {
  // The same words are the client's of an answer and the server's of a request.
  if (absl::StrContains(message, absl::StrCat("vs. ", kMaxRewardAnswerBytes))) {
    return {TroubleKind::kRefused,
            absl::StrCat("its answer is larger than ", kMaxRewardAnswerBytes >> 20,
                         " MiB; a reward answers a value and a few parts for each image")};
  }
  return {TroubleKind::kRefused,
          absl::StrCat("it takes no message of this size (", Excerpt(message, kMaxShownBytes),
                       "); raise its server's maximum message size, which gRPC sets to 4 MB, or "
                       "give a smaller `max_batch` in its description")};
}

}  // namespace

bool HasValue(const v1::ScoreResponse& answer) {
  return std::any_of(answer.items().begin(), answer.items().end(),
                     [](const v1::ItemScore& item) { return item.has_value(); });
}

Trouble JudgeStatus(const grpc::Status& status) {
  const std::string& message = status.error_message();
  const std::string shown = Excerpt(message, kMaxShownBytes);
  switch (status.error_code()) {
    case grpc::StatusCode::OK:
      return {};
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::ABORTED:
    case grpc::StatusCode::CANCELLED:
      return {TroubleKind::kAway, WhyAway(message)};
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      if (absl::StrContains(message, "larger than max")) return TooLarge(message);
      return {TroubleKind::kAway, absl::StrCat("it is overloaded: ", shown)};
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return {TroubleKind::kSlow, "no answer in time"};
    case grpc::StatusCode::INTERNAL:
    case grpc::StatusCode::UNKNOWN:
    case grpc::StatusCode::DATA_LOSS:
    case grpc::StatusCode::OUT_OF_RANGE:
      return {TroubleKind::kFault, shown.empty() ? "it failed without a message" : shown};
    case grpc::StatusCode::INVALID_ARGUMENT:
      return {TroubleKind::kUnfit, shown};
    case grpc::StatusCode::UNAUTHENTICATED:
    case grpc::StatusCode::PERMISSION_DENIED:
      return {TroubleKind::kRefused,
              absl::StrCat("it refuses the token (", shown, "); correct `token_file`")};
    case grpc::StatusCode::UNIMPLEMENTED:
      return {TroubleKind::kRefused,
              "it has no imageddpo.v1.RewardService; another server, or another version, listens "
              "there"};
    default:
      return {TroubleKind::kRefused, shown};
  }
}

Trouble JudgeAnswer(const v1::ScoreResponse& answer, int num_items, const std::string& version,
                    const std::vector<std::string>& part_names) {
  if (answer.version() != version) {
    return {TroubleKind::kRefused,
            absl::StrCat("its version is '", Excerpt(answer.version(), kMaxShownBytes),
                         "' and was '", Excerpt(version, kMaxShownBytes),
                         "' when the job started; the scores of two versions do not mix: start the "
                         "earlier one again, or submit the job anew")};
  }
  if (answer.items_size() != num_items) {
    return {TroubleKind::kFault,
            absl::StrCat("it answered ", answer.items_size(), " items for ", num_items, " images")};
  }
  const std::vector<std::string> names(answer.part_names().begin(), answer.part_names().end());
  for (const std::string& name : names) {
    if (!IsPartName(name)) {
      return {TroubleKind::kRefused, absl::StrCat("its part '", Excerpt(name, kMaxShownBytes),
                                                  "' is no name of 1 to 64 of a-z, 0-9 and _")};
    }
  }
  if (answer.part_names_size() > kMostParts ||
      std::set<std::string>(names.begin(), names.end()).size() != names.size()) {
    return {TroubleKind::kRefused, absl::StrCat("it has ", names.size(), " parts; at most ",
                                                kMostParts, " are possible, each name once")};
  }
  if (!part_names.empty() && HasValue(answer) && names != part_names) {
    return {TroubleKind::kFault,
            absl::StrCat("its parts are ", absl::StrJoin(names, ", "), ", and were ",
                         absl::StrJoin(part_names, ", "), "; they have to stay the same")};
  }
  for (const v1::ItemScore& item : answer.items()) {
    if (item.has_value() && item.parts_size() != answer.part_names_size()) {
      return {TroubleKind::kFault, absl::StrCat("an item has ", item.parts_size(), " parts of ",
                                                answer.part_names_size())};
    }
  }
  return {};
}

TroubleKind JudgeItems(bool one_ends_all, v1::ScoreResponse* answer) {
  bool has_fault = false, has_unfit = false;
  for (v1::ItemScore& item : *answer->mutable_items()) {
    if (item.has_error()) {
      item.mutable_error()->set_message(Excerpt(item.error().message(), kMaxShownBytes));
    } else if (!item.has_value()) {
      item.mutable_error()->set_message("neither a value nor an error");
    } else if (!std::isfinite(item.value())) {
      item.mutable_error()->set_message(absl::StrCat("the value ", item.value(), " is not finite"));
    } else {
      continue;
    }
    item.clear_value();
    (item.error().kind() == v1::RewardError::INVALID_INPUT ? has_unfit : has_fault) = true;
  }
  if (has_unfit && (one_ends_all || !has_fault)) return TroubleKind::kUnfit;
  return has_fault ? TroubleKind::kFault : TroubleKind::kNone;
}

Trouble JudgeDescription(const v1::DescribeResponse& description) {
  if (description.api_version() != kRewardApiVersion) {
    return {TroubleKind::kRefused,
            absl::StrCat("it speaks version ", description.api_version(),
                         " of the reward API, this service version ", kRewardApiVersion,
                         "; install a package of this service's version")};
  }
  if (!v1::PixelEncoding_IsValid(description.pixels()) || description.max_batch() < 0) {
    return {TroubleKind::kRefused,
            absl::StrCat("it wants pixels as encoding ", static_cast<int>(description.pixels()),
                         " in batches of ", description.max_batch(), ", which do not exist")};
  }
  return {};
}

}  // namespace imageddpo
