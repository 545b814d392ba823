// The header of a NumPy array file, and a picture of it.
#include "rollout/data/listing/npy.h"

#include "tests/fuzz/inputs.h"

namespace imageddpo::fuzz {

std::vector<std::string> MadeSeeds() {
  const auto made = [](const std::string& version, const std::string& dict, size_t data_bytes) {
    std::string head = "\x93NUMPY" + version;
    for (int i = 0; i < (version[0] == '\1' ? 2 : 4); ++i) {
      head.push_back(static_cast<char>(dict.size() >> (8 * i)));
    }
    return head + dict + std::string(data_bytes, '\x40');
  };
  const std::string one("\1\0", 2), two("\2\0", 2);
  return {made(one, "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3, 4, 3), }\n", 72),
          made(two, "{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }\n", 24),
          made(one, "{'descr': '<f4', 'fortran_order': True, 'shape': (), }\n", 4)};
}

void Read(std::string_view input) {
  const MemoryFile file(input);
  const auto header = ReadNpyHeader(file.path());
  if (!header.ok()) return;
  Require(header->data_begin >= 0 && static_cast<size_t>(header->data_begin) <= input.size(),
          "the data begin within the file");
  for (const int64_t extent : header->shape) Require(extent >= 0, "no extent is negative");
  const auto image = ReadNpyImage(file.path(), 0);
  Require(!image.ok() || !image->rgb.empty(), "a picture has pixels");
}

}  // namespace imageddpo::fuzz
