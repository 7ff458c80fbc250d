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

/// A picture moved; what comes in from outside repeats the edge.
void place_picture(const float* from, float* to, const Shape& shape, const PictureAxes& axes,
                   std::int64_t down, std::int64_t right) {
  Shape strides(4, 1);
  for (std::size_t i = 3; i-- > 1;) strides[i] = strides[i + 1] * shape[i + 1];
  const std::int64_t rows = shape[axes.rows];
  const std::int64_t columns = shape[axes.columns];
  const std::int64_t step = strides[axes.columns];
  for (std::int64_t c = 0; c < shape[axes.channels]; ++c) {
    for (std::int64_t y = 0; y < rows; ++y) {
      const std::int64_t source = std::clamp<std::int64_t>(y - down, 0, rows - 1);
      const std::int64_t base = c * strides[axes.channels];
      const float* row = from + base + source * strides[axes.rows];
      float* out = to + base + y * strides[axes.rows];
      for (std::int64_t x = 0; x < columns; ++x) {
        out[x * step] = row[std::clamp<std::int64_t>(x - right, 0, columns - 1) * step];
      }
    }
  }
}

}  // namespace

void assemble(const std::vector<Tensor>& inputs, std::span<const std::int64_t> samples,
              double shift, Dice& dice, const std::vector<std::span<float>>& to) {
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Shape& shape = inputs[i].shape();
    const std::size_t size = to[i].size() / samples.size();
    const float* all = inputs[i].as<float>().data();
    const auto picture = picture_axes(shape);
    std::int64_t most = 0;
    if (picture) {
      const auto extent = static_cast<double>(std::min(shape[picture->rows], shape[picture->columns]));
      most = static_cast<std::int64_t>(shift * extent);
    }
    const auto range = static_cast<std::uint64_t>(2 * most + 1);
    for (std::size_t place = 0; place < samples.size(); ++place) {
      const float* source = all + static_cast<std::size_t>(samples[place]) * size;
      float* target = to[i].data() + place * size;
      if (most == 0) {
        std::memcpy(target, source, size * sizeof(float));
        continue;
      }
      const std::int64_t down = static_cast<std::int64_t>(dice.below(range)) - most;
      const std::int64_t right = static_cast<std::int64_t>(dice.below(range)) - most;
      place_picture(source, target, shape, *picture, down, right);
    }
  }
}

}  // namespace kerf::compress
