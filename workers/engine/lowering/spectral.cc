// STFT of a real signal as a convolution with the turns of its frequencies.
#include <cmath>
#include <numbers>

#include "workers/engine/kernels/packed_weights.h"
#include "workers/engine/kernels/primitive.h"
#include "workers/engine/lowering/light.h"

namespace kerf::engine {

using graph::DType;
using graph::Node;
using graph::Shape;
using graph::Tensor;

namespace {

/// window[t] * exp(-2 pi i k t / length): [bins, 2] x [length], real parts and imaginary ones by turns.
Tensor turns(std::int64_t bins, std::int64_t length, const Tensor* window) {
  Tensor out(DType::kF32, {2 * bins, 1, length});
  const auto to = out.mutable_as<float>();
  for (std::int64_t k = 0; k < bins; ++k) {
    for (std::int64_t t = 0; t < length; ++t) {
      // Whole turns are left out before they cost digits.
      const double angle = 2 * std::numbers::pi * static_cast<double>(k * t % length) / static_cast<double>(length);
      const double weight = window == nullptr ? 1.0 : static_cast<double>(window->as<float>()[static_cast<std::size_t>(t)]);
      to[static_cast<std::size_t>(2 * k * length + t)] = static_cast<float>(weight * std::cos(angle));
      to[static_cast<std::size_t>((2 * k + 1) * length + t)] = static_cast<float>(-weight * std::sin(angle));
    }
  }
  return out;
}

}  // namespace

Result<bool> lower_spectral(Values& values, const Node& node) {
  constexpr std::int64_t kMostWeights = 1 << 23;
  if (node.op != "STFT" || !has_full_inputs(values, node)) return false;
  const graph::ValueInfo info = values.info(node.inputs[0]);
  const auto step = constant_integers(values, node, 1);
  const Tensor* window = node.has_input(2) ? values.graph().constant(node.inputs[2]) : nullptr;
  if (info.dtype != DType::kF32 || info.shape.size() != 3 || info.shape[2] != 1 || !step || step->size() != 1 || (node.has_input(2) && window == nullptr)) return false;
  const auto wanted = constant_integers(values, node, 3);
  if (node.has_input(3) && (!wanted || wanted->size() != 1)) return false;
  const std::int64_t length = wanted ? wanted->front() : window != nullptr ? window->elements() : 0;
  if (length < 1 || step->front() < 1 || (window != nullptr && (window->elements() != length || window->dtype() != DType::kF32))) return false;
  const Shape output = values.info(node.outputs[0]).shape;  // [batch, frames, bins, 2]
  const std::int64_t bins = output[2];
  if (bins * 2 > kMostWeights / length) return false;
  const Shape source_dims{info.shape[0], 1, info.shape[1]};
  const Shape target_dims{output[0], 2 * bins, output[1]};
  const auto source = dnnl_desc(source_dims, DType::kF32, Layout::kPlain);
  const auto target = dnnl_desc(target_dims, DType::kF32, Layout::kChannelsLast);
  const auto given = dnnl_desc({2 * bins, 1, length}, DType::kF32, Layout::kPlain);
  const dnnl::memory::desc any(given.get_dims(), dnnl::memory::data_type::f32, dnnl::memory::format_tag::any);
  // What the last frame doesn't reach is cut off.
  const std::int64_t left_over = (output[1] - 1) * step->front() + length - info.shape[1];
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  try {
    const dnnl::convolution_forward::primitive_desc descriptor(cpu_engine(), dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, source, any,
                                                               target, {step->front()}, {0}, {0}, {left_over}, attributes);
    KERF_ASSIGN(const Rep x, plain_input(values, node.inputs[0]));
    auto made = std::make_unique<PrimitiveStep>(dnnl::convolution_forward(descriptor), descriptor.impl_info_str(), descriptor.scratchpad_desc());
    const SlotId y = make_output(values, node);
    const Tensor weights = turns(bins, length, window);
    made->add(DNNL_ARG_SRC, descriptor.src_desc(), x.slot, false);
    made->add(DNNL_ARG_DST, descriptor.dst_desc(), y, true);
    made->add_fixed(DNNL_ARG_WEIGHTS, packed(given, weights.raw(), descriptor.weights_desc()));
    values.emit(std::move(made), node.name, node.op, "f32");
    return true;
  } catch (const dnnl::error&) {
    return false;
  }
}

}  // namespace kerf::engine
