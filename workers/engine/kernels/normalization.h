#pragma once

#include <cstddef>
#include <cstdint>

namespace kerf::engine {

/// What all of them do: y = (x - mean) / sqrt(variance + epsilon) * scale + bias, mean and variance
/// (of the whole, not of a sample) over a set of elements. Sums run in 32 lanes, so that their
/// error grows with a part of the set; the variance comes from a second pass over x - mean.

/// LayerNormalization: each row of [rows, n] is a set; scale and bias hold n, bias may be null.
/// means and inverses (1 / standard deviation) hold one a row, or are null. `centred` false:
/// RMSNormalization, whose mean counts as 0.
struct RowNormalization {
  std::int64_t rows = 1, n = 1;
  float epsilon = 1e-5F;
  bool centred = true;
  int threads = 1;
};
void normalize_rows(const RowNormalization& what, const float* x, const float* scale, const float* bias, float* y, float* means,
                    float* inverses);

/// InstanceNormalization and GroupNormalization: a set is a sample's group of channels with all
/// their pixels; scale and bias hold one a channel. Memory: [batch, channels, pixels], or
/// [batch, pixels, channels] where `last`.
struct GroupNormalization {
  std::int64_t batch = 1, channels = 1, groups = 1, pixels = 1;
  float epsilon = 1e-5F;
  bool last = false;
  int threads = 1;

  /// Floats of scratch a thread.
  [[nodiscard]] std::int64_t scratch_elements() const { return last ? 2 * channels : 0; }
};
void normalize_groups(const GroupNormalization& what, const float* x, const float* scale, const float* bias, float* y, float* scratch);

/// LRN: y = x / (bias + alpha / size * sum of the squares of the channels [c - (size - 1) / 2,
/// c + size / 2])^beta. Memory: [batch, pixels, channels].
struct LocalResponse {
  std::int64_t rows = 1;  ///< batch * pixels
  std::int64_t channels = 1, size = 1;
  float alpha = 1e-4F, beta = 0.75F, bias = 1.0F;
  int threads = 1;

  [[nodiscard]] std::int64_t scratch_elements() const { return 2 * channels + size; }
};
void local_response(const LocalResponse& what, const float* x, float* y, float* scratch);

}  // namespace kerf::engine
