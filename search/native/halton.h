#pragma once

#include <cstddef>

namespace kerf::search::native {

/// The index-th point of the Halton sequence of a prime base, in [0, 1).
///
/// Source:   Halton 1960, Numerische Mathematik 2, 84-90.
[[nodiscard]] inline double halton(std::size_t index, std::size_t base) {
  double out = 0;
  double share = 1;
  for (; index > 0; index /= base) {
    share /= static_cast<double>(base);
    out += share * static_cast<double>(index % base);
  }
  return out;
}

}  // namespace kerf::search::native
