// QuantizeLinear and DequantizeLinear that nothing takes in: scales per axis or block, 16 bits, and
// parameters that come while the model runs.
#include "workers/engine/kernels/quantize.h"

#include "workers/engine/geometry.h"
#include "workers/engine/lowering/light.h"

namespace kerf::engine {

using graph::DType;
using graph::Node;
using graph::Shape;

namespace {

struct Ends {
  float low, high;
};

std::optional<Ends> ends_of(DType dtype) {
  switch (dtype) {
    case DType::kS8: return Ends{-128, 127};
    case DType::kU8: return Ends{0, 255};
    case DType::kS16: return Ends{-32768, 32767};
    case DType::kU16: return Ends{0, 65535};
    case DType::kS4: return Ends{-8, 7};
    case DType::kU4: return Ends{0, 15};
    default: return std::nullopt;
  }
}

/// Calls f(T{}) for the type that elements of dtype lie in.
template <class F>
void with_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kS8:
    case DType::kS4: f(std::int8_t{}); break;
    case DType::kS16: f(std::int16_t{}); break;
    case DType::kU16: f(std::uint16_t{}); break;
    case DType::kS32: f(std::int32_t{}); break;
    default: f(std::uint8_t{}); break;
  }
}

/// nullopt where the scales don't fit the input.
std::optional<ScaleSpread> spread_of(const Node& node, const Shape& shape, const Shape& scale, Layout layout, int threads) {
  ScaleSpread s;
  s.threads = threads;
  const std::int64_t count = *graph::element_count(scale);
  if (count == 1) {
    s.inner = *graph::element_count(shape);
    return s;
  }
  const std::int64_t axis = normalized_axis(node.integer("axis", 1), shape.size());
  if (axis < 0) return std::nullopt;
  const AxisSplit split = split_at(shape, static_cast<std::size_t>(axis));
  s.outer = split.outer;
  s.extent = split.extent;
  s.inner = split.inner;
  s.block = node.integer("block_size", 0);
  if (s.block > 0) {
    Shape wanted = shape;
    wanted[static_cast<std::size_t>(axis)] = (split.extent + s.block - 1) / s.block;
    s.kind = ScaleSpread::Kind::kBlocks;
    if (scale != wanted) return std::nullopt;
    return s;
  }
  s.kind = ScaleSpread::Kind::kMiddle;
  if (count != split.extent || s.block < 0) return std::nullopt;
  if (layout == Layout::kChannelsLast && axis == 1) {
    s.outer *= s.inner;
    s.inner = 1;
  }
  return s;
}

}  // namespace

Result<bool> lower_quantization(Values& values, const Node& node) {
  const bool quantize = node.op == "QuantizeLinear";
  if ((!quantize && node.op != "DequantizeLinear") || !has_full_inputs(values, node)) return false;
  const graph::ValueInfo info = values.info(node.inputs[0]);
  const graph::ValueInfo scale_info = values.info(node.inputs[1]);
  const DType integers = quantize ? values.info(node.outputs[0]).dtype : info.dtype;
  const auto ends = ends_of(integers);
  if (scale_info.dtype != DType::kF32 || (quantize && info.dtype != DType::kF32) || (!ends && (quantize || integers != DType::kS32))) return false;
  const bool has_zero = node.has_input(2);
  if (has_zero) {
    const graph::ValueInfo& zero = values.info(node.inputs[2]);
    if (zero.dtype != integers || graph::element_count(zero.shape) != graph::element_count(scale_info.shape)) return false;
    // A zero point of 32 bits may not fit the difference.
    if (integers == DType::kS32) return false;
  }
  KERF_ASSIGN(Rep x, quantize ? float_input(values, node.inputs[0]) : values.first(node.inputs[0]));
  const std::int64_t axis = normalized_axis(node.integer("axis", 1), info.shape.size());
  const bool keeps_layout = x.folded.empty() && (graph::element_count(scale_info.shape) == 1 || (axis == 1 && node.integer("block_size", 0) == 0));
  if (!keeps_layout) x = values.in_layout(node.inputs[0], x, Layout::kPlain);
  const auto spread = spread_of(node, info.shape, scale_info.shape, x.layout, values.threads());
  if (!spread) return false;
  KERF_ASSIGN(const Rep scale, plain_input(values, node.inputs[1]));
  std::vector<SlotId> reads{x.slot, scale.slot};
  SlotId zero = -1;
  if (has_zero) {
    KERF_ASSIGN(const Rep rep, plain_input(values, node.inputs[2]));
    reads.push_back(zero = rep.slot);
  }
  const SlotId y = make_output(values, node, 0, x.layout);
  with_type(integers, [&]<class T>(T) {
    std::unique_ptr<Step> step;
    if constexpr (!std::is_same_v<T, std::int32_t>) {
      if (quantize) {
        step = make_call("kerf:quantize", reads, {y}, [=, s = *spread, e = *ends, from = x.slot, scales = scale.slot](Pointers p, std::byte*) {
          quantize_spread(s, at<const float>(p, from), at<const float>(p, scales), zero < 0 ? nullptr : at<const T>(p, zero), e.low, e.high, at<T>(p, y));
        });
      }
    }
    if (step == nullptr) {
      step = make_call("kerf:dequantize", reads, {y}, [=, s = *spread, from = x.slot, scales = scale.slot](Pointers p, std::byte*) {
        dequantize_spread(s, at<const T>(p, from), at<const float>(p, scales), zero < 0 ? nullptr : at<const T>(p, zero), at<float>(p, y));
      });
    }
    values.emit(std::move(step), node.name, node.op, std::string(graph::to_string(integers)));
  });
  return true;
}

}  // namespace kerf::engine
