// ConvInteger, where nothing says what its result stands for: exact sums of 32 bits.
#include <algorithm>

#include "workers/engine/geometry.h"
#include "workers/engine/kernels/packed_weights.h"
#include "workers/engine/kernels/primitive.h"
#include "workers/engine/kernels/zero_points.h"
#include "workers/engine/lowering/byte_pairs.h"
#include "workers/engine/lowering/conv_desc.h"
#include "workers/engine/lowering/integer.h"

namespace kerf::engine {

using graph::DType;
using graph::Node;
using graph::Shape;
using graph::Tensor;

namespace {

struct Geometry {
  Window window;
  Shape source, target;  ///< Dims, batch first.
  std::vector<std::int64_t> before, after;  ///< Pads that the library is to see.
};

/// Appends x * w as s32; nullopt where the library has no primitive.
std::optional<SlotId> emit_sums(Values& values, const Node& node, const Geometry& g, SlotId x, const Tensor& weights, const char* what) {
  Shape target = g.target;
  target[1] = weights.dim(0);
  const dnnl::memory::desc from = conv_weights_desc(weights.shape(), DType::kS8, g.window.groups, false);
  const dnnl::memory::desc any(from.get_dims(), dnnl::memory::data_type::s8, dnnl::memory::format_tag::any);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  try {
    const dnnl::convolution_forward::primitive_desc descriptor(
        cpu_engine(), dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct,
        dnnl_desc(g.source, DType::kU8, Layout::kChannelsLast), any, dnnl_desc(target, DType::kS32, Layout::kChannelsLast),
        g.window.strides, dilation_gaps(g.window.dilations), g.before, g.after, attributes);
    auto step = std::make_unique<PrimitiveStep>(dnnl::convolution_forward(descriptor), descriptor.impl_info_str(), descriptor.scratchpad_desc());
    const SlotId y = values.new_slot(DType::kS32, target, Layout::kChannelsLast);
    step->add(DNNL_ARG_SRC, descriptor.src_desc(), x, false);
    step->add(DNNL_ARG_DST, descriptor.dst_desc(), y, true);
    step->add_fixed(DNNL_ARG_WEIGHTS, packed(from, weights.raw(), descriptor.weights_desc()));
    values.emit(std::move(step), node.name, what, "s8");
    return y;
  } catch (const dnnl::error&) {
    return std::nullopt;
  }
}

/// The source as u8 with its border, and the primitive's view of it.
SlotId emit_border(Values& values, const Node& node, const Rep& x, SlotId zero, Geometry& g) {
  const bool is_signed = x.numeric.dtype == DType::kS8;
  const Window& w = g.window;
  Border border;
  border.batch = g.source[0];
  border.channels = g.source[1];
  border.flip = is_signed ? 0x80 : 0;
  border.threads = values.threads();
  const std::size_t spatial = w.input.size();
  for (std::size_t i = 0; i < spatial; ++i) {
    const std::size_t at = 3 - spatial + i;
    border.in[at] = w.input[i];
    border.before[at] = w.pads_begin[i];
    border.after[at] = w.pads_end[i];
    g.source[2 + i] += w.pads_begin[i] + w.pads_end[i];
    g.before[i] = g.after[i] = 0;
  }
  const SlotId y = values.new_slot(DType::kU8, g.source, Layout::kChannelsLast);
  std::vector<SlotId> reads{x.slot};
  if (zero >= 0) reads.push_back(zero);
  values.emit(make_call("kerf:border", reads, {y},
                        [border, zero, from = x.slot, y](Pointers p, std::byte*) {
                          const std::int32_t fill = (zero < 0 ? 0 : *at<const std::int32_t>(p, zero)) + (border.flip != 0 ? 128 : 0);
                          add_border(border, at<const std::uint8_t>(p, from), static_cast<std::uint8_t>(fill), at<std::uint8_t>(p, y));
                        }),
              node.name, "border", "u8");
  return y;
}

}  // namespace

Result<bool> lower_integer_convolution(Values& values, const Node& node) {
  const graph::ValueInfo info = values.info(node.inputs[0]);
  const Tensor* constant = values.graph().constant(node.inputs[1]);
  if (constant == nullptr || !is_byte(info.dtype) || !is_byte(constant->dtype()) || info.shape.size() < 3 || info.shape.size() > 5) return false;
  std::vector<std::int64_t> given{0};
  if (node.has_input(3)) {
    const Tensor* zeros = values.graph().constant(node.inputs[3]);
    if (zeros == nullptr || (zeros->elements() != 1 && zeros->elements() != constant->dim(0))) return false;
    given = zeros->to_integers();
  }
  Geometry g;
  KERF_ASSIGN(g.window, conv_window(node, info.shape, constant->shape()));
  const SignedWeights weights = signed_weights(*constant, given, 0);
  g.source = info.shape;
  g.target = values.info(node.outputs[0]).shape;
  g.before = g.window.pads_begin;
  g.after = g.window.pads_end;
  KERF_ASSIGN(const ZeroPoint zero, zero_point(values, node, 2));
  if (!zero.fits) return false;
  KERF_ASSIGN(const Rep first, values.first(node.inputs[0]));
  const Rep x = values.in_layout(node.inputs[0], first, Layout::kChannelsLast);
  const bool is_signed = info.dtype == DType::kS8;
  const auto has_pads = [](const Shape& pads) { return std::any_of(pads.begin(), pads.end(), [](std::int64_t p) { return p != 0; }); };
  SlotId source = x.slot;
  // With a zero point of its own the library converts its sums to floats, which hold 24 bits.
  if (is_signed || (zero.slot >= 0 && (has_pads(g.before) || has_pads(g.after)))) {
    source = emit_border(values, node, x, zero.slot, g);
  }
  const auto sums = emit_exact_sums(values, node, weights.integers, g.target, Layout::kChannelsLast, [&](const Tensor& part, const char* what) {
    return emit_sums(values, node, g, source, part, what);
  });
  if (!sums) return false;
  const std::int64_t groups = g.window.groups;
  std::optional<SlotId> windows;
  if (weights.has_zero) {
    Shape shape = constant->shape();
    shape[0] = groups;
    Tensor ones(DType::kS8, shape);
    std::ranges::fill(ones.mutable_as<std::int8_t>(), std::int8_t{1});
    windows = emit_sums(values, node, g, source, ones, "window sums");
    if (!windows) return false;
  }
  Rep out;
  out.numeric.dtype = DType::kS32;
  out.layout = Layout::kChannelsLast;
  out.slot = emit_zero_points(values, node, {*sums, windows.value_or(-1), zero.slot, is_signed}, weights, groups, g.target, Layout::kChannelsLast);
  values.set(node.outputs[0], out);
  return true;
}

}  // namespace kerf::engine
