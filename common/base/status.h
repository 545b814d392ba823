#pragma once

#include <cstdint>
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

/// Where the cause of an error lies.
enum class Whose {
  kJob,      ///< Its settings or its training.
  kReward,   ///< A reward of the job, or the service that computes it.
  kData,     ///< Images or metadata of the job.
  kRank,     ///< This process or its device.
  kHost,     ///< This machine: its disks, its limits.
  kCluster,  ///< The connection between ranks.
  kService,  ///< The service's own folder and store.
};

/// Whose fault an error is. It travels inside the absl::Status, is set where the error is made, and
/// is judged in one place (trainer/controller/pool/verdict.h).
struct Fault {
  Whose whose = Whose::kJob;
  bool passes = false;  ///< The same may work later although nobody has changed the job.

  bool operator==(const Fault&) const = default;
};

/// The same error with this fault, which replaces an earlier one; OK stays OK.
absl::Status WithFault(absl::Status status, const Fault& fault);
/// nullopt: the error does not say, or there is none.
std::optional<Fault> FaultOf(const absl::Status& status);

/// absl::ErrnoToStatus. Errors of a machine that may pass by themselves (ENOSPC, EDQUOT, EIO,
/// ESTALE, EROFS, EMFILE, ENFILE, ENOMEM, ENOLCK, EAGAIN, ETIMEDOUT and what network file systems
/// add) have the fault {kHost, passes}; others have none.
absl::Status ErrnoStatus(int error_number, absl::string_view message);

/// Marks an error for which a job is paused instead of failing: nothing is lost, and it can go on
/// once somebody has put right what the message says. The mark is a payload, so Annotate() keeps
/// it.
/// @param waiting_for  what is away outside of the service, since when and why: the job goes on by
///                     itself when that is back. Empty: it goes on when its owner resumes it.
absl::Status PausesJob(absl::Status status, absl::string_view waiting_for);

/// What PausesJob() was given; not set: the status has no such mark.
std::optional<std::string> PausesJobFor(const absl::Status& status);

/// Marks an error for which a job goes back to an earlier checkpoint, to be trained again from
/// there under other noise.
/// @param epochs  the newest checkpoint that may be used: of so many trained epochs.
absl::Status RollsBack(absl::Status status, int64_t epochs);

/// What RollsBack() was given; not set: the status has no such mark.
std::optional<int64_t> RollsBackTo(const absl::Status& status);

}  // namespace imageddpo
