#include "workers/compress/training_samples.h"

#include <algorithm>
#include <cstring>

namespace kerf::compress {

using graph::Shape;
using graph::Tensor;

void Dice::shuffle(std::vector<std::int64_t>& order) {
  for (std::size_t i = order.size(); i > 1; --i) {
    std::swap(order[i - 1], order[static_cast<std::size_t>(below(i))]);
  }
}

std::optional<PictureAxes> picture_axes(const Shape& shape) {
  constexpr std::int64_t kMostChannels = 4;
  constexpr std::int64_t kFewestPixels = 16;
  if (shape.size() != 4) return std::nullopt;
  const auto large = [&](std::size_t axis) { return shape[axis] >= kFewestPixels; };
  if (shape[1] <= kMostChannels && large(2) && large(3)) return PictureAxes{1, 2, 3};
  if (shape[3] <= kMostChannels && large(1) && large(2)) return PictureAxes{3, 1, 2};
  return std::nullopt;
}

namespace {

/// A picture moved and mirrored; what comes in from outside repeats the edge.
void place_picture(const float* from, float* to, const Shape& shape, const PictureAxes& axes,
                   std::int64_t down, std::int64_t right, bool mirrored) {
  Shape strides(4, 1);
  for (std::size_t i = 3; i-- > 1;) strides[i] = strides[i + 1] * shape[i + 1];
  const std::int64_t rows = shape[axes.rows];
  const std::int64_t columns = shape[axes.columns];
  for (std::int64_t c = 0; c < shape[axes.channels]; ++c) {
    for (std::int64_t y = 0; y < rows; ++y) {
      const std::int64_t source = std::clamp<std::int64_t>(y - down, 0, rows - 1);
      const std::int64_t base = c * strides[axes.channels];
      const float* row = from + base + source * strides[axes.rows];
      float* out = to + base + y * strides[axes.rows];
      for (std::int64_t x = 0; x < columns; ++x) {
        std::int64_t at = std::clamp<std::int64_t>(x - right, 0, columns - 1);
        if (mirrored) at = columns - 1 - at;
        out[x * strides[axes.columns]] = row[at * strides[axes.columns]];
      }
    }
  }
}

}  // namespace

std::vector<Blend> assemble(const std::vector<Tensor>& inputs,
                            std::span<const std::int64_t> samples, const Augmentation& how,
                            Dice& dice, const std::vector<std::span<float>>& to) {
  std::vector<Blend> blends(samples.size());
  std::vector<float> second;
  for (std::size_t place = 0; place < samples.size(); ++place) {
    Blend& blend = blends[place];
    if (dice.share() < how.mix) {
      blend.with = samples[static_cast<std::size_t>(dice.below(samples.size()))];
      blend.part = static_cast<float>(dice.share());
    }
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const std::size_t size = to[i].size() / samples.size();
      const auto picture = picture_axes(inputs[i].shape());
      const auto copy = [&](std::int64_t sample, float* target) {
        const float* source = inputs[i].as<float>().data() + static_cast<std::size_t>(sample) * size;
        if (!picture || (how.shift == 0 && !how.flip)) {
          std::memcpy(target, source, size * sizeof(float));
          return;
        }
        const auto range = static_cast<std::uint64_t>(2 * how.shift + 1);
        const std::int64_t down = static_cast<std::int64_t>(dice.below(range)) - how.shift;
        const std::int64_t right = static_cast<std::int64_t>(dice.below(range)) - how.shift;
        const bool mirrored = how.flip && dice.below(2) == 1;
        place_picture(source, target, inputs[i].shape(), *picture, down, right, mirrored);
      };
      float* target = to[i].data() + place * size;
      copy(samples[place], target);
      if (blend.part == 0) continue;
      second.resize(size);
      copy(blend.with, second.data());
      for (std::size_t k = 0; k < size; ++k) target[k] += blend.part * (second[k] - target[k]);
    }
  }
  return blends;
}

}  // namespace kerf::compress
