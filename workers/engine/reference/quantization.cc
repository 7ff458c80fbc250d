// QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear.
#include <algorithm>
#include <cmath>
#include <limits>

#include "workers/engine/geometry.h"
#include "workers/engine/reference/kernels.h"
#include "workers/engine/reference/scalar.h"

namespace kerf::engine::reference {
namespace {

struct Range {
  std::int32_t low, high;
};

Range range_of(DType dtype) {
  switch (dtype) {
    case DType::kS8: return {-128, 127};
    case DType::kU16: return {0, 65535};
    case DType::kS16: return {-32768, 32767};
    case DType::kS4: return {-8, 7};
    case DType::kU4: return {0, 15};
    default: return {0, 255};
  }
}

/// How scales are laid over the elements: one for all, one a slice of an axis, or one a block of
/// `block` elements along it.
struct Spread {
  std::size_t inner = 1, count = 1;
  std::size_t block = 0, extent = 1;  ///< Where scales stand for blocks.

  /// Index of the scale of the element at an offset.
  [[nodiscard]] std::size_t at(std::size_t offset) const {
    if (block == 0) return offset / inner % count;
    const std::size_t outer = offset / inner / extent;
    const std::size_t place = offset / inner % extent / block;
    return (outer * count + place) * inner + offset % inner;
  }
};

Result<Spread> spread_of(const Node& node, const Tensor& x, const Tensor& scale) {
  if (scale.elements() == 1) return Spread{};
  const std::int64_t axis = normalized_axis(node.integer("axis", 1), x.rank());
  if (const std::int64_t block = node.integer("block_size", 0); block > 0) {
    if (axis < 0 || x.elements() == 0) return bad(node, "axis outside the input");
    const auto along = static_cast<std::size_t>(axis);
    Shape wanted = x.shape();
    wanted[along] = (wanted[along] + block - 1) / block;
    if (scale.shape() != wanted) return bad(node, "blocked scales don't fit the input");
    return Spread{static_cast<std::size_t>(row_major_strides(x.shape())[along]),
                  static_cast<std::size_t>(wanted[along]), static_cast<std::size_t>(block),
                  static_cast<std::size_t>(x.dim(along))};
  }
  if (axis < 0 || x.dim(static_cast<std::size_t>(axis)) != scale.elements()) {
    return bad(node, std::to_string(scale.elements()) + " scales don't fit an input " +
                         graph::to_string(x.shape()));
  }
  return Spread{static_cast<std::size_t>(row_major_strides(x.shape())[static_cast<std::size_t>(axis)]),
                static_cast<std::size_t>(scale.elements()), 0, 1};
}

Result<std::vector<std::int64_t>> zero_points(const Node& node, Inputs inputs) {
  const auto count = static_cast<std::size_t>(inputs[1].elements());
  if (!given(inputs, 2)) return std::vector<std::int64_t>(count, 0);
  if (inputs[2].elements() != inputs[1].elements()) return bad(node, "zero points don't fit scales");
  return inputs[2].to_integers();
}

Outputs quantize(const Node& node, Inputs inputs) {
  const Tensor x = inputs[0].to_f32();
  const DType dtype = given(inputs, 2)                             ? inputs[2].dtype()
                      : node.integer("output_dtype", 0) != 0 ? dtype_of_onnx(node.integer("output_dtype", 0))
                                                             : DType::kU8;
  const auto [low, high] = range_of(dtype);
  KERF_ASSIGN(const Spread spread, spread_of(node, x, inputs[1]));
  KERF_ASSIGN(const std::vector<std::int64_t> zeros, zero_points(node, inputs));
  const std::vector<float> scales = inputs[1].to_floats();
  Tensor out(dtype, x.shape());
  const auto from = x.as<float>();
  const bool known = dispatch(dtype, [&]<class T>(T) {
    const auto to = out.mutable_as<T>();
    for (std::size_t i = 0; i < from.size(); ++i) {
      const std::size_t k = spread.at(i);
      to[i] = static_cast<T>(
          quantize_value(from[i], scales[k], static_cast<std::int32_t>(zeros[k]), low, high));
    }
  });
  if (!known) return bad(node, "not for this element type");
  return std::vector<Tensor>{std::move(out)};
}

Outputs dequantize(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  KERF_ASSIGN(const Spread spread, spread_of(node, x, inputs[1]));
  KERF_ASSIGN(const std::vector<std::int64_t> zeros, zero_points(node, inputs));
  const std::vector<float> scales = inputs[1].to_floats();
  Tensor out(DType::kF32, x.shape());
  const auto to = out.mutable_as<float>();
  const bool known = dispatch(x.dtype(), [&]<class T>(T) {
    const auto from = x.as<T>();
    for (std::size_t i = 0; i < from.size(); ++i) {
      const std::size_t k = spread.at(i);
      to[i] = static_cast<float>(static_cast<std::int64_t>(from[i]) - zeros[k]) * scales[k];
    }
  });
  if (!known) return bad(node, "not for this element type");
  return std::vector<Tensor>{std::move(out)};
}

Outputs dynamic_quantize(const Node& node, Inputs inputs) {
  if (inputs[0].dtype() != DType::kF32) return bad(node, "expected f32");
  const auto from = inputs[0].as<float>();
  float low = 0;
  float high = 0;
  for (const float v : from) {
    low = std::min(low, v);
    high = std::max(high, v);
  }
  const float scale = high > low ? std::max((high - low) / 255.0F, std::numeric_limits<float>::min()) : 1.0F;
  const auto zero = static_cast<std::uint8_t>(
      std::clamp(std::nearbyint(-low / scale), 0.0F, 255.0F));
  Tensor out(DType::kU8, inputs[0].shape());
  const auto to = out.mutable_as<std::uint8_t>();
  for (std::size_t i = 0; i < from.size(); ++i) {
    to[i] = static_cast<std::uint8_t>(quantize_value(from[i], scale, zero, 0, 255));
  }
  return std::vector<Tensor>{std::move(out), Tensor::scalar(scale),
                             Tensor::of<std::uint8_t>(DType::kU8, {}, {zero})};
}

}  // namespace

void add_quantization(Registry& registry) {
  registry["QuantizeLinear"] = quantize;
  registry["DequantizeLinear"] = dequantize;
  registry["DynamicQuantizeLinear"] = dynamic_quantize;
}

}  // namespace kerf::engine::reference
