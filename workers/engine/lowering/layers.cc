#include "workers/engine/lowering/layers.h"

#include <algorithm>

#include "workers/engine/geometry.h"
#include "workers/engine/kernels/copy.h"
#include "workers/engine/kernels/packed_weights.h"
#include "workers/engine/kernels/primitive.h"
#include "workers/engine/kernels/step.h"
#include "workers/engine/kernels/zero_points.h"
#include "workers/engine/lowering/conv_desc.h"

namespace kerf::engine {

using graph::DType;
using graph::Graph;
using graph::Node;
using graph::Shape;
using graph::Tensor;

namespace {

/// A layer made ready for oneDNN: everything but its destination and post-ops.
struct Call {
  enum class Kind : std::uint8_t { kConv, kTransposed, kMatrix } kind = Kind::kConv;
  const Node* node = nullptr;
  std::string executes_as;
  Rep input;
  Numeric input_numeric;
  std::optional<DynamicRep> dynamic;  ///< The input's scale and zero point are made at run time.
  Layout layout = Layout::kPlain;  ///< Of input and output.
  Shape input_dims, output_dims;   ///< As the primitive sees them.
  Shape value_dims;                ///< As the graph sees the output.
  dnnl::memory::desc weights;      ///< As they are given.
  Tensor weights_data;
  std::vector<float> weight_scales;  ///< Of an integer layer.
  int weight_mask = 0;
  int weight_zero = 0;  ///< Of an integer layer; a convolution's is made up for by a step of its own.
  std::vector<float> bias;
  Window window;
};

/// A kernel that was found for a call with some of its chain.
struct Found {
  dnnl::primitive_desc_base descriptor;
  std::string kernel;
  dnnl::memory::desc source, weights, bias, destination, scratchpad;
  enum class Residual : std::uint8_t { kNone, kSum, kBinary } residual = Residual::kNone;
  int residual_index = 0;
  std::size_t residual_link = 0;
  Numeric residual_numeric;
};

bool is_8_bit(DType dtype) { return dtype == DType::kU8 || dtype == DType::kS8; }

std::optional<std::pair<dnnl::algorithm, std::pair<float, float>>> eltwise(const PointStage& stage) {
  using A = dnnl::algorithm;
  const auto made = [](A a, float alpha, float beta) { return std::make_pair(a, std::make_pair(alpha, beta)); };
  switch (stage.op) {
    case PointOp::kRelu: return made(A::eltwise_relu, stage.alpha, 0.0F);
    case PointOp::kClip: return made(A::eltwise_clip, stage.alpha, stage.beta);
    case PointOp::kLinear: return made(A::eltwise_linear, stage.alpha, stage.beta);
    case PointOp::kAbsolute: return made(A::eltwise_abs, 0.0F, 0.0F);
    case PointOp::kSquareRoot: return made(A::eltwise_sqrt, 0.0F, 0.0F);
    case PointOp::kHardSigmoid: return made(A::eltwise_hardsigmoid, stage.alpha, stage.beta);
    case PointOp::kHardSwish: return made(A::eltwise_hardswish, 1.0F / 6.0F, 0.5F);
    case PointOp::kExponential: return made(A::eltwise_exp, 0.0F, 0.0F);
    case PointOp::kSigmoid: return made(A::eltwise_logistic, 0.0F, 0.0F);
    case PointOp::kSwish: return made(A::eltwise_swish, 1.0F, 0.0F);
    case PointOp::kTanh: return made(A::eltwise_tanh, 0.0F, 0.0F);
    case PointOp::kElu: return made(A::eltwise_elu, stage.alpha, 0.0F);
    case PointOp::kGelu: return made(A::eltwise_gelu_erf, 0.0F, 0.0F);
    case PointOp::kGeluTanh: return made(A::eltwise_gelu_tanh, 0.0F, 0.0F);
    case PointOp::kMish: return made(A::eltwise_mish, 0.0F, 0.0F);
    case PointOp::kSoftplus: return made(A::eltwise_soft_relu, 1.0F, 0.0F);
    case PointOp::kSquare: return made(A::eltwise_square, 0.0F, 0.0F);
    default: return std::nullopt;
  }
}

/// How the residual is there, as far as it matters for choosing a kernel.
Numeric residual_numeric(const Values& values, const std::string& value, DType destination) {
  Numeric numeric;
  if (is_8_bit(destination)) {
    if (const Rep* rep = values.quantized(value)) return rep->numeric;
  } else if (destination == DType::kBF16) {
    numeric.dtype = DType::kBF16;
  }
  return numeric;
}

template <class Descriptor>
Found found_from(const Descriptor& descriptor, bool bias) {
  Found found;
  found.descriptor = descriptor;
  found.kernel = descriptor.impl_info_str();
  found.source = descriptor.src_desc();
  found.weights = descriptor.weights_desc();
  if (bias) found.bias = descriptor.bias_desc();
  found.destination = descriptor.dst_desc();
  found.scratchpad = descriptor.scratchpad_desc();
  return found;
}

/// Asks oneDNN for the primitive; nullopt where it has none.
std::optional<Found> create(const Call& call, DType destination, const dnnl::primitive_attr& attributes) {
  using dnnl::memory;
  const bool has_bias = !call.bias.empty();
  const auto source = dnnl_desc(call.input_dims, call.input_numeric.dtype, call.layout);
  const auto target = dnnl_desc(call.output_dims, destination, call.layout);
  const DType weights_type = is_8_bit(call.input_numeric.dtype) ? DType::kS8 : call.input_numeric.dtype;
  const memory::desc weights(call.weights.get_dims(), dnnl_type(weights_type), memory::format_tag::any);
  const auto channels = static_cast<std::int64_t>(call.bias.size());
  try {
    if (call.kind == Call::Kind::kMatrix) {
      const memory::desc bias = has_bias ? memory::desc({1, channels}, memory::data_type::f32, memory::format_tag::ab) : memory::desc();
      const dnnl::matmul::primitive_desc descriptor(cpu_engine(), source, weights, bias, target, attributes);
      return found_from(descriptor, has_bias);
    }
    const memory::desc bias = has_bias ? memory::desc({channels}, memory::data_type::f32, memory::format_tag::x) : memory::desc();
    const Window& w = call.window;
    if (call.kind == Call::Kind::kTransposed) {
      const dnnl::deconvolution_forward::primitive_desc descriptor(
          cpu_engine(), dnnl::prop_kind::forward_inference, dnnl::algorithm::deconvolution_direct, source, weights, bias,
          target, w.strides, dilation_gaps(w.dilations), w.pads_begin, w.pads_end, attributes);
      return found_from(descriptor, has_bias);
    }
    const dnnl::convolution_forward::primitive_desc descriptor(
        cpu_engine(), dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, source, weights, bias,
        target, w.strides, dilation_gaps(w.dilations), w.pads_begin, w.pads_end, attributes);
    return found_from(descriptor, has_bias);
  } catch (const dnnl::error&) {
    return std::nullopt;
  }
}

bool is_slow(const Found& found) { return found.kernel.starts_with("ref"); }

/// The call with the first `links` links of the chain and, at their end, the quantization.
std::optional<Found> with_links(const Values& values, const Call& call, const Chain& chain, std::size_t links,
                                bool quantize, DType destination, bool by_sum) {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const bool integer = is_8_bit(call.input_numeric.dtype);
  if (integer) {
    attributes.set_scales_mask(DNNL_ARG_SRC, 0);
    attributes.set_scales_mask(DNNL_ARG_WEIGHTS, call.weight_mask);
    if (call.input_numeric.zero != 0 || call.dynamic) attributes.set_zero_points_mask(DNNL_ARG_SRC, 0);
  }
  dnnl::post_ops posts;
  if (call.weight_zero != 0 && call.kind == Call::Kind::kMatrix) {
    attributes.set_zero_points_mask(DNNL_ARG_WEIGHTS, 0);
  } else if (call.weight_zero != 0) {
    // What the zero point takes away lies in the destination, as floats.
    if (quantize || destination != DType::kF32) return std::nullopt;
    posts.append_sum(1.0F, 0, dnnl_type(DType::kF32));
  }
  if (quantize) {
    attributes.set_scales_mask(DNNL_ARG_DST, 0);
    if (chain.quantize->zero != 0) attributes.set_zero_points_mask(DNNL_ARG_DST, 0);
  }
  Found::Residual residual = Found::Residual::kNone;
  std::size_t residual_link = 0;
  int residual_index = 0;
  Numeric numeric;
  for (std::size_t i = 0; i < links; ++i) {
    const ChainLink& link = chain.links[i];
    if (link.other.empty()) {
      const auto function = eltwise(link.stage);
      if (!function) return std::nullopt;
      posts.append_eltwise(function->first, function->second.first, function->second.second);
      continue;
    }
    if (by_sum && posts.len() > 0 && posts.kind(0) == dnnl::primitive::kind::sum) return std::nullopt;
    residual_link = i;
    residual_index = posts.len();
    numeric = residual_numeric(values, link.other, destination);
    if (by_sum) {
      if (graph::element_size(numeric.dtype) != graph::element_size(destination)) return std::nullopt;
      residual = Found::Residual::kSum;
      posts.append_sum(numeric.scale, numeric.zero, dnnl_type(numeric.dtype));
    } else {
      residual = Found::Residual::kBinary;
      numeric = Numeric{};
      posts.append_binary(dnnl::algorithm::binary_add, dnnl_desc(call.output_dims, DType::kF32, call.layout));
    }
  }
  attributes.set_post_ops(posts);
  auto found = create(call, destination, attributes);
  if (found) {
    found->residual = residual;
    found->residual_link = residual_link;
    found->residual_index = residual_index;
    found->residual_numeric = numeric;
  }
  return found;
}

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

Tensor scaled(const Tensor& tensor, float factor) {
  if (factor == 1.0F) return tensor;
  Tensor out = tensor;
  for (float& v : out.mutable_as<float>()) v *= factor;
  return out;
}

/// A constant bias as one f32 a channel; nullopt for any other.
std::optional<std::vector<float>> constant_bias(const Graph& graph, const std::string& value, std::int64_t channels) {
  const Tensor* tensor = graph.constant(value);
  if (tensor == nullptr || tensor->dtype() != DType::kF32) return std::nullopt;
  const auto values = tensor->as<float>();
  if (values.size() == 1) return std::vector<float>(static_cast<std::size_t>(channels), values[0]);
  if (tensor->elements() != channels || tensor->rank() == 0 || tensor->shape().back() != channels) return std::nullopt;
  return std::vector<float>(values.begin(), values.end());
}

/// Fills what depends on the number format; false where the layer can't run in integers.
bool choose_integer(Values& values, const Node& node, const LayerWeights& weights, Call& call) {
  const Rep* rep = values.quantized(node.inputs[0]);
  const DynamicRep* dynamic = values.dynamic(node.inputs[0]);
  if ((rep == nullptr && dynamic == nullptr) || weights.integers.elements() == 0 || node.op == "ConvTranspose") return false;
  const bool matrix = call.kind == Call::Kind::kMatrix;
  // What a convolution's zero point takes away is one number a place, the same for all channels.
  if (weights.zero != 0 && !matrix && call.window.groups != 1) return false;
  call.weight_zero = weights.zero;
  call.input_numeric = rep != nullptr ? rep->numeric : dynamic->rep.numeric;
  if (rep == nullptr) call.dynamic = *dynamic;
  call.weights_data = weights.integers;
  call.weight_scales = weights.scales;
  call.executes_as = "s8";
  return true;
}

void choose_float(const Node& node, const LayerWeights& weights, Call& call) {
  const bool bf16 = node.text("kerf_precision", "") == "bf16";
  call.input_numeric = Numeric{bf16 ? DType::kBF16 : DType::kF32, 1.0F, 0};
  call.weights_data = weights.real;
  call.weight_scales.clear();
  call.weight_zero = 0;
  call.executes_as = bf16 ? "bf16" : "f32";
  const auto shared = node.integer("kerf_shared_values", 0);
  if (weights.bits < 32) call.executes_as += " (" + std::to_string(weights.bits) + "-bit weights)";
  else if (shared > 0) call.executes_as += " (" + std::to_string(shared) + " shared values)";
}

/// Describes the call for conv-like layers; the dims don't depend on the number format.
Result<bool> describe_conv(Values& values, const Node& node, const LayerWeights& weights, Call& call) {
  const Shape& input = values.info(node.inputs[0]).shape;
  const Shape& shape = weights.real.shape();
  const bool transposed = node.op == "ConvTranspose";
  KERF_ASSIGN(call.window, transposed ? transposed_window(node, input, shape) : conv_window(node, input, shape));
  if (input.size() > 5) return false;
  call.kind = transposed ? Call::Kind::kTransposed : Call::Kind::kConv;
  call.layout = Layout::kChannelsLast;
  call.input_dims = input;
  const std::int64_t channels = transposed ? shape[1] * call.window.groups : shape[0];
  call.output_dims = {input[0], channels};
  call.output_dims.insert(call.output_dims.end(), call.window.output.begin(), call.window.output.end());
  call.value_dims = call.output_dims;
  if (transposed) call.window.pads_end = transposed_ends(call.window);
  for (const std::int64_t extent : call.output_dims) {
    if (extent == 0) return false;
  }
  if (node.has_input(2)) {
    auto bias = constant_bias(values.graph(), node.inputs[2], channels);
    if (!bias) return false;
    call.bias = std::move(*bias);
  }
  return true;
}

/// The weights' descriptor, which depends on the number format.
void describe_conv_weights(Call& call) {
  const std::int64_t groups = call.window.groups;
  call.weights = conv_weights_desc(call.weights_data.shape(), call.weights_data.dtype(), groups, call.kind == Call::Kind::kTransposed);
  call.weight_mask = call.weight_scales.size() > 1 ? (groups > 1 ? 3 : 1) : 0;
}

Result<bool> describe_matrix(Values& values, const Node& node, const LayerWeights& weights, Call& call) {
  const Shape& input = values.info(node.inputs[0]).shape;
  if (weights.real.rank() != 2 || input.size() < (node.op == "Gemm" ? 2U : 1U) || node.integer("transA", 0) != 0) return false;
  const bool transposed = node.op == "Gemm" && node.integer("transB", 0) != 0;
  const std::int64_t k = weights.real.dim(transposed ? 1 : 0);
  const std::int64_t n = weights.real.dim(transposed ? 0 : 1);
  if (input.back() != k || k == 0 || n == 0) return false;
  std::int64_t m = 1;
  for (std::size_t i = 0; i + 1 < input.size(); ++i) m *= input[i];
  if (m == 0) return false;
  call.kind = Call::Kind::kMatrix;
  call.input_dims = {m, k};
  call.output_dims = {m, n};
  call.value_dims = input;
  call.value_dims.back() = n;
  if (node.has_input(2)) {
    auto bias = constant_bias(values.graph(), node.inputs[2], n);
    if (!bias) return false;
    const float beta = node.real("beta", 1.0F);
    for (float& v : *bias) v *= beta;
    call.bias = std::move(*bias);
  }
  return true;
}

void describe_matrix_weights(const Node& node, Call& call) {
  const bool transposed = node.op == "Gemm" && node.integer("transB", 0) != 0;
  const std::int64_t k = call.input_dims[1];
  const std::int64_t n = call.output_dims[1];
  const float alpha = node.op == "Gemm" ? node.real("alpha", 1.0F) : 1.0F;
  if (call.weight_scales.empty()) call.weights_data = scaled(call.weights_data, alpha);
  for (float& scale : call.weight_scales) scale *= alpha;
  call.weights = dnnl::memory::desc({k, n}, dnnl_type(call.weights_data.dtype()),
                                    transposed ? dnnl::memory::dims{1, k} : dnnl::memory::dims{n, 1});
  call.weight_mask = call.weight_scales.size() > 1 ? 2 : 0;
}

/// Puts the input where the primitive wants it. A left side that lies in channels-last order stays;
/// the weights' rows follow it.
Result<void> place_input(Values& values, const Node& node, Call& call) {
  const std::string& x = node.inputs[0];
  if (call.kind != Call::Kind::kMatrix) {
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
void add_source_numbers(const Call& call, PrimitiveStep& step) {
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
Result<void> emit_weight_zero(Values& values, const Call& call, SlotId output) {
  Call sum = call;
  sum.bias.clear();
  sum.weight_zero = 0;
  // 128 isn't one of s8: 64, twice.
  const bool halved = call.weight_zero == -128;
  sum.weight_scales = {halved ? 2.0F : 1.0F};
  sum.output_dims[1] = 1;
  Shape shape = call.weights_data.shape();
  shape[0] = 1;
  sum.weights_data = Tensor(DType::kS8, shape);
  for (auto& v : sum.weights_data.mutable_as<std::int8_t>()) v = static_cast<std::int8_t>(halved ? 64 : -call.weight_zero);
  describe_conv_weights(sum);
  const auto found = with_links(values, sum, Chain{}, 0, false, DType::kF32, true);
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
Result<Rep> emit(Values& values, const Call& call, const Chain& chain, const Found& found, DType destination, bool quantize) {
  // Making the primitive generates its code, which a descriptor that is only asked about doesn't.
  auto step = std::make_unique<PrimitiveStep>(dnnl::primitive(found.descriptor.get()), found.kernel, found.scratchpad);
  const SlotId output = values.new_slot(destination, call.value_dims, call.layout);
  if (call.weight_zero != 0 && call.kind == Call::Kind::kConv) KERF_TRY(emit_weight_zero(values, call, output));
  if (found.residual != Found::Residual::kNone) {
    const std::string& other = chain.links[found.residual_link].other;
    if (found.residual == Found::Residual::kSum) {
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
  step->add_fixed(DNNL_ARG_WEIGHTS, packed(call.weights, call.weights_data.raw(), found.weights));
  if (!call.bias.empty()) {
    dnnl::memory bias(found.bias, cpu_engine());
    std::copy(call.bias.begin(), call.bias.end(), static_cast<float*>(bias.get_data_handle()));
    step->add_fixed(DNNL_ARG_BIAS, bias);
  }
  if (is_8_bit(call.input_numeric.dtype)) {
    add_source_numbers(call, *step);
    step->add_fixed(DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS, f32_vector(call.weight_scales));
    if (call.weight_zero != 0 && call.kind == Call::Kind::kMatrix) {
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
Result<std::optional<LayerOutcome>> fuse(Values& values, const Call& call, const Chain& chain, bool bf16_output,
                                         bool accept_slow) {
  const std::size_t count = chain.links.size();
  for (std::size_t cut = 0; cut <= count + 1; ++cut) {
    const bool quantize = cut == 0 && chain.quantize.has_value();
    if (cut == 0 && !chain.quantize) continue;
    const std::size_t links = cut == 0 ? count : count - (cut - 1);
    const bool whole = cut <= 1 && !(chain.quantize && !quantize);
    DType destination = DType::kF32;
    if (quantize) destination = chain.quantize->dtype;
    else if (whole && bf16_output && call.input_numeric.dtype != DType::kF32 && (call.weight_zero == 0 || call.kind == Call::Kind::kMatrix)) destination = DType::kBF16;
    for (const bool by_sum : {true, false}) {
      const auto found = with_links(values, call, chain, links, quantize, destination, by_sum);
      if (!found || (is_slow(*found) && !(accept_slow && cut == count + 1))) continue;
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
  Call call;
  call.node = &node;
  const bool matrix = node.op == "Gemm" || node.op == "MatMul";
  KERF_ASSIGN(const bool described, matrix ? describe_matrix(values, node, weights, call)
                                           : describe_conv(values, node, weights, call));
  if (!described) return std::optional<LayerOutcome>();
  // A MatMul's bias is the first link.
  Chain rest = chain;
  std::size_t done = 0;
  if (!rest.links.empty() && !rest.links[0].other.empty() && values.graph().constant(rest.links[0].other) != nullptr) {
    call.bias = *constant_bias(values.graph(), rest.links[0].other, call.output_dims[1]);
    rest.links.erase(rest.links.begin());
    done = 1;
  }
  const Call described_call = call;
  for (const bool integer : {true, false}) {
    call = described_call;
    if (integer) {
      if (!choose_integer(values, node, weights, call)) continue;
    } else {
      choose_float(node, weights, call);
    }
    if (matrix) describe_matrix_weights(node, call);
    else describe_conv_weights(call);
    // Whether there is a kernel at all is asked before anything is moved for it.
    const auto bare = with_links(values, call, rest, 0, false, DType::kF32, true);
    if (!bare || (integer && is_slow(*bare))) continue;
    KERF_TRY(place_input(values, node, call));
    KERF_ASSIGN(auto outcome, fuse(values, call, rest, bf16_output, true));
    if (!outcome) continue;
    outcome->links += done;
    return outcome;
  }
  return std::optional<LayerOutcome>();
}

}  // namespace kerf::engine
