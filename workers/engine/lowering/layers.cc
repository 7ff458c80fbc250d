#include "workers/engine/lowering/layers.h"

#include <algorithm>

#include "workers/engine/kernels/copy.h"
#include "workers/engine/kernels/packed_weights.h"
#include "workers/engine/kernels/primitive.h"
#include "workers/engine/kernels/step.h"
#include "workers/engine/kernels/zero_points.h"
#include "workers/engine/lowering/layer_call.h"
#include "workers/engine/lowering/sign_contest.h"
#include "workers/engine/lowering/sign_layer.h"

namespace kerf::engine {

using graph::DType;
using graph::Node;
using graph::Shape;
using graph::Tensor;

namespace {

/// The weights of a matrix product whose left side is [n, c * spatial] in channels-last order.
Tensor with_folded_rows(const Tensor& weights, bool transposed, const Shape& folded) {
  const std::int64_t channels = folded[1];
  std::int64_t spatial = 1;
  for (std::size_t i = 2; i < folded.size(); ++i) spatial *= folded[i];
  const std::int64_t k = channels * spatial;
  const std::int64_t n = weights.elements() / k;
  Tensor out(weights.dtype(), weights.shape());
  const std::size_t size = graph::element_size(weights.dtype());
  std::byte* to = out.mutable_raw();
  const auto at = [&](std::int64_t row, std::int64_t column) {
    return static_cast<std::size_t>(transposed ? column * k + row : row * n + column) * size;
  };
  for (std::int64_t c = 0; c < channels; ++c) {
    for (std::int64_t s = 0; s < spatial; ++s) {
      for (std::int64_t column = 0; column < n; ++column) {
        std::copy_n(weights.raw() + at(c * spatial + s, column), size, to + at(s * channels + c, column));
      }
    }
  }
  return out;
}

/// Puts the input where the primitive wants it. A left side that lies in channels-last order stays;
/// the weights' rows follow it.
Result<void> place_input(Values& values, const Node& node, LayerCall& call) {
  const std::string& x = node.inputs[0];
  if (call.kind != LayerCall::Kind::kMatrix) {
    if (call.dynamic) {
      call.input = values.in_layout(x, call.dynamic->rep, call.layout, false);
      return {};
    }
    if (const Rep* rep = values.quantized(x); rep != nullptr && is_8_bit(call.input_numeric.dtype)) {
      call.input = values.in_layout(x, Rep(*rep), call.layout);
      return {};
    }
    KERF_ASSIGN(call.input, values.as(x, call.input_numeric.dtype, call.layout));
    return {};
  }
  if (call.dynamic) {
    call.input = call.dynamic->rep;
  } else if (const Rep* rep = values.quantized(x); rep != nullptr && is_8_bit(call.input_numeric.dtype)) {
    call.input = *rep;
  } else {
    KERF_ASSIGN(call.input, values.as(x, call.input_numeric.dtype, std::nullopt));
  }
  if (!call.input.folded.empty()) {
    const bool transposed = node.op == "Gemm" && node.integer("transB", 0) != 0;
    call.weights_data = with_folded_rows(call.weights_data, transposed, call.input.folded);
  } else {
    call.input = values.in_layout(x, call.input, Layout::kPlain, !call.dynamic);
  }
  return {};
}

/// The scale and zero point of the source, wherever they come from.
void add_source_numbers(const LayerCall& call, PrimitiveStep& step) {
  if (call.dynamic) {
    step.add(DNNL_ARG_ATTR_SCALES | DNNL_ARG_SRC, dnnl_desc({1}, DType::kF32, Layout::kPlain), call.dynamic->scale, false);
    step.add(DNNL_ARG_ATTR_ZERO_POINTS | DNNL_ARG_SRC, dnnl_desc({1}, DType::kS32, Layout::kPlain), call.dynamic->zero_s32, false);
    return;
  }
  step.add_fixed(DNNL_ARG_ATTR_SCALES | DNNL_ARG_SRC, f32_vector({call.input_numeric.scale}));
  if (call.input_numeric.zero != 0) {
    step.add_fixed(DNNL_ARG_ATTR_ZERO_POINTS | DNNL_ARG_SRC, s32_scalar(call.input_numeric.zero));
  }
}

/// Writes to `output` what the weights' zero point takes away: -zero * (the window's sum of the source)
/// times each channel's scale. The window's sum is a convolution with one output channel.
Result<void> emit_weight_zero(Values& values, const LayerCall& call, SlotId output) {
  LayerCall sum = call;
  sum.bias.clear();
  sum.weight_zero = 0;
  // 64 is a weight whose products every processor adds up exactly; the zero point is 2^-6 of it, times itself.
  constexpr std::int8_t kOne = 64;
  sum.weight_scales = {static_cast<float>(-call.weight_zero) / kOne};
  sum.output_dims[1] = 1;
  Shape shape = call.weights_data.shape();
  shape[0] = 1;
  sum.weights_data = Tensor(DType::kS8, shape);
  std::ranges::fill(sum.weights_data.mutable_as<std::int8_t>(), kOne);
  describe_weights(*call.node, sum);
  const auto found = find_kernel(values, sum, Chain{}, 0, false, DType::kF32, true);
  if (!found) return Error{ErrorCode::kInternal, "node " + call.node->label() + ": no primitive sums up its windows"};
  auto step = std::make_unique<PrimitiveStep>(dnnl::primitive(found->descriptor.get()), found->kernel, found->scratchpad);
  const SlotId sums = values.new_slot(DType::kF32, sum.output_dims, call.layout);
  step->add(DNNL_ARG_SRC, found->source, call.input.slot, false);
  step->add(DNNL_ARG_DST, found->destination, sums, true);
  step->add_fixed(DNNL_ARG_WEIGHTS, packed(sum.weights, sum.weights_data.raw(), found->weights));
  step->add_fixed(DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS, f32_vector(sum.weight_scales));
  add_source_numbers(sum, *step);
  values.emit(std::move(step), call.node->name, "window sums", "s8");
  const std::int64_t channels = call.output_dims[1];
  std::vector<float> scales = call.weight_scales;
  if (scales.size() == 1) scales.assign(static_cast<std::size_t>(channels), scales[0]);
  const SlotId factors = values.constant_slot(Tensor::f32({channels}, scales));
  const Spreading spreading{*graph::element_count(sum.output_dims), channels, values.threads()};
  values.emit(make_call("kerf:spread", {sums, factors}, {output},
                        [spreading, sums, factors, output](Pointers p, std::byte*) {
                          spread(spreading, at<const float>(p, sums), at<const float>(p, factors), at<float>(p, output));
                        }),
              call.node->name, "zero point", "f32");
  return {};
}

/// Emits the step of a primitive that was found.
Result<Rep> emit(Values& values, const LayerCall& call, const Chain& chain, const FoundKernel& found, DType destination, bool quantize) {
  // Making the primitive generates its code, which a descriptor that is only asked about doesn't.
  auto step = std::make_unique<PrimitiveStep>(dnnl::primitive(found.descriptor.get()), found.kernel, found.scratchpad);
  const SlotId output = values.new_slot(destination, call.value_dims, call.layout);
  if (call.weight_zero != 0 && call.kind == LayerCall::Kind::kConv) KERF_TRY(emit_weight_zero(values, call, output));
  if (found.residual != FoundKernel::Residual::kNone) {
    const std::string& other = chain.links[found.residual_link].other;
    if (found.residual == FoundKernel::Residual::kSum) {
      Rep rep;
      if (is_8_bit(destination)) {
        rep = values.in_layout(other, Rep(*values.quantized(other)), call.layout);
      } else {
        KERF_ASSIGN(rep, values.as(other, destination, call.layout));
      }
      const std::int64_t bytes = values.plan().slots[static_cast<std::size_t>(output)].bytes;
      auto copy = make_plain_copy(rep.slot, output, bytes);
      copy->elidable_copy = true;
      values.emit(std::move(copy), other, "copy", executes_as(found.residual_numeric));
    } else {
      KERF_ASSIGN(const Rep rep, values.as(other, DType::kF32, call.layout));
      step->add(DNNL_ARG_ATTR_MULTIPLE_POST_OP(found.residual_index) | DNNL_ARG_SRC_1,
                dnnl_desc(call.output_dims, DType::kF32, call.layout), rep.slot, false);
    }
  }
  step->add(DNNL_ARG_SRC, found.source, call.input.slot, false);
  step->add(DNNL_ARG_DST, found.destination, output, true);
  const bool bytes = is_8_bit(call.input_numeric.dtype);
  const ByteWeights weights = bytes ? byte_weights(call) : ByteWeights{call.weights_data, {}};
  step->add_fixed(DNNL_ARG_WEIGHTS, packed(call.weights, weights.integers.raw(), found.weights));
  if (!call.bias.empty()) {
    dnnl::memory bias(found.bias, cpu_engine());
    std::copy(call.bias.begin(), call.bias.end(), static_cast<float*>(bias.get_data_handle()));
    step->add_fixed(DNNL_ARG_BIAS, bias);
  }
  if (bytes) {
    add_source_numbers(call, *step);
    step->add_fixed(DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS, f32_vector(weights.scales));
    if (call.weight_zero != 0 && call.kind == LayerCall::Kind::kMatrix) {
      step->add_fixed(DNNL_ARG_ATTR_ZERO_POINTS | DNNL_ARG_WEIGHTS, s32_scalar(call.weight_zero));
    }
  }
  Rep out;
  out.slot = output;
  out.layout = call.layout;
  out.numeric.dtype = destination;
  if (quantize) {
    step->add_fixed(DNNL_ARG_ATTR_SCALES | DNNL_ARG_DST, f32_vector({chain.quantize->scale}));
    if (chain.quantize->zero != 0) {
      step->add_fixed(DNNL_ARG_ATTR_ZERO_POINTS | DNNL_ARG_DST, s32_scalar(chain.quantize->zero));
    }
    out.numeric = *chain.quantize;
  }
  step->info.is_layer = true;
  values.emit(std::move(step), call.node->name, call.node->op, call.executes_as);
  return out;
}

/// Tries the whole chain first, then less and less of it.
Result<std::optional<LayerOutcome>> fuse(Values& values, const LayerCall& call, const Chain& chain, bool bf16_output,
                                         bool accept_slow) {
  const auto signs = sign_layer(values, call);
  const std::size_t count = chain.links.size();
  for (std::size_t cut = 0; cut <= count + 1; ++cut) {
    const bool quantize = cut == 0 && chain.quantize.has_value();
    if (cut == 0 && !chain.quantize) continue;
    const std::size_t links = cut == 0 ? count : count - (cut - 1);
    const bool whole = cut <= 1 && !(chain.quantize && !quantize);
    DType destination = DType::kF32;
    if (quantize) destination = chain.quantize->dtype;
    else if (whole && bf16_output && call.input_numeric.dtype != DType::kF32 && (call.weight_zero == 0 || call.kind == LayerCall::Kind::kMatrix)) destination = DType::kBF16;
    for (const bool by_sum : {true, false}) {
      auto found = find_kernel(values, call, chain, links, quantize, destination, by_sum);
      // A processor without AVX-512 has integer kernels that give f32 but none that give bf16.
      if (found && is_slow(*found) && destination == DType::kBF16) {
        auto wide = find_kernel(values, call, chain, links, quantize, DType::kF32, by_sum);
        if (wide && !is_slow(*wide)) {
          found = std::move(wide);
          destination = DType::kF32;
        }
      }
      if (!found || (is_slow(*found) && !(accept_slow && cut == count + 1))) continue;
      if (signs && !is_8_bit(destination) && sign_links(chain, links) && bits_win(values, call, signs->geometry, *found, {&chain, links, destination, by_sum})) {
        KERF_ASSIGN(const Rep rep, emit_sign_layer(values, call, *signs, chain, links, destination));
        return std::optional(LayerOutcome{rep, links, false});
      }
      KERF_ASSIGN(const Rep rep, emit(values, call, chain, *found, destination, quantize));
      return std::optional(LayerOutcome{rep, links, quantize});
    }
  }
  return std::optional<LayerOutcome>();
}

}  // namespace

Result<std::optional<LayerOutcome>> lower_layer(Values& values, const Chain& chain, bool bf16_output) {
  const Node& node = values.graph().nodes[chain.anchor];
  KERF_ASSIGN(const LayerWeights weights, layer_weights(values.graph(), node));
  LayerCall call;
  call.node = &node;
  KERF_ASSIGN(const bool described, describe_layer(values, node, weights, call));
  if (!described) return std::optional<LayerOutcome>();
  // A MatMul's bias is the first link.
  Chain rest = chain;
  std::size_t done = 0;
  if (!rest.links.empty() && !rest.links[0].other.empty() && values.graph().constant(rest.links[0].other) != nullptr) {
    call.bias = *constant_bias(values.graph(), rest.links[0].other, call.output_dims[1]);
    rest.links.erase(rest.links.begin());
    done = 1;
  }
  const LayerCall described_call = call;
  for (const Arithmetic arithmetic : {Arithmetic::kInteger, Arithmetic::kBf16, Arithmetic::kF32}) {
    call = described_call;
    if (!choose(values, node, weights, arithmetic, call)) continue;
    describe_weights(node, call);
    // Whether there is a kernel at all is asked before anything is moved for it.
    const auto bare = find_kernel(values, call, rest, 0, false, DType::kF32, true);
    if (!bare || (arithmetic != Arithmetic::kF32 && is_slow(*bare))) continue;
    KERF_TRY(place_input(values, node, call));
    KERF_ASSIGN(auto outcome, fuse(values, call, rest, bf16_output, true));
    if (!outcome) continue;
    outcome->links += done;
    return outcome;
  }
  return std::optional<LayerOutcome>();
}

}  // namespace kerf::engine
