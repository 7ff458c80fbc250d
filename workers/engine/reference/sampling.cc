// GridSample: the input read at places between its elements.
#include <algorithm>
#include <cmath>

#include "workers/engine/geometry.h"
#include "workers/engine/reference/kernels.h"

namespace kerf::engine::reference {
namespace {

enum class Mode : std::uint8_t { kNearest, kLinear, kCubic };
enum class Padding : std::uint8_t { kZeros, kBorder, kReflection };

/// -1 … 1 as a place among `extent` elements.
double unnormalized(double x, std::int64_t extent, bool align) {
  const auto size = static_cast<double>(extent);
  return align ? (x + 1) / 2 * (size - 1) : ((x + 1) * size - 1) / 2;
}

double reflected(double x, double low, double high) {
  const double width = high - low;
  if (!(width > 0) || !std::isfinite(x)) return 0;
  double over = std::fmod(std::fabs(x - low), 2 * width);
  if (over > width) over = 2 * width - over;
  return low + over;
}

/// The element that stands in for index i, or -1 for a zero.
std::int64_t padded(std::int64_t i, std::int64_t extent, Padding padding, bool align) {
  if (i >= 0 && i < extent) return i;
  if (padding == Padding::kZeros) return -1;
  if (padding == Padding::kReflection) {
    const auto size = static_cast<double>(extent);
    i = static_cast<std::int64_t>(reflected(static_cast<double>(i), align ? 0.0 : -0.5,
                                            align ? size - 1 : size - 0.5));
  }
  return std::clamp<std::int64_t>(i, 0, extent - 1);
}

double cubic(double x) {
  constexpr double a = -0.75;
  x = std::fabs(x);
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  return 0;
}

struct Tap {
  std::int64_t index;
  double weight;
};

std::vector<Tap> taps_of(double x, std::int64_t extent, Mode mode, Padding padding, bool align) {
  const auto size = static_cast<double>(extent);
  if (!std::isfinite(x)) x = -1e9;
  x = std::clamp(x, -1e9, 1e9);
  if (padding == Padding::kBorder) x = std::clamp(x, 0.0, size - 1);
  if (padding == Padding::kReflection)
    x = reflected(x, align ? 0.0 : -0.5, align ? size - 1 : size - 0.5);
  std::vector<Tap> taps;
  if (mode == Mode::kNearest) {
    taps.push_back({padded(static_cast<std::int64_t>(std::nearbyint(x)), extent, padding, align), 1});
    return taps;
  }
  const auto base = static_cast<std::int64_t>(std::floor(x));
  const double ratio = x - static_cast<double>(base);
  const std::int64_t reach = mode == Mode::kLinear ? 0 : 1;
  for (std::int64_t i = -reach; i <= 1 + reach; ++i) {
    const double distance = static_cast<double>(i) - ratio;
    const double weight = mode == Mode::kLinear ? 1 - std::fabs(distance) : cubic(distance);
    taps.push_back({padded(base + i, extent, padding, align), weight});
  }
  return taps;
}

Outputs grid_sample(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  const Tensor& grid = inputs[1];
  if (x.dtype() != DType::kF32 || grid.dtype() != DType::kF32 || x.rank() < 3 ||
      grid.rank() != x.rank() || grid.dim(0) != x.dim(0) ||
      grid.dim(grid.rank() - 1) != static_cast<std::int64_t>(x.rank()) - 2) {
    return bad(node, "the grid doesn't fit the input");
  }
  const std::string mode_name = node.text("mode", "linear");
  const std::string padding_name = node.text("padding_mode", "zeros");
  Mode mode = Mode::kLinear;
  if (mode_name == "nearest") mode = Mode::kNearest;
  else if (mode_name == "cubic" || mode_name == "bicubic") mode = Mode::kCubic;
  else if (mode_name != "linear" && mode_name != "bilinear") return bad(node, "mode '" + mode_name + "' isn't known");
  Padding padding = Padding::kZeros;
  if (padding_name == "border") padding = Padding::kBorder;
  else if (padding_name == "reflection") padding = Padding::kReflection;
  else if (padding_name != "zeros") return bad(node, "padding_mode '" + padding_name + "' isn't known");
  const bool align = node.integer("align_corners", 0) != 0;
  const std::size_t dims = x.rank() - 2;
  Shape shape{x.dim(0), x.dim(1)};
  shape.insert(shape.end(), grid.shape().begin() + 1, grid.shape().end() - 1);
  Tensor out(DType::kF32, shape);
  if (out.elements() == 0) return std::vector<Tensor>{std::move(out)};
  if (x.elements() == 0) return bad(node, "an input without elements cannot be sampled");
  const auto channels = static_cast<std::size_t>(x.dim(1));
  const std::size_t in_plane = static_cast<std::size_t>(x.elements()) / channels / static_cast<std::size_t>(x.dim(0));
  const std::size_t out_plane = static_cast<std::size_t>(out.elements()) / channels / static_cast<std::size_t>(x.dim(0));
  const Shape strides = row_major_strides(x.shape());
  const auto from = x.as<float>();
  const auto places = grid.as<float>();
  const auto to = out.mutable_as<float>();
  for (std::size_t n = 0; n < static_cast<std::size_t>(x.dim(0)); ++n) {
    for (std::size_t p = 0; p < out_plane; ++p) {
      // All taps: the product of those along each axis. The grid names the last axis first.
      std::vector<Tap> all{{0, 1}};
      for (std::size_t d = 0; d < dims; ++d) {
        const std::int64_t extent = x.dim(2 + d);
        const double at = unnormalized(
            static_cast<double>(places[(n * out_plane + p) * dims + dims - 1 - d]), extent, align);
        std::vector<Tap> next;
        for (const Tap& tap : taps_of(at, extent, mode, padding, align)) {
          if (tap.index < 0) continue;
          for (const Tap& before : all) {
            next.push_back({before.index + tap.index * strides[2 + d], before.weight * tap.weight});
          }
        }
        all = std::move(next);
      }
      for (std::size_t c = 0; c < channels; ++c) {
        const std::size_t plane = (n * channels + c) * in_plane;
        double sum = 0;
        for (const Tap& tap : all)
          sum += tap.weight * static_cast<double>(from[plane + static_cast<std::size_t>(tap.index)]);
        to[(n * channels + c) * out_plane + p] = static_cast<float>(sum);
      }
    }
  }
  return std::vector<Tensor>{std::move(out)};
}

}  // namespace

void add_sampling(Registry& registry) { registry["GridSample"] = grid_sample; }

}  // namespace kerf::engine::reference
