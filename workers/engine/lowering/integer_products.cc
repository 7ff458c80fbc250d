// MatMulInteger, where nothing says what its result stands for.
#include <algorithm>

#include "workers/engine/executor.h"
#include "workers/engine/geometry.h"
#include "workers/engine/kernels/cast.h"
#include "workers/engine/kernels/packed_weights.h"
#include "workers/engine/kernels/primitive.h"
#include "workers/engine/kernels/zero_points.h"
#include "workers/engine/lowering/byte_pairs.h"
#include "workers/engine/lowering/integer.h"

namespace kerf::engine {

using graph::DType;
using graph::Node;
using graph::Shape;
using graph::Tensor;

namespace {

/// Appends [m, k] of u8 times [k, n] of s8 as s32; nullopt where the library has no primitive.
std::optional<SlotId> emit_sums(Values& values, const Node& node, SlotId x, std::int64_t m, const Tensor& weights, const Shape& dims, const char* what) {
  const std::int64_t k = weights.dim(0);
  const std::int64_t n = weights.dim(1);
  const auto from = dnnl_desc({k, n}, DType::kS8, Layout::kPlain);
  const dnnl::memory::desc any({k, n}, dnnl::memory::data_type::s8, dnnl::memory::format_tag::any);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  try {
    const dnnl::matmul::primitive_desc descriptor(cpu_engine(), dnnl_desc({m, k}, DType::kU8, Layout::kPlain), any, dnnl_desc({m, n}, DType::kS32, Layout::kPlain),
                                                  attributes);
    auto step = std::make_unique<PrimitiveStep>(dnnl::matmul(descriptor), descriptor.impl_info_str(), descriptor.scratchpad_desc());
    const SlotId y = values.new_slot(DType::kS32, dims, Layout::kPlain);
    step->add(DNNL_ARG_SRC, descriptor.src_desc(), x, false);
    step->add(DNNL_ARG_DST, descriptor.dst_desc(), y, true);
    step->add_fixed(DNNL_ARG_WEIGHTS, packed(from, weights.raw(), descriptor.weights_desc()));
    values.emit(std::move(step), node.name, what, "s8");
    return y;
  } catch (const dnnl::error&) {
    return std::nullopt;
  }
}

/// A product with a constant matrix. With zero points of its own the library converts its sums to floats,
/// which hold 24 bits; without, and with a source of u8, they are exact.
Result<bool> exact_product(Values& values, const Node& node) {
  const Tensor* constant = values.graph().constant(node.inputs[1]);
  const graph::ValueInfo info = values.info(node.inputs[0]);
  if (constant == nullptr || constant->rank() != 2 || !is_byte(constant->dtype()) || !is_byte(info.dtype) || info.shape.empty()) return false;
  std::vector<std::int64_t> given{0};
  if (node.has_input(3)) {
    const Tensor* zeros = values.graph().constant(node.inputs[3]);
    if (zeros == nullptr || (zeros->elements() != 1 && zeros->shape() != Shape{constant->dim(1)})) return false;
    given = zeros->to_integers();
  }
  KERF_ASSIGN(const ZeroPoint zero, zero_point(values, node, 2));
  if (!zero.fits) return false;
  const SignedWeights weights = signed_weights(*constant, given, 1);
  const std::int64_t m = *graph::element_count(info.shape) / constant->dim(0);
  const Shape dims = values.info(node.outputs[0]).shape;
  KERF_ASSIGN(const Rep x, plain_input(values, node.inputs[0]));
  SlotId source = x.slot;
  const bool shifted = info.dtype == DType::kS8;
  if (shifted) {
    source = values.new_slot(DType::kU8, info.shape, Layout::kPlain);
    const Flip flip{*graph::element_count(info.shape), 0x80, values.threads()};
    values.emit(make_call("kerf:flip", {x.slot}, {source},
                          [flip, from = x.slot, source](Pointers p, std::byte*) { flip_bytes(flip, at<const std::uint8_t>(p, from), at<std::uint8_t>(p, source)); }),
                node.name, "shift", "u8");
  }
  const auto sums = emit_exact_sums(values, node, weights.integers, dims, Layout::kPlain, [&](const Tensor& part, const char* what) {
    return emit_sums(values, node, source, m, part, dims, what);
  });
  if (!sums) return false;
  std::optional<SlotId> rows;
  if (weights.has_zero) {
    Tensor ones(DType::kS8, {constant->dim(0), 1});
    std::ranges::fill(ones.mutable_as<std::int8_t>(), std::int8_t{1});
    rows = emit_sums(values, node, source, m, ones, {m, 1}, "row sums");
    if (!rows) return false;
  }
  Rep out;
  out.numeric.dtype = DType::kS32;
  out.slot = emit_zero_points(values, node, {*sums, rows.value_or(-1), zero.slot, shifted}, weights, 1, dims, Layout::kPlain);
  values.set(node.outputs[0], out);
  return true;
}

/// A product of matrices of which none, or more than one, is constant; exact with VNNI only.
Result<bool> integer_product(Values& values, const Node& node) {
  if (!has_vnni()) return false;
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

SignedWeights signed_weights(const Tensor& given, std::vector<std::int64_t> zeros, std::size_t axis) {
  const auto channels = static_cast<std::size_t>(given.dim(axis));
  if (zeros.size() == 1) zeros.assign(channels, zeros[0]);
  const auto inner = static_cast<std::size_t>(row_major_strides(given.shape())[axis]);
  const std::vector<std::int64_t> all = given.to_integers();
  std::vector<std::int64_t> low(channels, 255);
  std::vector<std::int64_t> high(channels, -128);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::size_t c = i / inner % channels;
    low[c] = std::min(low[c], all[i]);
    high[c] = std::max(high[c], all[i]);
  }
  // Less their zero point where they fit s8 so; else as they are, u8 moved by 128.
  std::vector<std::int64_t> shift(channels);
  SignedWeights out;
  for (std::size_t c = 0; c < channels; ++c) {
    const bool fits = low[c] - zeros[c] >= -128 && high[c] - zeros[c] <= 127;
    shift[c] = fits ? zeros[c] : given.dtype() == DType::kU8 ? 128 : 0;
    out.zeros.push_back(static_cast<std::int32_t>(zeros[c] - shift[c]));
    out.has_zero = out.has_zero || out.zeros.back() != 0;
  }
  out.sums.assign(channels, 0);
  out.integers = Tensor(DType::kS8, given.shape());
  const auto to = out.integers.mutable_as<std::int8_t>();
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::size_t c = i / inner % channels;
    to[i] = static_cast<std::int8_t>(all[i] - shift[c]);
    out.sums[c] += to[i];
  }
  return out;
}

SlotId emit_zero_points(Values& values, const Node& node, const RawSums& raw, const SignedWeights& weights, std::int64_t groups, const Shape& dims,
                        Layout layout) {
  if (raw.x_zero < 0 && !raw.shifted && raw.windows < 0) return raw.sums;
  const auto channels = static_cast<std::int64_t>(weights.sums.size());
  const ZeroPoints how{*graph::element_count(dims) / channels, channels, groups, weights.integers.elements() / channels, values.threads()};
  const SlotId w_sums = values.constant_slot(Tensor::of(DType::kS32, {channels}, weights.sums));
  const SlotId w_zeros = values.constant_slot(Tensor::of(DType::kS32, {channels}, weights.zeros));
  const SlotId y = values.new_slot(DType::kS32, dims, layout);
  std::vector<SlotId> reads{raw.sums, w_sums, w_zeros};
  if (raw.windows >= 0) reads.push_back(raw.windows);
  if (raw.x_zero >= 0) reads.push_back(raw.x_zero);
  const std::int64_t bytes = values.plan().slots[static_cast<std::size_t>(y)].bytes;
  auto step = make_call("kerf:zero_points", std::move(reads), {y}, [=](Pointers p, std::byte*) {
    if (p[raw.sums] != p[y]) std::copy_n(p[raw.sums], bytes, p[y]);
    const std::int32_t x_zero = (raw.x_zero < 0 ? 0 : *at<const std::int32_t>(p, raw.x_zero)) + (raw.shifted ? 128 : 0);
    correct_sums(how, at<const std::int32_t>(p, w_sums), at<const std::int32_t>(p, w_zeros),
                 raw.windows < 0 ? nullptr : at<const std::int32_t>(p, raw.windows), x_zero, at<std::int32_t>(p, y));
  });
  step->in_place = raw.sums;
  values.emit(std::move(step), node.name, "zero points", "s32");
  return y;
}

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
  if (node.op != "MatMulInteger") return false;
  KERF_ASSIGN(const bool exact, exact_product(values, node));
  if (exact) return true;
  return integer_product(values, node);
}

}  // namespace kerf::engine
