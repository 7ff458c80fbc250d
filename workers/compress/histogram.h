#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "workers/compress/moving_range.h"
#include "workers/graph/tensor.h"

namespace kerf::compress {

/// What is known of a value's elements over a calibration set.
///
/// Maths:    two histograms of |x|, one a sign, with bins of one common width: bin i of `positive`
///           holds i·w ≤ x < (i+1)·w. When a larger element comes, w doubles and neighbouring bins
///           merge, so one pass is enough; between half and all of the bins are in use. Zeros are
///           counted apart: every quantizer keeps them exactly.
struct ValueStatistics {
  static constexpr std::size_t kBins = 4096;

  double min = 0;
  double max = 0;
  std::int64_t count = 0;  ///< Elements seen, zeros included.
  std::int64_t zeros = 0;
  double bin_width = 0;  ///< 0 as long as only zeros were seen.
  std::vector<std::int64_t> positive;
  std::vector<std::int64_t> negative;
  graph::Shape sample_shape;  ///< Shape without the first dimension.
  std::vector<double> sum;    ///< Element by element of one sample, over `samples`; where asked for.
  std::int64_t samples = 0;
  MovingRange moving;         ///< Of the samples' ends.

  /// Adds samples that lie one after another; `values.size()` is a multiple of sum's size once the
  /// sample shape is known. False, with nothing added, where an element is not finite. `means`: the
  /// sums too.
  [[nodiscard]] bool add(std::span<const float> values, std::int64_t sample_count, bool means = true);

  /// Element-wise mean of a sample; empty before the first, or where no sums were asked for.
  [[nodiscard]] std::vector<double> mean() const;
};

}  // namespace kerf::compress
