// What clients hand back (tokens of pages, places in a log), and the file of access tokens.
#include "common/access/token_file.h"
#include "tests/fuzz/inputs.h"
#include "trainer/controller/api/page_token.h"
#include "trainer/controller/files/log_reader.h"

namespace imageddpo::fuzz {

std::vector<std::string> MadeSeeds() {
  const auto made = MakeToken("ada", Role::kViewer, absl::UnixEpoch(), absl::Hours(1));
  Require(made.ok(), "a token can be made");
  TokenRecord record = made->record;  // The secret is another at every run.
  record.sha256 = std::string(64, 'a');
  record.id = record.sha256.substr(0, 8);
  return {TokensToJson({record}), MakePageToken(12), MakePageToken(1), "12345:678", "0:0", ""};
}

void Read(std::string_view input) {
  const std::string text(input);
  const auto page = ReadPageToken(text);
  Require(!page.ok() || text.empty() || MakePageToken(*page) == text,
          "no token but those that were made is taken");
  LogReader reader("/nonexistent");
  if (reader.GoTo(text).ok()) {
    const std::string cursor = reader.cursor();
    Require(reader.GoTo(cursor).ok() && reader.cursor() == cursor, "a place stays the same");
  }
  const auto tokens = ParseTokens(text, "tokens.json");
  if (tokens.ok()) (void)TokensToJson(*tokens);
}

}  // namespace imageddpo::fuzz
