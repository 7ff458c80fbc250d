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

/// How samples are varied, so that few of them last longer.
struct Augmentation {
  std::int64_t shift = 0;  ///< Pictures move by up to so many pixels each way; edges are repeated.
  bool flip = false;       ///< Half of the pictures are mirrored.
  double mix = 0;          ///< Share of the samples that are blended with another one.
};

/// Which axes of a sample's array hold a picture: [c, h, w] or [h, w, c] with at most 4 channels and
/// 16 pixels or more each way.
struct PictureAxes {
  std::size_t channels = 0, rows = 0, columns = 0;  ///< Of the array with its batch axis.
};
[[nodiscard]] std::optional<PictureAxes> picture_axes(const graph::Shape& shape);

/// The second sample of a blend, and its part; part 0 where there is none.
struct Blend {
  std::int64_t with = 0;
  float part = 0;
};

/// Copies samples into a batch, varied.
///
/// Shapes:   `inputs`: f32, one a graph input, samples along axis 0; `to`: a batch of each.
/// Returns:  the blend of each place of the batch.
std::vector<Blend> assemble(const std::vector<graph::Tensor>& inputs,
                            std::span<const std::int64_t> samples, const Augmentation& how,
                            Dice& dice, const std::vector<std::span<float>>& to);

}  // namespace kerf::compress
