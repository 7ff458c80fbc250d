#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "workers/graph/tensor.h"

namespace kerf::compress {

/// What a set of samples is known to be.
struct Labels {
  std::vector<std::int64_t> classes;  ///< One a sample, or none.
  std::vector<float> targets;         ///< Of a regression; none where there are classes.
};

/// Random numbers that are the same on every platform.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : engine_(seed) {}
  std::uint64_t below(std::uint64_t n) { return engine_() % n; }
  /// Uniform in [0, 1).
  double share() { return static_cast<double>(engine_() >> 11U) * 0x1.0p-53; }
  void shuffle(std::vector<std::int64_t>& order);

 private:
  std::mt19937_64 engine_;
};

/// Which axes of a sample's array hold a picture: [c, h, w] or [h, w, c] with at most 4 channels and
/// 16 pixels or more each way.
struct PictureAxes {
  std::size_t channels = 0, rows = 0, columns = 0;  ///< Of the array with its batch axis.
};
[[nodiscard]] std::optional<PictureAxes> picture_axes(const graph::Shape& shape);

/// Copies samples into a batch.
///
/// Shapes:   `inputs`: f32, one a graph input, samples along axis 0; `to`: a batch of each.
/// Maths:    pictures (see picture_axes) move by up to `shift` times their lesser extent each way,
///           rows and columns by numbers that `dice` draws; what comes in from outside repeats the
///           edge. Other inputs are copied as they are.
void assemble(const std::vector<graph::Tensor>& inputs, std::span<const std::int64_t> samples,
              double shift, Dice& dice, const std::vector<std::span<float>>& to);

}  // namespace kerf::compress
