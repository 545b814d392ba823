#include "trainer/controller/api/page_token.h"

#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/rejection.h"
#include "common/io/file.h"

namespace imageddpo {

std::string MakePageToken(int64_t last_number) {
  return absl::StrCat(last_number, "-",
                      Sha256Hex(absl::StrCat("jobs before ", last_number)).substr(0, 8));
}

absl::StatusOr<int64_t> ReadPageToken(const std::string& token) {
  if (token.empty()) return std::numeric_limits<int64_t>::max();
  int64_t number = 0;
  const std::pair<std::string, std::string> parts = absl::StrSplit(token, absl::MaxSplits('-', 1));
  if (!absl::SimpleAtoi(parts.first, &number) || number < 1 || token != MakePageToken(number)) {
    return InvalidField(
        "page_token",
        absl::StrCat("'", token, "' is none that ListJobs returned; start again without one"));
  }
  return number;
}

}  // namespace imageddpo
