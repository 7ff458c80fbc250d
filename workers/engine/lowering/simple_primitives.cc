// Pooling and Softmax.
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

Result<bool> lower_softmax(Values& values, const Node& node, const Numeric& wanted) {
  const graph::ValueInfo& info = values.info(node.inputs[0]);
  const std::int64_t axis = normalized_axis(node.integer("axis", -1), info.shape.size());
  if (info.dtype != DType::kF32 || axis < 0 || graph::element_count(info.shape) == 0) return false;
  KERF_ASSIGN(const Rep rep, values.as(node.inputs[0], DType::kF32, Layout::kPlain));
  const auto from = dnnl_desc(info.shape, DType::kF32, Layout::kPlain);
  const auto to = dnnl_desc(info.shape, wanted.dtype, Layout::kPlain);
  const bool quantize = wanted.dtype == DType::kU8 || wanted.dtype == DType::kS8;
  // The library knows a scale here, but no zero point.
  if (wanted.zero != 0) return false;
  Rep out;
  out.numeric = wanted;
  const auto algorithm = node.op == "Softmax" ? dnnl::algorithm::softmax_accurate : dnnl::algorithm::softmax_log;
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (quantize) attributes.set_scales_mask(DNNL_ARG_DST, 0);
  try {
    const dnnl::softmax_forward::primitive_desc descriptor(cpu_engine(), dnnl::prop_kind::forward_inference, algorithm, from, to, static_cast<int>(axis),
                                                           attributes);
    const std::string kernel = descriptor.impl_info_str();
    if (quantize && kernel.starts_with("ref")) return false;
    out.slot = values.new_slot(wanted.dtype, info.shape, Layout::kPlain);
    auto step = std::make_unique<PrimitiveStep>(dnnl::softmax_forward(descriptor), kernel, descriptor.scratchpad_desc());
    step->add(DNNL_ARG_SRC, from, rep.slot, false);
    step->add(DNNL_ARG_DST, to, out.slot, true);
    if (quantize) step->add_fixed(DNNL_ARG_ATTR_SCALES | DNNL_ARG_DST, f32_vector({wanted.scale}));
    values.emit(std::move(step), node.name, node.op, executes_as(wanted));
    values.set(node.outputs[0], out);
    return true;
  } catch (const dnnl::error&) {
    return false;
  }
}

}  // namespace kerf::engine
