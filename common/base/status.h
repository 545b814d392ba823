#pragma once

#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

/// Helpers for absl::Status, which is how errors cross RPC, file and job boundaries.

/// Returns from the enclosing function when `expr`, an absl::Status, is not OK.
#define IMAGEDDPO_RETURN_IF_ERROR(expr)       \
  do {                                        \
    ::absl::Status imageddpo_status = (expr); \
    if (!imageddpo_status.ok()) {             \
      return imageddpo_status;                \
    }                                         \
  } while (false)

/// Evaluates `expr`, an absl::StatusOr<T>; returns its status when it is not OK, otherwise assigns
/// or declares `lhs`: IMAGEDDPO_ASSIGN_OR_RETURN(const File file, File::Open(path)); A type with a
/// comma in `lhs` needs parentheses or an alias. Expands to several statements, so it cannot be the
/// body of an `if` without braces.
#define IMAGEDDPO_ASSIGN_OR_RETURN(lhs, ...) \
  IMAGEDDPO_ASSIGN_OR_RETURN_(IMAGEDDPO_CONCAT_(imageddpo_or_, __COUNTER__), lhs, __VA_ARGS__)

#define IMAGEDDPO_ASSIGN_OR_RETURN_(variable, lhs, ...) \
  auto variable = (__VA_ARGS__);                        \
  if (!variable.ok()) {                                 \
    return std::move(variable).status();                \
  }                                                     \
  lhs = *std::move(variable)

#define IMAGEDDPO_CONCAT_(a, b) IMAGEDDPO_CONCAT_INNER_(a, b)
#define IMAGEDDPO_CONCAT_INNER_(a, b) a##b

namespace imageddpo {

/// The same code and payloads, with "`prefix`: " before the message; OK stays OK. For saying which
/// file or job an error from further down belongs to.
absl::Status Annotate(const absl::Status& status, absl::string_view prefix);

/// Marks an error for which a job is paused instead of failing: nothing is lost, and it can go on
/// once somebody has put right what the message says. The mark is a payload, so Annotate() keeps
/// it.
/// @param waiting_for  what is away outside of the service, since when and why: the job goes on by
///                     itself when that is back. Empty: it goes on when its owner resumes it.
absl::Status PausesJob(absl::Status status, absl::string_view waiting_for);

/// What PausesJob() was given; not set: the status has no such mark.
std::optional<std::string> PausesJobFor(const absl::Status& status);

}  // namespace imageddpo
