#pragma once

#include <cstdint>

namespace kerf::measure {

/// Welford's running mean and variance.
struct Moments {
  std::int64_t count = 0;
  double mean = 0;
  double squares = 0;

  void add(double value) {
    ++count;
    const double before = value - mean;
    mean += before / static_cast<double>(count);
    squares += before * (value - mean);
  }
  [[nodiscard]] double variance() const { return count < 2 ? 0 : squares / static_cast<double>(count - 1); }
};

}  // namespace kerf::measure
