#pragma once

#include <cstdint>
#include <span>

namespace kerf::compress {

/// The ends of a value's samples, averaged with the latest weighing most: one sample that is unlike
/// the others moves them little.
///
/// Maths:    of each sample's smallest and largest element: m ← m + 0.01 · (x − m), starting with the
///           first sample's. Samples come in the order of the calibration set.
/// Source:   Jacob et al. 2018, arXiv:1712.05877, section 3.1; PyTorch's MovingAverageMinMaxObserver
///           has the same constant.
struct MovingRange {
  static constexpr double kShare = 0.01;

  double min = 0;
  double max = 0;
  std::int64_t samples = 0;

  /// Samples of equal size that lie one after another; finite.
  void add(std::span<const float> values, std::int64_t sample_count);
};

}  // namespace kerf::compress
