// Products of two values: MatMul, and Gemm whose form no layer has.
#include <algorithm>

#include "workers/engine/executor.h"
#include "workers/engine/geometry.h"
#include "workers/engine/kernels/primitive.h"
#include "workers/engine/kernels/step.h"
#include "workers/engine/kernels/zero_points.h"
#include "workers/engine/lowering/layers.h"
#include "workers/engine/lowering/light.h"

namespace kerf::engine {

using graph::DType;
using graph::Node;
using graph::Shape;

namespace {

/// The factors' shapes, of one rank, and the product's.
struct Factors {
  Shape left, right, product;
};

std::optional<Factors> factors_of(const Values& values, const Node& node) {
  Factors f{values.info(node.inputs[0]).shape, values.info(node.inputs[1]).shape, values.info(node.outputs[0]).shape};
  if (f.left.size() < 2 || f.right.size() < 2 || values.info(node.outputs[0]).dtype != DType::kF32) return std::nullopt;
  const std::size_t rank = std::max(f.left.size(), f.right.size());
  f.left.insert(f.left.begin(), rank - f.left.size(), 1);
  f.right.insert(f.right.begin(), rank - f.right.size(), 1);
  if (f.product.size() != rank || rank > 6 || graph::element_count(f.product) == 0 || f.left.back() == 0) return std::nullopt;
  return f;
}

/// A right factor of u8 as s8, which is what the library multiplies with: both moved by 128.
Rep as_signed(Values& values, const Node& node, const Rep& rep) {
  if (rep.numeric.dtype == DType::kS8) return rep;
  for (const Rep& other : values.all(node.inputs[1])) {
    if (other.numeric.dtype == DType::kS8 && other.layout == Layout::kPlain && other.folded.empty()) return other;
  }
  Rep out = rep;
  out.numeric = Numeric{DType::kS8, rep.numeric.scale, rep.numeric.zero - 128};
  out.slot = values.new_slot(DType::kS8, values.dims(rep), rep.layout);
  const Flip flip{*graph::element_count(values.dims(rep)), 0x80, values.threads()};
  auto step = make_call("kerf:flip", {rep.slot}, {out.slot}, [flip, from = rep.slot, to = out.slot](Pointers p, std::byte*) {
    flip_bytes(flip, at<const std::uint8_t>(p, from), at<std::uint8_t>(p, to));
  });
  values.emit(std::move(step), node.inputs[1], "requantize", "s8");
  values.set(node.inputs[1], out);
  return out;
}

/// Both factors are bytes with a scale: one integer product, rounded to `wanted` where that is bytes. False
/// without VNNI, where sums of bytes that nothing is known of may saturate.
Result<bool> integer_product(Values& values, const Node& node, const Factors& f, const Numeric& wanted) {
  const Rep* left = values.quantized(node.inputs[0]);
  const Rep* right = values.quantized(node.inputs[1]);
  if (left == nullptr || right == nullptr || !has_vnni()) return false;
  const Numeric a_numeric = left->numeric;
  Numeric b_numeric = right->numeric;
  if (b_numeric.dtype == DType::kU8) b_numeric = Numeric{DType::kS8, b_numeric.scale, b_numeric.zero - 128};
  const bool quantize = wanted.dtype == DType::kU8 || wanted.dtype == DType::kS8;
  const DType destination = quantize ? wanted.dtype : DType::kF32;
  const auto source = dnnl_desc(f.left, a_numeric.dtype, Layout::kPlain);
  const auto weights = dnnl_desc(f.right, DType::kS8, Layout::kPlain);
  const auto target = dnnl_desc(f.product, destination, Layout::kPlain);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  attributes.set_scales_mask(DNNL_ARG_SRC, 0);
  attributes.set_scales_mask(DNNL_ARG_WEIGHTS, 0);
  if (a_numeric.zero != 0) attributes.set_zero_points_mask(DNNL_ARG_SRC, 0);
  if (b_numeric.zero != 0) attributes.set_zero_points_mask(DNNL_ARG_WEIGHTS, 0);
  if (quantize) {
    attributes.set_scales_mask(DNNL_ARG_DST, 0);
    if (wanted.zero != 0) attributes.set_zero_points_mask(DNNL_ARG_DST, 0);
  }
  try {
    const dnnl::matmul::primitive_desc descriptor(cpu_engine(), source, weights, target, attributes);
    const std::string kernel = descriptor.impl_info_str();
    if (kernel.starts_with("ref")) return false;
    const Rep a = values.in_layout(node.inputs[0], Rep(*left), Layout::kPlain);
    const Rep b = as_signed(values, node, values.in_layout(node.inputs[1], Rep(*values.quantized(node.inputs[1])), Layout::kPlain));
    auto step = std::make_unique<PrimitiveStep>(dnnl::matmul(descriptor), kernel, descriptor.scratchpad_desc());
    Rep out;
    if (quantize) out.numeric = wanted;
    out.slot = values.new_slot(destination, f.product, Layout::kPlain);
    step->add(DNNL_ARG_SRC, source, a.slot, false);
    step->add(DNNL_ARG_WEIGHTS, weights, b.slot, false);
    step->add(DNNL_ARG_DST, target, out.slot, true);
    step->add_fixed(DNNL_ARG_ATTR_SCALES | DNNL_ARG_SRC, f32_vector({a.numeric.scale}));
    step->add_fixed(DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS, f32_vector({b.numeric.scale}));
    if (a.numeric.zero != 0) step->add_fixed(DNNL_ARG_ATTR_ZERO_POINTS | DNNL_ARG_SRC, s32_scalar(a.numeric.zero));
    if (b.numeric.zero != 0) step->add_fixed(DNNL_ARG_ATTR_ZERO_POINTS | DNNL_ARG_WEIGHTS, s32_scalar(b.numeric.zero));
    if (quantize) {
      step->add_fixed(DNNL_ARG_ATTR_SCALES | DNNL_ARG_DST, f32_vector({wanted.scale}));
      if (wanted.zero != 0) step->add_fixed(DNNL_ARG_ATTR_ZERO_POINTS | DNNL_ARG_DST, s32_scalar(wanted.zero));
    }
    step->info.is_layer = graph::is_layer(values.graph(), node);
    values.emit(std::move(step), node.name, node.op, "s8");
    values.set(node.outputs[0], out);
    return true;
  } catch (const dnnl::error&) {
    return false;
  }
}

/// A product of floats; `type` is that of the factors.
Result<bool> float_product(Values& values, const Node& node, const Factors& f, DType type, DType destination) {
  const auto source = dnnl_desc(f.left, type, Layout::kPlain);
  const auto weights = dnnl_desc(f.right, type, Layout::kPlain);
  const auto target = dnnl_desc(f.product, destination, Layout::kPlain);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  try {
    const dnnl::matmul::primitive_desc descriptor(cpu_engine(), source, weights, target, attributes);
    const std::string kernel = descriptor.impl_info_str();
    if (type != DType::kF32 && kernel.starts_with("ref")) return false;
    KERF_ASSIGN(const Rep a, values.as(node.inputs[0], type, Layout::kPlain));
    KERF_ASSIGN(const Rep b, values.as(node.inputs[1], type, Layout::kPlain));
    auto step = std::make_unique<PrimitiveStep>(dnnl::matmul(descriptor), kernel, descriptor.scratchpad_desc());
    Rep out;
    out.numeric.dtype = destination;
    out.slot = values.new_slot(destination, f.product, Layout::kPlain);
    step->add(DNNL_ARG_SRC, source, a.slot, false);
    step->add(DNNL_ARG_WEIGHTS, weights, b.slot, false);
    step->add(DNNL_ARG_DST, target, out.slot, true);
    step->info.is_layer = graph::is_layer(values.graph(), node);
    values.emit(std::move(step), node.name, node.op, std::string(graph::to_string(type)));
    values.set(node.outputs[0], out);
    return true;
  } catch (const dnnl::error&) {
    return false;
  }
}

}  // namespace

Result<bool> lower_matmul(Values& values, const Node& node, const ProductTypes& types) {
  const auto f = factors_of(values, node);
  if (!f || !values.known(node.inputs[0]) || !values.known(node.inputs[1])) return false;
  KERF_ASSIGN(const bool integer, integer_product(values, node, *f, types.output));
  if (integer) return true;
  if (types.output.dtype == DType::kU8 || types.output.dtype == DType::kS8) return false;
  if (types.bf16) {
    KERF_ASSIGN(const bool narrow, float_product(values, node, *f, DType::kBF16, types.output.dtype));
    if (narrow) return true;
  }
  return float_product(values, node, *f, DType::kF32, DType::kF32);
}

Result<bool> lower_gemm(Values& values, const Node& node) {
  const Shape left = values.info(node.inputs[0]).shape;
  const Shape right = values.info(node.inputs[1]).shape;
  const Shape shape = values.info(node.outputs[0]).shape;
  if (values.info(node.outputs[0]).dtype != DType::kF32 || left.size() != 2 || right.size() != 2 || !values.known(node.inputs[1])) return false;
  if (graph::element_count(left).value_or(0) == 0 || graph::element_count(shape).value_or(0) == 0) return false;
  const float beta = node.real("beta", 1.0F);
  const bool has_bias = node.has_input(2) && beta != 0.0F;
  KERF_ASSIGN(const Rep a, values.as(node.inputs[0], DType::kF32, Layout::kPlain));
  KERF_ASSIGN(const Rep b, values.as(node.inputs[1], DType::kF32, Layout::kPlain));
  // A transposed matrix is the same memory with its strides exchanged.
  const auto matrix = [](const Shape& dims, bool transposed) {
    const dnnl::memory::dims seen = transposed ? dnnl::memory::dims{dims[1], dims[0]} : dnnl::memory::dims{dims[0], dims[1]};
    return dnnl::memory::desc(seen, dnnl::memory::data_type::f32, transposed ? dnnl::memory::dims{1, dims[1]} : dnnl::memory::dims{dims[1], 1});
  };
  const auto source = matrix(left, node.integer("transA", 0) != 0);
  const auto weights = matrix(right, node.integer("transB", 0) != 0);
  const auto target = dnnl_desc(shape, DType::kF32, Layout::kPlain);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  dnnl::post_ops posts;
  // beta * (alpha / beta * product + C)
  const float alpha = node.real("alpha", 1.0F) / (has_bias ? beta : 1.0F);
  if (alpha != 1.0F) posts.append_eltwise(dnnl::algorithm::eltwise_linear, alpha, 0.0F);
  dnnl::memory::desc bias;
  Rep c;
  int bias_index = 0;
  if (has_bias) {
    KERF_ASSIGN(c, values.as(node.inputs[2], DType::kF32, Layout::kPlain));
    Shape dims = values.dims(c);
    dims.insert(dims.begin(), 2 - std::min<std::size_t>(dims.size(), 2), 1);
    bias = dnnl_desc(dims, DType::kF32, Layout::kPlain);
    bias_index = posts.len();
    posts.append_binary(dnnl::algorithm::binary_add, bias);
    if (beta != 1.0F) posts.append_eltwise(dnnl::algorithm::eltwise_linear, beta, 0.0F);
  }
  attributes.set_post_ops(posts);
  try {
    const dnnl::matmul::primitive_desc descriptor(cpu_engine(), source, weights, target, attributes);
    auto step = std::make_unique<PrimitiveStep>(dnnl::matmul(descriptor), descriptor.impl_info_str(), descriptor.scratchpad_desc());
    Rep out;
    out.slot = values.new_slot(DType::kF32, shape, Layout::kPlain);
    step->add(DNNL_ARG_SRC, source, a.slot, false);
    step->add(DNNL_ARG_WEIGHTS, weights, b.slot, false);
    if (has_bias) step->add(DNNL_ARG_ATTR_MULTIPLE_POST_OP(bias_index) | DNNL_ARG_SRC_1, bias, c.slot, false);
    step->add(DNNL_ARG_DST, target, out.slot, true);
    step->info.is_layer = graph::is_layer(values.graph(), node);
    values.emit(std::move(step), node.name, node.op, "f32");
    values.set(node.outputs[0], out);
    return true;
  } catch (const dnnl::error&) {
    return false;
  }
}

}  // namespace kerf::engine
