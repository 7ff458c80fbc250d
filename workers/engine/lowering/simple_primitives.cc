// Pooling, Softmax and products of two values.
#include <algorithm>

#include "workers/engine/geometry.h"
#include "workers/engine/kernels/primitive.h"
#include "workers/engine/lowering/layers.h"
#include "workers/engine/lowering/light.h"

namespace kerf::engine {

using graph::DType;
using graph::Node;
using graph::Shape;

namespace {

/// Makes the step of a primitive with one source and one destination; nullptr where oneDNN refuses.
template <class Primitive, class... Arguments>
std::unique_ptr<PrimitiveStep> unary_step(SlotId from, SlotId to, const dnnl::memory::desc& source,
                                          const dnnl::memory::desc& target, Arguments&&... arguments) {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  try {
    const typename Primitive::primitive_desc descriptor(cpu_engine(), dnnl::prop_kind::forward_inference,
                                                        std::forward<Arguments>(arguments)..., attributes);
    auto step = std::make_unique<PrimitiveStep>(Primitive(descriptor), descriptor.impl_info_str(), descriptor.scratchpad_desc());
    step->add(DNNL_ARG_SRC, source, from, false);
    step->add(DNNL_ARG_DST, target, to, true);
    return step;
  } catch (const dnnl::error&) {
    return nullptr;
  }
}

}  // namespace

Result<bool> lower_pool(Values& values, const Node& node) {
  KERF_ASSIGN(const bool ours, lower_image_pool(values, node));
  if (ours) return true;
  const graph::ValueInfo& info = values.info(node.inputs[0]);
  if (node.outputs.size() != 1 || info.shape.size() < 3 || info.shape.size() > 5) return false;
  Node described = node;
  const bool global = node.op == "GlobalMaxPool";
  if (global) {
    described.attributes["kernel_shape"] = std::vector<std::int64_t>(info.shape.begin() + 2, info.shape.end());
  }
  KERF_ASSIGN(const Window w, pool_window(described, info.shape));
  const bool max = global || node.op == "MaxPool";
  auto algorithm = max ? dnnl::algorithm::pooling_max : dnnl::algorithm::pooling_avg_exclude_padding;
  if (!max && node.integer("count_include_pad", 0) != 0) {
    algorithm = dnnl::algorithm::pooling_avg_include_padding;
    // What ceil_mode adds isn't counted by ONNX, but is by oneDNN.
    described.attributes["ceil_mode"] = std::int64_t{0};
    KERF_ASSIGN(const Window declared, pool_window(described, info.shape));
    if (declared.pads_end != w.pads_end) return false;
  }
  Rep rep;
  if (info.dtype == DType::kF32) {
    KERF_ASSIGN(rep, values.first(node.inputs[0]));
    if (!max && rep.numeric.dtype != DType::kBF16) {
      KERF_ASSIGN(rep, values.as(node.inputs[0], DType::kF32, Layout::kChannelsLast));
    }
  } else if (max && (info.dtype == DType::kU8 || info.dtype == DType::kS8)) {
    KERF_ASSIGN(rep, values.first(node.inputs[0]));
  } else {
    return false;
  }
  rep = values.in_layout(node.inputs[0], rep, Layout::kChannelsLast);
  Shape dims{info.shape[0], info.shape[1]};
  dims.insert(dims.end(), w.output.begin(), w.output.end());
  dnnl::memory::dims dilations;
  for (const std::int64_t d : w.dilations) dilations.push_back(d - 1);
  const auto source = dnnl_desc(info.shape, rep.numeric.dtype, Layout::kChannelsLast);
  const auto target = dnnl_desc(dims, rep.numeric.dtype, Layout::kChannelsLast);
  Rep out = rep;
  out.slot = values.new_slot(rep.numeric.dtype, dims, Layout::kChannelsLast);
  auto step = unary_step<dnnl::pooling_forward>(rep.slot, out.slot, source, target, algorithm, source, target, w.strides,
                                                w.kernel, dilations, w.pads_begin, w.pads_end);
  if (step == nullptr) return false;
  values.emit(std::move(step), node.name, node.op, executes_as(rep.numeric));
  values.set(node.outputs[0], out);
  return true;
}

Result<bool> lower_softmax(Values& values, const Node& node) {
  const graph::ValueInfo& info = values.info(node.inputs[0]);
  const std::int64_t axis = normalized_axis(node.integer("axis", -1), info.shape.size());
  if (info.dtype != DType::kF32 || axis < 0 || graph::element_count(info.shape) == 0) return false;
  KERF_ASSIGN(const Rep rep, values.as(node.inputs[0], DType::kF32, Layout::kPlain));
  const auto desc = dnnl_desc(info.shape, DType::kF32, Layout::kPlain);
  Rep out;
  out.slot = values.new_slot(DType::kF32, info.shape, Layout::kPlain);
  const auto algorithm = node.op == "Softmax" ? dnnl::algorithm::softmax_accurate : dnnl::algorithm::softmax_log;
  auto step = unary_step<dnnl::softmax_forward>(rep.slot, out.slot, desc, desc, algorithm, desc, desc, static_cast<int>(axis));
  if (step == nullptr) return false;
  values.emit(std::move(step), node.name, node.op, "f32");
  values.set(node.outputs[0], out);
  return true;
}

Result<bool> lower_matmul(Values& values, const Node& node) {
  Shape left = values.info(node.inputs[0]).shape;
  const graph::Tensor* constant = values.graph().constant(node.inputs[1]);
  Shape right = constant != nullptr ? constant->shape() : values.info(node.inputs[1]).shape;
  if (left.size() < 2 || right.size() < 2 || values.info(node.outputs[0]).dtype != DType::kF32) return false;
  const Shape shape = values.info(node.outputs[0]).shape;
  const std::size_t rank = std::max(left.size(), right.size());
  left.insert(left.begin(), rank - left.size(), 1);
  right.insert(right.begin(), rank - right.size(), 1);
  if (shape.size() != rank || rank > 6 || graph::element_count(shape) == 0 || left.back() == 0) return false;
  KERF_ASSIGN(const Rep a, values.as(node.inputs[0], DType::kF32, Layout::kPlain));
  KERF_ASSIGN(const Rep b, values.as(node.inputs[1], DType::kF32, Layout::kPlain));
  const auto source = dnnl_desc(left, DType::kF32, Layout::kPlain);
  const auto weights = dnnl_desc(right, DType::kF32, Layout::kPlain);
  const auto target = dnnl_desc(shape, DType::kF32, Layout::kPlain);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  try {
    const dnnl::matmul::primitive_desc descriptor(cpu_engine(), source, weights, target, attributes);
    auto step = std::make_unique<PrimitiveStep>(dnnl::matmul(descriptor), descriptor.impl_info_str(), descriptor.scratchpad_desc());
    Rep out;
    out.slot = values.new_slot(DType::kF32, shape, Layout::kPlain);
    step->add(DNNL_ARG_SRC, source, a.slot, false);
    step->add(DNNL_ARG_WEIGHTS, weights, b.slot, false);
    step->add(DNNL_ARG_DST, target, out.slot, true);
    values.emit(std::move(step), node.name, node.op, "f32");
    values.set(node.outputs[0], out);
    return true;
  } catch (const dnnl::error&) {
    return false;
  }
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
