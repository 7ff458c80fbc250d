#include "workers/engine/lowering/sign_layer.h"

#include <algorithm>

#include "workers/engine/kernels/packed_weights.h"
#include "workers/engine/kernels/primitive.h"
#include "workers/engine/kernels/step.h"
#include "workers/engine/lowering/lowering.h"

namespace kerf::engine {

using graph::DType;
using graph::Graph;
using graph::Node;

namespace {

/// The Sign whose result this value is, by way of integers with a scale; null for any other value.
const Node* sign_behind(const Graph& graph, const std::string& value) {
  const Node* dequantize = graph.producer(value);
  if (dequantize == nullptr || dequantize->op != "DequantizeLinear") return nullptr;
  const Node* quantize = graph.producer(dequantize->inputs[0]);
  if (quantize == nullptr || quantize->op != "QuantizeLinear") return nullptr;
  const auto numeric = tensor_numeric(graph, *quantize);
  if (!numeric || *numeric != Numeric{DType::kS8, 1.0F, 0}) return nullptr;
  const Node* sign = graph.producer(quantize->inputs[0]);
  return sign != nullptr && sign->op == "Sign" ? sign : nullptr;
}

std::optional<SignGeometry> geometry_of(const LayerCall& call) {
  SignGeometry g;
  g.batch = call.input_dims[0];
  g.channels = call.input_dims[1];
  g.outputs = call.output_dims[1];
  if (call.kind == LayerCall::Kind::kMatrix) return g;
  const Window& w = call.window;
  const std::size_t axes = w.kernel.size();
  if (call.kind != LayerCall::Kind::kConv || w.groups != 1 || axes > 2) return std::nullopt;
  for (std::size_t i = 0; i < axes; ++i) {
    const std::size_t d = 2 - axes + i;
    if (w.pads_begin[i] < 0 || w.pads_end[i] < 0) return std::nullopt;
    g.in[d] = w.input[i];
    g.out[d] = w.output[i];
    g.kernel[d] = w.kernel[i];
    g.strides[d] = w.strides[i];
    g.dilations[d] = w.dilations[i];
    g.before[d] = w.pads_begin[i];
  }
  return g;
}

/// Of weights_data as describe_weights() takes it.
std::array<std::int64_t, 4> strides_of(const LayerCall& call, const SignGeometry& g) {
  if (call.kind != LayerCall::Kind::kMatrix) {
    const std::int64_t window = g.kernel[0] * g.kernel[1];
    return {g.channels * window, window, g.kernel[1], 1};
  }
  const bool transposed = call.node->op == "Gemm" && call.node->integer("transB", 0) != 0;
  if (transposed) return {g.channels, 1, 0, 0};
  return {1, g.outputs, 0, 0};
}

/// Whether each output has no zeros, or nothing else; and which have.
bool find_alive(const LayerCall& call, SignLayer& layer) {
  const SignGeometry& g = layer.geometry;
  const auto weights = call.weights_data.as<std::int8_t>();
  bool dead = false;
  for (std::int64_t o = 0; o < g.outputs; ++o) {
    std::int64_t zeros = 0;
    std::int64_t all = 0;
    for (std::int64_t c = 0; c < g.channels; ++c) {
      for (std::int64_t ky = 0; ky < g.kernel[0]; ++ky) {
        for (std::int64_t kx = 0; kx < g.kernel[1]; ++kx, ++all) {
          const auto& s = layer.weight_strides;
          const int w = weights[static_cast<std::size_t>(o * s[0] + c * s[1] + ky * s[2] + kx * s[3])];
          if (w < -1 || w > 1) return false;
          zeros += w == 0 ? 1 : 0;
        }
      }
    }
    if (zeros != 0 && zeros != all) return false;
    layer.alive.push_back(zeros == 0 ? -1 : 0);
    dead = dead || zeros != 0;
  }
  if (!dead) layer.alive.clear();
  return true;
}

class SignStep final : public Step {
 public:
  struct Arguments {
    SignGeometry geometry;
    int threads = 1;
    SlotId source = -1, residual = -1, output = -1;
    bool floats = false;  ///< The source is what the signs are of.
    bool bf16 = false;    ///< Of output and residual.
    dnnl::memory weights;
    std::vector<float> scales, bias;
    std::vector<std::int32_t> alive;
    std::vector<PointStage> stages;
  };

  explicit SignStep(Arguments arguments) : a_(std::move(arguments)), product_(a_.geometry, sign_kernels(), a_.threads) {
    reads = {a_.source};
    if (a_.residual >= 0) reads.push_back(a_.residual);
    writes = {a_.output};
    info.kernel = std::string("kerf:signs:") + sign_kernels().name;
    const auto padded = static_cast<std::size_t>(product_.padded_outputs());
    a_.scales.resize(padded);
    if (!a_.bias.empty()) a_.bias.resize(padded);
    if (!a_.alive.empty()) a_.alive.resize(padded);
    finish_.scales = a_.scales.data();
    finish_.bias = a_.bias.empty() ? nullptr : a_.bias.data();
    finish_.alive = a_.alive.empty() ? nullptr : a_.alive.data();
    finish_.stages = a_.stages;
    finish_.bf16 = a_.bf16;
    bits_ = static_cast<const std::uint64_t*>(a_.weights.get_data_handle());
  }

