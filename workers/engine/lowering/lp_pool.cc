// LpPool and GlobalLpPool: (sum of |x|^p)^(1/p) as an average of powers.
#include <cmath>

#include "workers/engine/geometry.h"
#include "workers/engine/kernels/primitive.h"
#include "workers/engine/lowering/conv_desc.h"
#include "workers/engine/lowering/layers.h"

namespace kerf::engine {

using graph::DType;
using graph::Node;
using graph::Shape;

namespace {

PointStage power(std::int64_t p) {
  PointStage stage;
  if (p == 1) {
    stage.op = PointOp::kAbsolute;
  } else if (p == 2) {
    stage.op = PointOp::kSquare;
  } else {
    stage.op = PointOp::kFunction;
    stage.function = [p](float x) { return static_cast<float>(std::pow(std::fabs(static_cast<double>(x)), static_cast<double>(p))); };
  }
  return stage;
}

}  // namespace

Result<bool> lower_lp_pool(Values& values, const Node& node) {
  const graph::ValueInfo info = values.info(node.inputs[0]);
  const std::int64_t p = node.integer("p", 2);
  if (info.dtype != DType::kF32 || info.shape.size() < 3 || info.shape.size() > 5 || p < 1) return false;
  Node described = node;
  if (node.op == "GlobalLpPool") described.attributes["kernel_shape"] = Shape(info.shape.begin() + 2, info.shape.end());
  KERF_ASSIGN(const Window w, pool_window(described, info.shape));
  const Shape target_dims = values.info(node.outputs[0]).shape;
  if (graph::element_count(info.shape).value_or(0) == 0 || graph::element_count(target_dims).value_or(0) == 0) return false;
  float count = 1;
  for (const std::int64_t k : w.kernel) count *= static_cast<float>(k);
  const auto source = dnnl_desc(info.shape, DType::kF32, Layout::kChannelsLast);
  const auto target = dnnl_desc(target_dims, DType::kF32, Layout::kChannelsLast);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  dnnl::post_ops posts;
  posts.append_eltwise(dnnl::algorithm::eltwise_linear, count, 0.0F);
  if (p == 2) posts.append_eltwise(dnnl::algorithm::eltwise_sqrt, 0.0F, 0.0F);
  else if (p > 2) posts.append_eltwise(dnnl::algorithm::eltwise_pow, 1.0F, 1.0F / static_cast<float>(p));
  attributes.set_post_ops(posts);
  try {
    // What lies outside the input counts as 0, and the mean is always over the whole window.
    const dnnl::pooling_forward::primitive_desc descriptor(cpu_engine(), dnnl::prop_kind::forward_inference, dnnl::algorithm::pooling_avg_include_padding, source,
                                                           target, w.strides, w.kernel, dilation_gaps(w.dilations), w.pads_begin, w.pads_end, attributes);
    KERF_ASSIGN(const Rep x, values.as(node.inputs[0], DType::kF32, Layout::kChannelsLast));
    const SlotId powers = values.new_slot(DType::kF32, info.shape, Layout::kChannelsLast);
    Pointwise raise;
    raise.dims = {*graph::element_count(info.shape)};
    raise.operands = {{x.slot, Numeric{}, {1}}};
    raise.stages = {power(p)};
    raise.output = powers;
    raise.threads = values.threads();
    auto step = std::make_unique<PrimitiveStep>(dnnl::pooling_forward(descriptor), descriptor.impl_info_str(), descriptor.scratchpad_desc());
    Rep out;
    out.layout = Layout::kChannelsLast;
    out.slot = values.new_slot(DType::kF32, target_dims, Layout::kChannelsLast);
    step->add(DNNL_ARG_SRC, source, powers, false);
    step->add(DNNL_ARG_DST, target, out.slot, true);
    values.emit(make_pointwise(std::move(raise)), node.name, "powers", "f32");
    values.emit(std::move(step), node.name, node.op, "f32");
    values.set(node.outputs[0], out);
    return true;
  } catch (const dnnl::error&) {
    return false;
  }
}

}  // namespace kerf::engine
