// DFT and STFT by their definition.
#include <cmath>
#include <numbers>

#include "workers/engine/geometry.h"
#include "workers/engine/reference/kernels.h"

namespace kerf::engine::reference {
namespace {

/// cos and sin of 2 pi k / n.
struct Turns {
  explicit Turns(std::size_t n) : cosine(n), sine(n) {
    for (std::size_t k = 0; k < n; ++k) {
      const double turn = 2 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(n);
      cosine[k] = std::cos(turn);
      sine[k] = std::sin(turn);
    }
  }
  std::vector<double> cosine, sine;
};

/// The first `bins` values of the transform of n values; `value(i)` gives real and imaginary part.
template <class F, class Put>
void transform(const Turns& turns, std::size_t bins, bool inverse, F&& value, Put&& put) {
  const std::size_t n = turns.cosine.size();
  std::vector<std::pair<double, double>> values(n);
  for (std::size_t i = 0; i < n; ++i) values[i] = value(i);
  const double scale = inverse ? 1.0 / static_cast<double>(n) : 1.0;
  for (std::size_t k = 0; k < bins; ++k) {
    double real = 0;
    double imaginary = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t at = i * k % n;
      const double c = turns.cosine[at];
      const double s = inverse ? turns.sine[at] : -turns.sine[at];
      real += values[i].first * c - values[i].second * s;
      imaginary += values[i].first * s + values[i].second * c;
    }
    put(k, static_cast<float>(real * scale), static_cast<float>(imaginary * scale));
  }
}

Outputs dft(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  const std::int64_t axis = normalized_axis(node.integer("axis", 1), x.rank());
  if (x.dtype() != DType::kF32 || x.rank() < 2 || axis < 0 ||
      axis + 1 == static_cast<std::int64_t>(x.rank())) {
    return bad(node, "expected f32 and an axis before the last");
  }
  const auto along = static_cast<std::size_t>(axis);
  const std::int64_t parts = x.shape().back();
  const bool inverse = node.integer("inverse", 0) != 0;
  const std::int64_t length = given(inputs, 1) ? inputs[1].to_integers().at(0) : x.dim(along);
  if (length < 1 || length > (1 << 24) || (parts != 1 && parts != 2))
    return bad(node, "no sensible length");
  const std::int64_t bins = node.integer("onesided", 0) != 0 ? length / 2 + 1 : length;
  Shape shape = x.shape();
  shape[along] = bins;
  shape.back() = 2;
  Tensor out(DType::kF32, shape);
  const std::int64_t inner = row_major_strides(x.shape())[along] / parts;
  const std::int64_t extent = x.dim(along);
  const std::int64_t outer = extent * inner == 0 ? 0 : x.elements() / parts / extent / inner;
  const auto from = x.as<float>();
  const auto to = out.mutable_as<float>();
  const Turns turns(static_cast<std::size_t>(length));
  for (std::int64_t o = 0; o < outer; ++o) {
    for (std::int64_t i = 0; i < inner; ++i) {
      transform(
          turns, static_cast<std::size_t>(bins), inverse,
          [&](std::size_t t) {
            if (static_cast<std::int64_t>(t) >= extent) return std::pair(0.0, 0.0);
            const auto at = static_cast<std::size_t>(
                ((o * extent + static_cast<std::int64_t>(t)) * inner + i) * parts);
            return std::pair(static_cast<double>(from[at]),
                             parts == 2 ? static_cast<double>(from[at + 1]) : 0.0);
          },
          [&](std::size_t k, float real, float imaginary) {
            const auto at = static_cast<std::size_t>(
                ((o * bins + static_cast<std::int64_t>(k)) * inner + i) * 2);
            to[at] = real;
            to[at + 1] = imaginary;
          });
    }
  }
  return std::vector<Tensor>{std::move(out)};
}

Outputs stft(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  if (x.dtype() != DType::kF32 || x.rank() != 3 || (x.dim(2) != 1 && x.dim(2) != 2))
    return bad(node, "expected a signal of shape [batch, length, 1 or 2]");
  const std::int64_t step = inputs[1].to_integers().at(0);
  std::int64_t length = given(inputs, 2) ? inputs[2].elements() : 0;
  if (given(inputs, 3)) length = inputs[3].to_integers().at(0);
  if (step < 1 || length < 1 || length > x.dim(1) ||
      (given(inputs, 2) && (inputs[2].elements() != length || inputs[2].dtype() != DType::kF32))) {
    return bad(node, "step, window and frame length don't fit the signal");
  }
  const std::int64_t frames = (x.dim(1) - length) / step + 1;
  const std::int64_t bins = node.integer("onesided", 1) != 0 ? length / 2 + 1 : length;
  Tensor out(DType::kF32, {x.dim(0), frames, bins, 2});
  const auto from = x.as<float>();
  const auto to = out.mutable_as<float>();
  const Turns turns(static_cast<std::size_t>(length));
  const std::int64_t parts = x.dim(2);
  for (std::int64_t row = 0; row < x.dim(0) * frames; ++row) {
    const std::int64_t first = row / frames * x.dim(1) + row % frames * step;
    transform(
        turns, static_cast<std::size_t>(bins), false,
        [&](std::size_t t) {
          const double weight = given(inputs, 2) ? static_cast<double>(inputs[2].as<float>()[t]) : 1.0;
          const auto at = static_cast<std::size_t>((first + static_cast<std::int64_t>(t)) * parts);
          return std::pair(weight * static_cast<double>(from[at]),
                           parts == 2 ? weight * static_cast<double>(from[at + 1]) : 0.0);
        },
        [&](std::size_t k, float real, float imaginary) {
          const auto at = (static_cast<std::size_t>(row * bins) + k) * 2;
          to[at] = real;
          to[at + 1] = imaginary;
        });
  }
  return std::vector<Tensor>{std::move(out)};
}

}  // namespace

void add_spectral(Registry& registry) {
  registry["DFT"] = dft;
  registry["STFT"] = stft;
}

}  // namespace kerf::engine::reference
