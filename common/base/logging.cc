#include "common/base/logging.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/text.h"
#include "spdlog/pattern_formatter.h"
#include "spdlog/sinks/ostream_sink.h"
#include "spdlog/sinks/rotating_file_sink.h"
#include "spdlog/sinks/stdout_sinks.h"

namespace imageddpo {
namespace {

constexpr std::array<std::pair<const char*, spdlog::level::level_enum>, 6> kLevels = {{
    {"trace", spdlog::level::trace},
    {"debug", spdlog::level::debug},
    {"info", spdlog::level::info},
    {"warning", spdlog::level::warn},
    {"error", spdlog::level::err},
    {"off", spdlog::level::off},
}};

std::string EscapeJson(spdlog::string_view_t text) {
  std::string escaped;
  escaped.reserve(text.size());
  for (const char c : ValidMessage({text.data(), text.size()})) {
    switch (c) {
      case '"':
        escaped += "\\\"";
        break;
      case '\\':
        escaped += "\\\\";
        break;
      case '\n':
        escaped += "\\n";
        break;
      case '\r':
        escaped += "\\r";
        break;
      case '\t':
        escaped += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          absl::StrAppendFormat(&escaped, "\\u%04x", static_cast<unsigned>(c));
        } else {
          escaped += c;
        }
    }
  }
  return escaped;
}

/// In a pattern: the message, on one line whatever is in it; as the inside of a JSON string or
/// plain.
class MessageFlag : public spdlog::custom_flag_formatter {
 public:
  explicit MessageFlag(bool json) : json_(json) {}

  void format(const spdlog::details::log_msg& msg, const std::tm& /*time*/,
              spdlog::memory_buf_t& dest) override {
    const std::string text =
        json_ ? EscapeJson(msg.payload) : Printable({msg.payload.data(), msg.payload.size()});
    dest.append(text.data(), text.data() + text.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<MessageFlag>(json_);
  }

 private:
  const bool json_;
};

/// In a pattern: the job, which is the logger's name, with what goes before and after it; nothing
/// for a logger without a job.
class JobFlag : public spdlog::custom_flag_formatter {
 public:
  JobFlag(std::string before, std::string after)
      : before_(std::move(before)), after_(std::move(after)) {}

  void format(const spdlog::details::log_msg& msg, const std::tm& /*time*/,
              spdlog::memory_buf_t& dest) override {
    if (msg.logger_name.size() == 0) {
      return;
    }
    const std::string text = before_ + EscapeJson(msg.logger_name) + after_;
    dest.append(text.data(), text.data() + text.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<JobFlag>(before_, after_);
  }

 private:
  const std::string before_;
  const std::string after_;
};

std::unique_ptr<spdlog::formatter> MakeFormatter(const LogOptions& options) {
  auto formatter = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc);
  std::string pattern;
  if (options.json) {
    pattern = R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",)";
    if (options.rank.has_value()) {
      absl::StrAppend(&pattern, "\"rank\":", *options.rank, ",");
    }
    pattern += R"(%J"thread":%t,"message":"%*"})";
    formatter->add_flag<JobFlag>('J', "\"job\":\"", "\",");
  } else {
    pattern = "%Y-%m-%dT%H:%M:%S.%eZ %l";
    if (options.rank.has_value()) {
      absl::StrAppend(&pattern, " rank ", *options.rank);
    }
    pattern += "%J: %*";
    formatter->add_flag<JobFlag>('J', " ", "");
  }
  formatter->add_flag<MessageFlag>('*', options.json);
  formatter->set_pattern(std::move(pattern));
  return formatter;
}

}  // namespace

absl::StatusOr<std::shared_ptr<spdlog::logger>> MakeLogger(const LogOptions& options) {
  const auto* const level =
      std::find_if(kLevels.begin(), kLevels.end(),
                   [&options](const auto& named) { return options.level == named.first; });
  if (level == kLevels.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("log level \"", options.level,
                     "\" is unknown; use trace, debug, info, warning, error or off"));
  }
  std::shared_ptr<spdlog::sinks::sink> sink;
  if (options.stream != nullptr) {
    sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(*options.stream);
  } else {
    sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  }
  sink->set_formatter(MakeFormatter(options));
  std::vector<spdlog::sink_ptr> sinks = {std::move(sink)};
  if (!options.file.empty()) {
    const std::string file = options.rank.has_value()
                                 ? absl::StrCat(options.file, ".rank-", *options.rank)
                                 : options.file;
    try {
      sinks.push_back(std::make_shared<spdlog::sinks::rotating_file_sink_mt>(
          file, static_cast<size_t>(options.max_file_bytes),
          static_cast<size_t>(options.max_files)));
    } catch (const spdlog::spdlog_ex& error) {
      return absl::FailedPreconditionError(
          absl::StrCat("`log.file`: ", file, " cannot be written: ", error.what()));
    }
    sinks.back()->set_formatter(MakeFormatter(options));
  }
  auto logger = std::make_shared<spdlog::logger>("", sinks.begin(), sinks.end());
  logger->set_level(level->second);
  logger->flush_on(spdlog::level::trace);
  return logger;
}

std::shared_ptr<spdlog::logger> WithJob(const spdlog::logger& logger, const std::string& job_id) {
  spdlog::logger copy(logger);  // clone() is not const in spdlog, though it only copies.
  return copy.clone(job_id);    // The job is the logger's name; the sink is shared.
}

}  // namespace imageddpo
