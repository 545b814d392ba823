#pragma once

#include <string>

namespace imageddpo {

/// An array file as numpy.save writes it.
/// @param shape  as Python prints it: "(10, 1, 2, 3)". @param order  "True": Fortran's.
inline std::string Npy(const std::string& dtype, const std::string& shape, const std::string& data,
                       const std::string& order = "False") {
  std::string head =
      "{'descr': '" + dtype + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }";
  head.resize((head.size() + 10) / 64 * 64 + 64 - 10 - 1, ' ');
  head += '\n';
  std::string file = std::string("\x93NUMPY\x01\x00", 8);
  file += static_cast<char>(head.size() & 255);
  file += static_cast<char>(head.size() >> 8);
  return file + head + data;
}

/// `count` pictures [1, 2, 3]; picture i is filled with i.
inline std::string NpyPictures(int count) {
  std::string data;
  for (int i = 0; i < count; ++i) data += std::string(6, static_cast<char>(i));
  return Npy("|u1", "(" + std::to_string(count) + ", 1, 2, 3)", data);
}

}  // namespace imageddpo
