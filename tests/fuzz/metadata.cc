// metadata.jsonl and metadata.csv of a set of images.
#include "rollout/data/listing/metadata.h"

#include <filesystem>

#include "rollout/data/listing/listing.h"
#include "rollout/data/listing/path_resolver.h"
#include "tests/fuzz/inputs.h"

namespace imageddpo::fuzz {

std::vector<std::string> MadeSeeds() {
  return {
      R"({"file_name": "rgb.png", "text": "a shoe", "label": 7, "id": "x1", "split": "train"})"
      "\n"
      R"({"file_name": "rgb.jpg", "target_file_name": "grey.png", "mask_file_name": "grey.jpg"})",
      R"({"image_file_name": "oriented", "label": "shoe"})"
      "\n\n"
      R"({"input_file_name": "../images/rgb.png", "label": 1.0, "id": 4})",
      "file_name,text,label\nrgb.png,\"a, \"\"shoe\"\"\",1\nrgb.jpg,,2\n",
      R"({"file_name": "rgb.png", "text": )" + std::string(30000, '[') + std::string(30000, ']') +
          "}",
      "\xEF\xBB\xBF"
      "file_name;caption\r\nrgb.png;x\r\n"};
}

void Read(std::string_view input) {
  static const std::string& folder =
      *new std::string(std::filesystem::current_path() / "tests/data/images");
  for (const bool is_csv : {false, true}) {
    PathResolver resolver({folder});
    Listing listing{.path = folder, .examples = ExampleTable(folder)};
    MetadataReader reader("text", &resolver, &listing);
    const MetadataReader::File file{.path = "metadata", .dir = folder};
    const absl::Status status =
        is_csv ? reader.ReadCsv(input, file) : reader.ReadJsonLines(input, file);
    if (!status.ok() || !reader.Finish().ok()) continue;
    for (int64_t i = 0; i < listing.examples.size(); ++i) {
      Require(!listing.examples.at(i).id.empty(), "every example has an id");
    }
  }
}

}  // namespace imageddpo::fuzz
