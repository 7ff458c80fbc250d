// QuantizeLinear and its kin.
#include "workers/graph/shapes/call.h"

namespace kerf::graph::shapes {
namespace {

/// Scale at input 1, zero point at input 2: one value, one a slice along axis, or one a block.
Result<void> check_parameters(const Call& call) {
  // ONNX Runtime's quantizer writes scales of shape [1] beside zero points of shape [].
  const auto one = [&](std::size_t i) { return element_count(call.shape(i)) == 1; };
  if (call.has(2) && call.shape(2) != call.shape(1) && !(one(1) && one(2))) {
    return call.fail("scale and zero point differ in shape");
  }
  if (!is_float(call.dtype(1))) return call.fail("scale must be floating point");
  if (call.rank(1) == 0 || element_count(call.shape(1)) == 1) return {};
  KERF_ASSIGN(const std::int64_t axis, call.axis(call.node.integer("axis", 1), call.rank(0)));
  const auto at = static_cast<std::size_t>(axis);
  const std::int64_t block = call.node.integer("block_size", 0);
  if (block < 0) return call.fail("block_size must not be negative");
  if (block == 0) {
    if (call.rank(1) != 1 || !compatible(call.shape(1)[0], call.shape(0)[at])) {
      return call.fail("scale must be one value or one for each of the " +
                       std::to_string(call.shape(0)[at]) + " slices along axis " +
                       std::to_string(axis));
    }
    return {};
  }
  if (call.rank(1) != call.rank(0)) return call.fail("a blocked scale must have the input's rank");
  for (std::size_t i = 0; i < call.shape(0).size(); ++i) {
    const std::int64_t dim = call.shape(0)[i];
    const std::int64_t wanted =
        i == at && dim >= 0 ? dim / block + (dim % block != 0 ? 1 : 0) : dim;
    if (!compatible(call.shape(1)[i], wanted)) {
      return call.fail("scale doesn't fit block_size " + std::to_string(block));
    }
  }
  return {};
}

bool is_quantized(DType dtype) {
  return dtype == DType::kS8 || dtype == DType::kU8 || dtype == DType::kS16 ||
         dtype == DType::kU16 || dtype == DType::kS4 || dtype == DType::kU4;
}

Result<void> quantize(Call& call) {
  if (!is_float(call.dtype(0)) && call.dtype(0) != DType::kS32)
    return call.fail("input must be floating point");
  KERF_TRY(check_parameters(call));
  DType to = call.has(2) ? call.dtype(2) : DType::kU8;
  if (!call.has(2)) {
    // output_dtype (opset 21) in ONNX's numbers.
    switch (call.node.integer("output_dtype", 0)) {
      case 0:
      case 2:
        to = DType::kU8;
        break;
      case 3:
        to = DType::kS8;
        break;
      case 4:
        to = DType::kU16;
        break;
      case 5:
        to = DType::kS16;
        break;
      case 21:
        to = DType::kU4;
        break;
      case 22:
        to = DType::kS4;
        break;
      default:
        return call.fail("output_dtype is not supported");
    }
  }
  if (!is_quantized(to)) {
    return call.fail("quantizing to " + std::string(to_string(to)) + " is not supported");
  }
  call.set(0, to, call.shape(0));
  return {};
}

Result<void> dequantize(Call& call) {
  if (!is_quantized(call.dtype(0)) && call.dtype(0) != DType::kS32) {
    return call.fail("dequantizing " + std::string(to_string(call.dtype(0))) + " is not supported");
  }
  KERF_TRY(call.want_same_dtype(0, 2));
  KERF_TRY(check_parameters(call));
  call.set(0, call.dtype(1), call.shape(0));
  return {};
}

Result<void> dynamic_quantize(Call& call) {
  if (call.dtype(0) != DType::kF32) return call.fail("input must be f32");
  call.set(0, DType::kU8, call.shape(0));
  call.set(1, DType::kF32, {});
  call.set(2, DType::kU8, {});
  return {};
}

}  // namespace

void register_quantization(Registry& registry) {
  registry["QuantizeLinear"] = {quantize, 2, 3, 1};
  registry["DequantizeLinear"] = {dequantize, 2, 3, 1};
  registry["DynamicQuantizeLinear"] = {dynamic_quantize, 1, 1, 3};
}

}  // namespace kerf::graph::shapes
