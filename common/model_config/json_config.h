#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/text.h"

namespace imageddpo {

/// As messages show a value: on one line, its beginning alone if it is long.
constexpr size_t kMaxShownJsonBytes = 120;
template <typename Json>
std::string ShownJson(const Json& value) {
  return Excerpt(value.dump(-1, ' ', false, Json::error_handler_t::replace), kMaxShownJsonBytes);
}

/// One config.json of a model folder, read so that nothing is assumed: every field of the file is
/// taken by a getter, listed as harmless, or stated as neutral; Finish() refuses the rest by name.
/// Bookkeeping of the libraries that write these files is no part of a model: fields that begin
/// with "_", where weights came from and in which type, and the state of a moving average
/// (diffusers' EMAModel) are passed over. So is, with a warning, an unknown field that is null:
/// newer versions of the libraries write theirs, and null is how a feature that is off is written.
///
/// Getters never fail on the spot. They note what is wrong and return the fallback; Finish()
/// reports it. A fallback is the value the model's own library documents for an absent field. A
/// null counts as absent too, with a warning. Only for a boolean, where Python takes null for
/// false, it is refused if the default is true.
class JsonConfig {
 public:
  /// @param class_key     "_class_name" or "model_type": the field that says what the file
  /// describes.
  /// @param class_values  its values that the caller can read; an absent field is accepted.
  /// @return NOT_FOUND without the file, INVALID_ARGUMENT when it is no JSON object or describes
  /// something else.
  static absl::StatusOr<JsonConfig> Open(const std::string& path, const std::string& class_key,
                                         const std::vector<std::string>& class_values);

  int64_t Int(const std::string& key, int64_t fallback, int64_t min = 1);
  double Double(const std::string& key, double fallback);
  bool Bool(const std::string& key, bool fallback);
  std::string String(const std::string& key, const std::string& fallback);
  /// One value, repeated for every level, or a list of exactly `size`.
  std::vector<int64_t> IntPerLevel(const std::string& key, int64_t fallback, size_t size,
                                   int64_t min = 1);
  std::vector<bool> BoolPerLevel(const std::string& key, bool fallback, size_t size);
  /// A list; an absent field gives `fallback`.
  std::vector<std::string> Strings(const std::string& key,
                                   const std::vector<std::string>& fallback);
  std::vector<int64_t> Ints(const std::string& key, const std::vector<int64_t>& fallback,
                            int64_t min = 1);

  /// True where the field is absent or null, which counts as reading it. For fields whose null has
  /// a meaning of its own.
  bool IsNull(const std::string& key);
  /// The field's value, counted as read; nullptr where absent.
  const nlohmann::json* Find(const std::string& key);

  /// Notes a problem where one of the fields is null: for fields of which the library does not take
  /// null for the default, or whose default is not Stable Diffusion's.
  void RefuseNull(std::initializer_list<std::string_view> keys);

  /// Fields of features that are not built: accepted where absent, null or equal to `neutral`.
  void Neutral(const std::string& key, const nlohmann::json& neutral = nullptr);
  /// Fields without influence on what is computed.
  void Ignore(std::initializer_list<std::string_view> keys);
  /// Notes "<file>: <key> = <value>: <problem>".
  void Refuse(const std::string& key, const std::string& problem);

  /// Notes "<file>: <key> = <value>: <remark>", which refuses nothing.
  void Warn(const std::string& key, const std::string& remark);

  /// OK, or INVALID_ARGUMENT with everything noted so far and every field that nobody asked for.
  /// @param warnings  gets the remarks, whatever is returned; may be null.
  absl::Status Finish(std::vector<std::string>* warnings = nullptr) const;

  const std::string& path() const { return path_; }

 private:
  JsonConfig(std::string path, nlohmann::json root)
      : path_(std::move(path)), root_(std::move(root)) {}
  std::string Show(const std::string& key) const;
  /// The field's value; nullptr where it is absent or, with a warning, null.
  const nlohmann::json* Value(const std::string& key, const nlohmann::json& fallback);
  int64_t AsInt(const std::string& key, const nlohmann::json& value, int64_t fallback, int64_t min);

  std::string path_;
  nlohmann::json root_;
  std::set<std::string> read_;
  std::vector<std::string> problems_, warnings_;
};

}  // namespace imageddpo
