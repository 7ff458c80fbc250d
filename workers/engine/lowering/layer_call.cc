#include "workers/engine/lowering/layer_call.h"

#include <algorithm>

#include "workers/engine/executor.h"
#include "workers/engine/kernels/primitive.h"
#include "workers/engine/lowering/byte_pairs.h"
#include "workers/engine/lowering/conv_desc.h"

namespace kerf::engine {

using graph::DType;
using graph::Graph;
using graph::Node;
using graph::Shape;
using graph::Tensor;

namespace {

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
FoundKernel found_from(const Descriptor& descriptor, bool bias) {
  FoundKernel found;
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
std::optional<FoundKernel> create(const LayerCall& call, DType destination, const dnnl::primitive_attr& attributes) {
  using dnnl::memory;
  const bool has_bias = !call.bias.empty();
  const auto source = dnnl_desc(call.input_dims, call.input_numeric.dtype, call.layout);
  const auto target = dnnl_desc(call.output_dims, destination, call.layout);
  const DType weights_type = is_8_bit(call.input_numeric.dtype) ? DType::kS8 : call.input_numeric.dtype;
  const memory::desc weights(call.weights.get_dims(), dnnl_type(weights_type), memory::format_tag::any);
  const auto channels = static_cast<std::int64_t>(call.bias.size());
  try {
    if (call.kind == LayerCall::Kind::kMatrix) {
      const memory::desc bias = has_bias ? memory::desc({1, channels}, memory::data_type::f32, memory::format_tag::ab) : memory::desc();
      const dnnl::matmul::primitive_desc descriptor(cpu_engine(), source, weights, bias, target, attributes);
      return found_from(descriptor, has_bias);
    }
    const memory::desc bias = has_bias ? memory::desc({channels}, memory::data_type::f32, memory::format_tag::x) : memory::desc();
    const Window& w = call.window;
    if (call.kind == LayerCall::Kind::kTransposed) {
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

Tensor scaled(const Tensor& tensor, float factor) {
  if (factor == 1.0F) return tensor;
  Tensor out = tensor;
  for (float& v : out.mutable_as<float>()) v *= factor;
  return out;
}

/// Describes the call for conv-like layers; the dims don't depend on the number format.
Result<bool> describe_conv(Values& values, const Node& node, const LayerWeights& weights, LayerCall& call) {
  const Shape& input = values.info(node.inputs[0]).shape;
  const Shape& shape = weights.real.shape();
  const bool transposed = node.op == "ConvTranspose";
  KERF_ASSIGN(call.window, transposed ? transposed_window(node, input, shape) : conv_window(node, input, shape));
  if (input.size() > 5) return false;
  call.kind = transposed ? LayerCall::Kind::kTransposed : LayerCall::Kind::kConv;
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

void describe_conv_weights(LayerCall& call) {
  const std::int64_t groups = call.window.groups;
  call.weights = conv_weights_desc(call.weights_data.shape(), call.weights_data.dtype(), groups, call.kind == LayerCall::Kind::kTransposed);
  call.weight_mask = call.weight_scales.size() > 1 ? (groups > 1 ? 3 : 1) : 0;
}

Result<bool> describe_matrix(Values& values, const Node& node, const LayerWeights& weights, LayerCall& call) {
  const Shape& input = values.info(node.inputs[0]).shape;
  if (weights.real.rank() != 2 || input.size() < (node.op == "Gemm" ? 2U : 1U) || node.integer("transA", 0) != 0) return false;
  const bool transposed = node.op == "Gemm" && node.integer("transB", 0) != 0;
  const std::int64_t k = weights.real.dim(transposed ? 1 : 0);
  const std::int64_t n = weights.real.dim(transposed ? 0 : 1);
  if (input.back() != k || k == 0 || n == 0) return false;
  std::int64_t m = 1;
  for (std::size_t i = 0; i + 1 < input.size(); ++i) m *= input[i];
  if (m == 0) return false;
  call.kind = LayerCall::Kind::kMatrix;
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

void describe_matrix_weights(const Node& node, LayerCall& call) {
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

bool choose_integer(Values& values, const Node& node, const LayerWeights& weights, LayerCall& call) {
  const Rep* rep = values.quantized(node.inputs[0]);
  const DynamicRep* dynamic = values.dynamic(node.inputs[0]);
  if ((rep == nullptr && dynamic == nullptr) || weights.integers.elements() == 0 || node.op == "ConvTranspose") return false;
  const bool matrix = call.kind == LayerCall::Kind::kMatrix;
  // What a convolution's zero point takes away is one number a place, the same for all channels.
  if (weights.zero != 0 && !matrix && call.window.groups != 1) return false;
  if (!sums_are_exact(weights.integers)) return false;
  call.weight_zero = weights.zero;
  call.input_numeric = rep != nullptr ? rep->numeric : dynamic->rep.numeric;
  if (rep == nullptr) call.dynamic = *dynamic;
  call.weights_data = weights.integers;
  call.weight_scales = weights.scales;
  call.executes_as = "s8";
  return true;
}

void choose_float(const Node& node, const LayerWeights& weights, DType type, LayerCall& call) {
  call.input_numeric = Numeric{type, 1.0F, 0};
  call.weights_data = weights.real;
  call.weight_scales.clear();
  call.weight_zero = 0;
  call.executes_as = graph::to_string(type);
  const auto shared = node.integer("kerf_shared_values", 0);
  if (weights.bits < 32) call.executes_as += " (" + std::to_string(weights.bits) + "-bit weights)";
  else if (shared > 0) call.executes_as += " (" + std::to_string(shared) + " shared values)";
}

}  // namespace

std::optional<std::vector<float>> constant_bias(const Graph& graph, const std::string& value, std::int64_t channels) {
  const Tensor* tensor = graph.constant(value);
  if (tensor == nullptr || tensor->dtype() != DType::kF32) return std::nullopt;
  const auto values = tensor->as<float>();
  if (values.size() == 1) return std::vector<float>(static_cast<std::size_t>(channels), values[0]);
  if (tensor->elements() != channels || tensor->rank() == 0 || tensor->shape().back() != channels) return std::nullopt;
  return std::vector<float>(values.begin(), values.end());
}

Result<bool> describe_layer(Values& values, const Node& node, const LayerWeights& weights, LayerCall& call) {
  const bool matrix = node.op == "Gemm" || node.op == "MatMul";
  return matrix ? describe_matrix(values, node, weights, call) : describe_conv(values, node, weights, call);
}

bool choose(Values& values, const Node& node, const LayerWeights& weights, Arithmetic arithmetic, LayerCall& call) {
  if (arithmetic == Arithmetic::kInteger) return choose_integer(values, node, weights, call);
  const bool asks_bf16 = node.text("kerf_precision", "") == "bf16";
  if (arithmetic == Arithmetic::kBf16 && !asks_bf16) return false;
  choose_float(node, weights, arithmetic == Arithmetic::kBf16 ? DType::kBF16 : DType::kF32, call);
  // A processor without kernels for bf16; the weights are rounded to it all the same.
  if (call.executes_as == "f32" && asks_bf16) call.executes_as = "f32 (bf16 weights)";
  return true;
}

ByteWeights byte_weights(const LayerCall& call) {
  ByteWeights out{call.weights_data, call.weight_scales};
  if (has_vnni() || call.kind != LayerCall::Kind::kConv || call.input_numeric.dtype != DType::kS8) return out;
  for (std::int8_t& w : out.integers.mutable_as<std::int8_t>()) w = static_cast<std::int8_t>(2 * w);
  for (float& scale : out.scales) scale /= 2;
  return out;
}

void describe_weights(const Node& node, LayerCall& call) {
  if (call.kind == LayerCall::Kind::kMatrix) describe_matrix_weights(node, call);
  else describe_conv_weights(call);
}

std::optional<FoundKernel> find_kernel(const Values& values, const LayerCall& call, const Chain& chain, std::size_t links,
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
  if (call.weight_zero != 0 && call.kind == LayerCall::Kind::kMatrix) {
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
  FoundKernel::Residual residual = FoundKernel::Residual::kNone;
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
      residual = FoundKernel::Residual::kSum;
      posts.append_sum(numeric.scale, numeric.zero, dnnl_type(numeric.dtype));
    } else {
      residual = FoundKernel::Residual::kBinary;
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

}  // namespace kerf::engine
