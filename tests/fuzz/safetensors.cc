// The header of a safetensors file: every part of it that is handed out lies within the file.
#include "common/io/safetensors_header.h"
#include "tests/fuzz/inputs.h"

namespace imageddpo::fuzz {

std::vector<std::string> MadeSeeds() {
  const auto header = FormatSafetensorsHeader(
      {.tensors =
           {{.name = "a", .dtype = SafetensorsDtype::kF16, .shape = {2, 3}, .size_bytes = 12},
            {.name = "b", .dtype = SafetensorsDtype::kI64, .shape = {}, .size_bytes = 8}},
       .metadata = {{"format", "pt"}}});
  Require(header.ok(), "a header can be written");
  return {*header + std::string(20, 'x')};
}

void Read(std::string_view input) {
  const auto header = ParseSafetensorsHeader(input, "input");
  if (!header.ok()) return;
  size_t end = 0;
  for (const SafetensorsEntry& entry : header->tensors) {
    Require(end == 0 || entry.begin == end, "the data lie one after the other");
    end = entry.begin + entry.size_bytes;
    Require(entry.begin <= end && end <= input.size(), "the data lie within the file");
    size_t values = 1;
    for (const int64_t extent : entry.shape) values *= static_cast<size_t>(extent);
    Require(values * ElementSizeBytes(entry.dtype) == entry.size_bytes,
            "a tensor has as many bytes as its shape says");
  }
  Require(FormatSafetensorsHeader(*header).ok(), "what was read can be written");
}

}  // namespace imageddpo::fuzz
