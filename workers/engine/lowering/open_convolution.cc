// Conv and ConvTranspose whose weights or bias aren't there before the model runs.
#include <algorithm>

#include "workers/engine/geometry.h"
#include "workers/engine/kernels/packed_weights.h"
#include "workers/engine/kernels/primitive.h"
#include "workers/engine/lowering/conv_desc.h"
#include "workers/engine/lowering/layers.h"

namespace kerf::engine {

using graph::DType;
using graph::Node;
using graph::Shape;
using graph::Tensor;

namespace {

/// A primitive whose weights lie as they are fastest.
struct Chosen {
  dnnl::primitive_desc_base descriptor;
  std::string kernel;
  dnnl::memory::desc source, weights, bias, target, scratchpad;
};

template <class Descriptor>
Chosen chosen(const Descriptor& d, bool has_bias) {
  return {d, d.impl_info_str(), d.src_desc(), d.weights_desc(), has_bias ? d.bias_desc() : dnnl::memory::desc(), d.dst_desc(), d.scratchpad_desc()};
}

std::optional<Chosen> choose(const Window& w, bool transposed, const Shape& source_dims, const Shape& target_dims, const dnnl::memory::desc& weights,
                             bool has_bias) {
  using dnnl::memory;
  const auto source = dnnl_desc(source_dims, DType::kF32, Layout::kChannelsLast);
  const auto target = dnnl_desc(target_dims, DType::kF32, Layout::kChannelsLast);
  const memory::desc any(weights.get_dims(), memory::data_type::f32, memory::format_tag::any);
  const memory::desc bias = has_bias ? memory::desc({target_dims[1]}, memory::data_type::f32, memory::format_tag::x) : memory::desc();
  const memory::dims dilations = dilation_gaps(w.dilations);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  try {
    if (transposed) {
      return chosen(dnnl::deconvolution_forward::primitive_desc(cpu_engine(), dnnl::prop_kind::forward_inference, dnnl::algorithm::deconvolution_direct,
                                                                source, any, bias, target, w.strides, dilations, w.pads_begin, transposed_ends(w), attributes),
                    has_bias);
    }
    return chosen(dnnl::convolution_forward::primitive_desc(cpu_engine(), dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, source, any,
                                                            bias, target, w.strides, dilations, w.pads_begin, w.pads_end, attributes),
                  has_bias);
  } catch (const dnnl::error&) {
    return std::nullopt;
  }
}

/// Appends the reorder of weights that come while the model runs; the slot with the result.
Result<SlotId> emit_packing(Values& values, const Node& node, const dnnl::memory::desc& given, const dnnl::memory::desc& wanted) {
  KERF_ASSIGN(const Rep rep, values.as(node.inputs[1], DType::kF32, Layout::kPlain));
  if (given == wanted) return rep.slot;
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const dnnl::reorder::primitive_desc descriptor(cpu_engine(), given, cpu_engine(), wanted, attributes);
  auto step = std::make_unique<PrimitiveStep>(dnnl::reorder(descriptor), descriptor.impl_info_str(), descriptor.scratchpad_desc());
  const SlotId packed_slot = values.new_slot(DType::kU8, {static_cast<std::int64_t>(wanted.get_size())}, Layout::kPlain);
  step->add(DNNL_ARG_FROM, given, rep.slot, false);
  step->add(DNNL_ARG_TO, wanted, packed_slot, true);
  values.emit(std::move(step), node.inputs[1], "reorder", "f32");
  return packed_slot;
}

}  // namespace

Result<bool> lower_open_convolution(Values& values, const Node& node) {
  const bool transposed = node.op == "ConvTranspose";
  const bool layer = graph::is_layer(values.graph(), node);
  const Shape input = values.info(node.inputs[0]).shape;
  const Shape output = values.info(node.outputs[0]).shape;
  if (input.size() < 3 || input.size() > 5 || values.info(node.outputs[0]).dtype != DType::kF32) return false;
  if (graph::element_count(input).value_or(0) == 0 || graph::element_count(output).value_or(0) == 0) return false;
  LayerWeights known;
  if (layer) {
    KERF_ASSIGN(known, layer_weights(values.graph(), node));
  } else if (!values.known(node.inputs[1])) {
    return false;
  }
  const Shape shape = layer ? known.real.shape() : values.info(node.inputs[1]).shape;
  if (graph::element_count(shape).value_or(0) == 0) return false;
  KERF_ASSIGN(const Window w, transposed ? transposed_window(node, input, shape) : conv_window(node, input, shape));
  const bool has_bias = node.has_input(2);
  if (has_bias && graph::element_count(values.info(node.inputs[2]).shape) != output[1]) return false;
  const dnnl::memory::desc given = conv_weights_desc(shape, DType::kF32, w.groups, transposed);
  const auto found = choose(w, transposed, input, output, given, has_bias);
  if (!found) return false;
  KERF_ASSIGN(const Rep x, values.as(node.inputs[0], DType::kF32, Layout::kChannelsLast));
  auto step = std::make_unique<PrimitiveStep>(dnnl::primitive(found->descriptor.get()), found->kernel, found->scratchpad);
  step->add(DNNL_ARG_SRC, found->source, x.slot, false);
  if (layer) {
    step->add_fixed(DNNL_ARG_WEIGHTS, packed(given, known.real.raw(), found->weights));
  } else {
    KERF_ASSIGN(const SlotId weights, emit_packing(values, node, given, found->weights));
    step->add(DNNL_ARG_WEIGHTS, found->weights, weights, false);
  }
  if (has_bias) {
    KERF_ASSIGN(const Rep bias, values.as(node.inputs[2], DType::kF32, Layout::kPlain));
    step->add(DNNL_ARG_BIAS, found->bias, bias.slot, false);
  }
  Rep out;
  out.layout = Layout::kChannelsLast;
  out.slot = values.new_slot(DType::kF32, output, Layout::kChannelsLast);
  step->add(DNNL_ARG_DST, found->target, out.slot, true);
  step->info.is_layer = layer;
  values.emit(std::move(step), node.name, node.op, "f32");
  values.set(node.outputs[0], out);
  return true;
}

}  // namespace kerf::engine
