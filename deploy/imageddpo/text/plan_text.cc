#include "deploy/imageddpo/text/plan_text.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/plan/choose.h"
#include "deploy/imageddpo/text/format.h"

namespace imageddpo {
namespace {

constexpr size_t kMostRows = 12;

std::string Seconds(double seconds) {
  return seconds < 10 ? absl::StrCat(FormatNumber(seconds, 3), "s") : FormatDuration(seconds);
}

std::string Bytes(double bytes) {
  if (bytes <= 0) return "-";
  return bytes < 1e9 ? absl::StrFormat("%.1f MB", bytes / 1e6)
                     : absl::StrFormat("%.2f GB", bytes / 1e9);
}

struct NamedSeconds {
  const char* name;
  const char* what;
  double EpochSeconds::*value;
};

constexpr NamedSeconds kSeconds[] = {
    {"draw", "rollout: images and noise", &EpochSeconds::draw},
    {"encode", "rollout: VAE encoder", &EpochSeconds::encode},
    {"steps", "rollout: UNet steps", &EpochSeconds::steps},
    {"decode", "rollout: VAE decoder", &EpochSeconds::decode},
    {"reward", "rollout: rewards", &EpochSeconds::reward},
    {"publish", "publication of the LoRA", &EpochSeconds::publish},
    {"stream", "streaming behind the last sample", &EpochSeconds::stream},
    {"replay", "training: forward and backward", &EpochSeconds::replay},
    {"proximal", "training: stale samples", &EpochSeconds::proximal},
    {"exchange", "training: gradient exchange", &EpochSeconds::exchange},
    {"optimizer", "training: clip and AdamW", &EpochSeconds::optimizer}};

struct NamedBytes {
  const char* name;
  const char* what;
  double MemoryUse::*value;
};

constexpr NamedBytes kBytes[] = {
    {"weights", "model weights", &MemoryUse::weights},
    {"lora", "LoRA, gradients, moments", &MemoryUse::lora},
    {"activations", "activations", &MemoryUse::activations},
    {"sample_gradients", "gradients of samples", &MemoryUse::sample_gradients},
    {"trajectories", "trajectories", &MemoryUse::trajectories},
    {"shards", "gradient shards", &MemoryUse::shards}};

std::string MemoryCell(const Prediction& prediction) {
  const std::string rollout = Bytes(prediction.rollout_memory.total());
  if (prediction.topology.colocated) return rollout;
  return absl::StrCat(rollout, " / ", Bytes(prediction.trainer_memory.total()));
}

std::string Note(const Prediction& prediction) {
  std::string note = prediction.saturates;
  if (!prediction.fits) absl::StrAppend(&note, "; does not fit the memory");
  if (prediction.idle_ranks > 0)
    absl::StrAppend(&note, "; ", prediction.idle_ranks,
                    prediction.idle_ranks == 1 ? " rank idle" : " ranks idle");
  return note;
}

std::string BestParts(const Prediction& best) {
  std::vector<std::vector<std::string>> rows;
  for (const NamedSeconds& part : kSeconds) {
    const double seconds = best.seconds.*part.value;
    if (seconds <= 0) continue;
    rows.push_back({part.what, Seconds(seconds),
                    absl::StrFormat("%.1f%%", 100 * seconds / best.epoch_seconds)});
  }
  rows.push_back({"epoch", Seconds(best.epoch_seconds), ""});
  std::string text =
      FormatTable({absl::StrCat(best.topology.ToString(), ": an epoch"), "#", "share#"}, rows);
  if (best.first_pass_encode > 0) {
    absl::StrAppend(&text, "plus ", Seconds(best.first_pass_encode),
                    " an epoch until every image was seen once (VAE encoder)\n");
  }
  rows.clear();
  const bool split = !best.topology.colocated;
  for (const NamedBytes& part : kBytes) {
    std::vector<std::string> row = {part.what, Bytes(best.rollout_memory.*part.value)};
    if (split) row.push_back(Bytes(best.trainer_memory.*part.value));
    rows.push_back(std::move(row));
  }
  std::vector<std::string> sum = {"together", Bytes(best.rollout_memory.total())};
  if (split) sum.push_back(Bytes(best.trainer_memory.total()));
  rows.push_back(std::move(sum));
  const std::vector<std::string> headings =
      split ? std::vector<std::string>{"memory of a device", "rollout#", "trainer#"}
            : std::vector<std::string>{"memory of a device", "rank#"};
  return absl::StrCat(text, "\n", FormatTable(headings, rows));
}

nlohmann::ordered_json MemoryJson(const MemoryUse& use) {
  nlohmann::ordered_json json;
  for (const NamedBytes& part : kBytes) json[absl::StrCat(part.name, "_bytes")] = use.*part.value;
  json["total_bytes"] = use.total();
  return json;
}

nlohmann::ordered_json ToJson(const Prediction& prediction) {
  const Topology& topology = prediction.topology;
  nlohmann::ordered_json json;
  if (topology.colocated) {
    json["topology"] = {{"colocated", topology.rollout}};
  } else {
    json["topology"] = {{"rollout", topology.rollout}, {"trainer", topology.trainer}};
  }
  json["ranks"] = topology.ranks();
  json["idle_ranks"] = prediction.idle_ranks;
  json["update"] = prediction.single_pass ? "single_pass" : "replay";
  json["gradient_shards"] = prediction.gradient_shards;
  json["samples_per_epoch"] = prediction.samples_per_epoch;
  json["epoch_seconds"] = prediction.epoch_seconds;
  json["images_per_second"] = prediction.images_per_second();
  json["first_pass_encode_seconds"] = prediction.first_pass_encode;
  json["sample_seconds"] = prediction.seconds.rollout() - prediction.seconds.reward;
  json["train_seconds"] = prediction.seconds.train();
  auto& seconds = json["seconds"];
  for (const NamedSeconds& part : kSeconds) seconds[part.name] = prediction.seconds.*part.value;
  json["rollout_memory"] = MemoryJson(prediction.rollout_memory);
  json["trainer_memory"] = MemoryJson(prediction.trainer_memory);
  json["fits"] = prediction.fits;
  json["saturates"] = prediction.saturates;
  return json;
}

}  // namespace

std::string PlanText(const std::vector<Prediction>& predictions, const PlanNotes& notes) {
  std::vector<std::vector<std::string>> rows;
  for (const Prediction& prediction : predictions) {
    if (rows.size() == kMostRows) break;
    rows.push_back(
        {prediction.topology.ToString(), prediction.single_pass ? "single_pass" : "replay",
         Seconds(prediction.epoch_seconds), FormatNumber(prediction.images_per_second(), 3),
         MemoryCell(prediction), Note(prediction)});
  }
  std::string text =
      FormatTable({"topology", "update", "epoch#", "images/s#", "memory", "saturates"}, rows);
  if (predictions.size() > kMostRows) {
    absl::StrAppend(&text, "and ", predictions.size() - kMostRows, " slower ones\n");
  }
  if (!predictions.empty()) absl::StrAppend(&text, "\n", BestParts(predictions.front()));
  if (notes.chosen.has_value()) {
    absl::StrAppend(&text, "\n`topology: auto` takes ", WhyChosen(*notes.chosen, predictions),
                    "\n");
  }
  if (notes.single_pass.has_value()) {
    const Prediction& single = *notes.single_pass;
    absl::StrAppend(&text, "`topology: {colocated: ", single.topology.rollout,
                    "}` in the job file would train in a single pass: an epoch of ",
                    Seconds(single.epoch_seconds), ", the same but for rounding\n");
  }
  return text;
}

std::string PlanJson(const std::vector<Prediction>& predictions, const PlanNotes& notes) {
  nlohmann::ordered_json json = {{"predictions", nlohmann::ordered_json::array()}};
  for (const Prediction& prediction : predictions) {
    json["predictions"].push_back(ToJson(prediction));
    if (notes.chosen == prediction.topology) {
      json["auto"] = ToJson(prediction);
      json["auto"]["why"] = WhyChosen(*notes.chosen, predictions);
    }
  }
  if (notes.single_pass.has_value()) json["single_pass"] = ToJson(*notes.single_pass);
  return json.dump(1) + "\n";
}

std::string ScalingText(const std::vector<Prediction>& predictions) {
  std::vector<std::vector<std::string>> rows;
  double one = 0;
  for (const Prediction& prediction : predictions) {
    const int ranks = prediction.topology.ranks() + prediction.idle_ranks;
    const double speed = prediction.images_per_second();
    if (one == 0) one = speed / ranks;
    const EpochSeconds& seconds = prediction.seconds;
    const auto share = [&prediction](double part) {
      return absl::StrFormat("%.1f%%", 100 * part / prediction.epoch_seconds);
    };
    rows.push_back({absl::StrCat(ranks), prediction.topology.ToString(),
                    absl::StrCat(prediction.samples_per_epoch),
                    absl::StrCat(prediction.gradient_shards), Seconds(prediction.epoch_seconds),
                    FormatNumber(speed, 3), absl::StrFormat("%.0f%%", 100 * speed / (one * ranks)),
                    share(seconds.publish), share(seconds.stream), share(seconds.exchange),
                    Note(prediction)});
  }
  return FormatTable({"ranks#", "best topology", "samples#", "shards#", "epoch#", "images/s#",
                      "of ideal#", "publish#", "stream#", "exchange#", "saturates"},
                     rows);
}

}  // namespace imageddpo