  void bind(Pointers, std::byte* scratchpad) override { scratchpad_ = scratchpad; }

  void run(Pointers pointers) override {
    if (a_.residual >= 0) finish_.residual = pointers[a_.residual];
    std::byte* y = pointers[a_.output];
    if (a_.floats) product_.run(at<const float>(pointers, a_.source), bits_, finish_, y, scratchpad_);
    else product_.run(at<const std::int8_t>(pointers, a_.source), bits_, finish_, y, scratchpad_);
  }

  [[nodiscard]] std::int64_t scratchpad_bytes() const override { return product_.scratch_bytes(); }
  [[nodiscard]] std::int64_t weight_bytes() const override {
    return static_cast<std::int64_t>(a_.weights.get_desc().get_size() + 4 * (a_.scales.size() + a_.bias.size() + a_.alive.size()));
  }

 private:
  Arguments a_;
  SignProduct product_;
  SignFinish finish_;
  const std::uint64_t* bits_ = nullptr;
  std::byte* scratchpad_ = nullptr;
};

/// Shared like the library's packed weights.
dnnl::memory packed_bits(const LayerCall& call, const SignLayer& layer) {
  const SignProduct product(layer.geometry, sign_kernels(), 1);
  // The extents tell all ways to lay the bits out apart.
  const std::int64_t runs = layer.geometry.dilations[1] == 1 ? 1 : layer.geometry.kernel[1];
  const std::int64_t parts = layer.geometry.kernel[0] * runs;
  const dnnl::memory::desc to({layer.geometry.kernel[0], runs, product.weight_words() * 8 / parts}, dnnl::memory::data_type::u8, dnnl::memory::format_tag::abc);
  return packed_by(call.weights, call.weights_data.raw(), to, [&](dnnl::memory& target) {
    product.pack_weights(call.weights_data.as<std::int8_t>().data(), layer.weight_strides, static_cast<std::uint64_t*>(target.get_data_handle()));
  });
}

/// The floats whose signs the input is, where they lie as it does.
std::optional<SlotId> floats_behind(const Values& values, const LayerCall& call) {
  const Node* sign = sign_behind(values.graph(), call.node->inputs[0]);
  if (sign == nullptr || !values.known(sign->inputs[0])) return std::nullopt;
  for (const Rep& rep : values.all(sign->inputs[0])) {
    const bool same = rep.layout == call.input.layout || layouts_coincide(values.dims(rep));
    if (rep.numeric == Numeric{} && same && rep.folded == call.input.folded && values.dims(rep) == values.dims(call.input)) return rep.slot;
  }
  return std::nullopt;
}

}  // namespace

std::optional<SignLayer> sign_layer(const Values& values, const LayerCall& call) {
  const Graph& graph = values.graph();
  if (graph.disabled_passes.contains(kPackSigns) || call.dynamic || call.weight_zero != 0) return std::nullopt;
  if (call.input_numeric.dtype != DType::kS8 || call.input_numeric.zero != 0 || call.weights_data.dtype() != DType::kS8) return std::nullopt;
  if (sign_behind(graph, call.node->inputs[0]) == nullptr) return std::nullopt;
  const auto geometry = geometry_of(call);
  if (!geometry) return std::nullopt;
  SignLayer layer;
  layer.geometry = *geometry;
  layer.weight_strides = strides_of(call, *geometry);
  if (!find_alive(call, layer)) return std::nullopt;
  return layer;
}

bool sign_links(const Chain& chain, std::size_t links) {
  return std::all_of(chain.links.begin(), chain.links.begin() + static_cast<std::ptrdiff_t>(links), [](const ChainLink& link) {
    if (!link.other.empty()) return link.stage.op == PointOp::kAdd;
    return link.stage.op == PointOp::kRelu || link.stage.op == PointOp::kClip || link.stage.op == PointOp::kAbsolute;
  });
}

Result<Rep> emit_sign_layer(Values& values, const LayerCall& call, const SignLayer& layer, const Chain& chain, std::size_t links,
                            DType destination) {
  SignStep::Arguments a;
  a.geometry = layer.geometry;
  a.threads = values.threads();
  const auto floats = floats_behind(values, call);
  a.floats = floats.has_value();
  a.source = floats.value_or(call.input.slot);
  a.weights = packed_bits(call, layer);
  for (std::int64_t o = 0; o < layer.geometry.outputs; ++o) {
    const auto k = call.weight_scales.size() > 1 ? static_cast<std::size_t>(o) : 0;
    a.scales.push_back(call.input_numeric.scale * call.weight_scales[k]);
  }
  a.bias = call.bias;
  a.alive = layer.alive;
  for (std::size_t i = 0; i < links; ++i) {
    a.stages.push_back(chain.links[i].stage);
    if (chain.links[i].other.empty()) continue;
    KERF_ASSIGN(const Rep residual, values.as(chain.links[i].other, destination, call.layout));
    a.residual = residual.slot;
  }
  Rep out;
  out.layout = call.layout;
  out.slot = a.output = values.new_slot(destination, call.value_dims, call.layout);
  out.numeric.dtype = destination;
  a.bf16 = destination == DType::kBF16;
  auto step = std::make_unique<SignStep>(std::move(a));
  step->info.is_layer = true;
  values.emit(std::move(step), call.node->name, call.node->op, "bits");
  return out;
}

}  // namespace kerf::engine
