// MatMulInteger, where nothing says what its result stands for.
#include <algorithm>

#include "workers/engine/kernels/cast.h"
#include "workers/engine/kernels/primitive.h"
#include "workers/engine/lowering/integer.h"

namespace kerf::engine {

using graph::DType;
using graph::Node;
using graph::Shape;
using graph::Tensor;

namespace {

bool is_byte(DType dtype) { return dtype == DType::kU8 || dtype == DType::kS8; }

Result<bool> integer_product(Values& values, const Node& node) {
  const graph::ValueInfo left_info = values.info(node.inputs[0]);
  const graph::ValueInfo right_info = values.info(node.inputs[1]);
  Shape left = left_info.shape;
  Shape right = right_info.shape;
  const Shape shape = values.info(node.outputs[0]).shape;
  if (!is_byte(left_info.dtype) || !is_byte(right_info.dtype) || left.size() < 2 || right.size() < 2) return false;
  const std::size_t rank = std::max(left.size(), right.size());
  left.insert(left.begin(), rank - left.size(), 1);
  right.insert(right.begin(), rank - right.size(), 1);
  if (shape.size() != rank || rank > 6) return false;
  for (const std::size_t i : {2U, 3U}) {
    if (node.has_input(i) && graph::element_count(values.info(node.inputs[i]).shape) != 1) return false;
  }
  // oneDNN's products want signed weights: constant ones are moved there, with their zero point.
  const Tensor* constant = values.graph().constant(node.inputs[1]);
  SlotId weights = -1;
  DType weights_type = right_info.dtype;
  ZeroPoint right_zero;
  if (constant != nullptr && right_info.dtype == DType::kU8) {
    std::int64_t zero = 0;
    if (node.has_input(3)) {
      const Tensor* given = values.graph().constant(node.inputs[3]);
      if (given == nullptr) return false;
      zero = given->to_integers()[0];
    }
    Tensor moved(DType::kS8, right);
    const auto from = constant->as<std::uint8_t>();
    const auto to = moved.mutable_as<std::int8_t>();
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = static_cast<std::int8_t>(static_cast<int>(from[i]) - 128);
    weights_type = DType::kS8;
    weights = values.constant_slot(moved);
    if (zero != 128) {
      right_zero.slot = values.constant_slot(Tensor::of<std::int32_t>(DType::kS32, {1}, {static_cast<std::int32_t>(zero - 128)}));
    }
  } else {
    KERF_ASSIGN(right_zero, zero_point(values, node, 3));
  }
  KERF_ASSIGN(const ZeroPoint left_zero, zero_point(values, node, 2));
  if (!left_zero.fits || !right_zero.fits) return false;
  const auto source = dnnl_desc(left, left_info.dtype, Layout::kPlain);
  const auto factor = dnnl_desc(right, weights_type, Layout::kPlain);
  const auto target = dnnl_desc(shape, DType::kS32, Layout::kPlain);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (left_zero.slot >= 0) attributes.set_zero_points_mask(DNNL_ARG_SRC, 0);
  if (right_zero.slot >= 0) attributes.set_zero_points_mask(DNNL_ARG_WEIGHTS, 0);
  try {
    const dnnl::matmul::primitive_desc descriptor(cpu_engine(), source, factor, target, attributes);
    KERF_ASSIGN(const Rep a, plain_input(values, node.inputs[0]));
    if (weights < 0) {
      KERF_ASSIGN(const Rep b, plain_input(values, node.inputs[1]));
      weights = b.slot;
    }
    auto step = std::make_unique<PrimitiveStep>(dnnl::matmul(descriptor), descriptor.impl_info_str(), descriptor.scratchpad_desc());
    const dnnl::memory::desc one({1}, dnnl::memory::data_type::s32, dnnl::memory::format_tag::x);
    step->add(DNNL_ARG_SRC, source, a.slot, false);
    step->add(DNNL_ARG_WEIGHTS, factor, weights, false);
    if (left_zero.slot >= 0) step->add(DNNL_ARG_ATTR_ZERO_POINTS | DNNL_ARG_SRC, one, left_zero.slot, false);
    if (right_zero.slot >= 0) step->add(DNNL_ARG_ATTR_ZERO_POINTS | DNNL_ARG_WEIGHTS, one, right_zero.slot, false);
    step->add(DNNL_ARG_DST, target, make_output(values, node), true);
    values.emit(std::move(step), node.name, node.op, "s8");
    return true;
  } catch (const dnnl::error&) {
    return false;
  }
}

}  // namespace

Result<ZeroPoint> zero_point(Values& values, const Node& node, std::size_t i) {
  if (!node.has_input(i)) return ZeroPoint{};
  const std::string& value = node.inputs[i];
  if (graph::element_count(values.info(value).shape) != 1) return ZeroPoint{false};
  if (const Tensor* constant = values.graph().constant(value)) {
    const std::int64_t zero = constant->to_integers()[0];
    if (zero == 0) return ZeroPoint{};
    return ZeroPoint{true, values.constant_slot(Tensor::of<std::int32_t>(DType::kS32, {1}, {static_cast<std::int32_t>(zero)}))};
  }
  KERF_ASSIGN(const Rep rep, plain_input(values, value));
  const CastRun run = cast_run(values.info(value).dtype, DType::kS32);
  if (run == nullptr) return ZeroPoint{false};
  const SlotId to = values.new_slot(DType::kS32, {1}, Layout::kPlain);
  values.emit(make_call("kerf:cast", {rep.slot}, {to}, [run, from = rep.slot, to](Pointers p, std::byte*) { run(p[from], p[to], 1); }), value,
              "zero point", "s32");
  return ZeroPoint{true, to};
}

Result<bool> lower_integer_products(Values& values, const Node& node) {
  if (!has_full_inputs(values, node)) return false;
  if (node.op == "ConvInteger") return lower_integer_convolution(values, node);
  if (node.op == "MatMulInteger") return integer_product(values, node);
  return false;
}

}  // namespace kerf::engine
