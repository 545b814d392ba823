#include "trainer/controller/web/log_lines.h"

#include <cstddef>
#include <deque>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "trainer/controller/files/log_filter.h"
#include "trainer/controller/files/log_reader.h"
#include "trainer/controller/web/json_text.h"

namespace imageddpo {
namespace {

constexpr size_t kEnoughLines = 500;

}  // namespace

absl::StatusOr<std::string> LogLinesJson(const JobStore& store,
                                         const v1::StreamLogsRequest& request) {
  IMAGEDDPO_RETURN_IF_ERROR(store.Get(request.id()).status());
  IMAGEDDPO_ASSIGN_OR_RETURN(const LogFilter filter, LogFilter::Of(request));
  LogReader reader(store.JobDir(request.id()));
  if (!request.cursor().empty()) IMAGEDDPO_RETURN_IF_ERROR(reader.GoTo(request.cursor()));
  std::deque<v1::LogLine> lines;
  bool more = true;
  while (more && (filter.tail() > 0 || lines.size() < kEnoughLines)) {
    std::vector<v1::LogLine> read;
    IMAGEDDPO_ASSIGN_OR_RETURN(more, reader.Read(&read));
    for (v1::LogLine& line : read) {
      if (filter.Wants(line)) lines.push_back(std::move(line));
      if (filter.tail() > 0 && lines.size() > static_cast<size_t>(filter.tail())) lines.pop_front();
    }
  }
  std::string text = "{\"lines\":[";
  const char* separator = "";
  for (v1::LogLine& line : lines) {
    IMAGEDDPO_ASSIGN_OR_RETURN(const std::string json, JsonOf(&line));
    absl::StrAppend(&text, separator, json);
    separator = ",";
  }
  return absl::StrCat(text, "],\"cursor\":\"", reader.cursor(),
                      "\",\"more\":", more ? "true" : "false", "}\n");
}

}  // namespace imageddpo
