// What dynamic quantization makes of a layer, as the layer that it stands for.
#include <map>

#include "workers/engine/passes/passes_internal.h"
#include "workers/engine/passes/rewriter.h"

namespace kerf::engine {
namespace {

using graph::DType;
using graph::Graph;
using graph::Node;
using graph::Shape;
using graph::Tensor;

/// DynamicQuantizeLinear(x) -> q, s, z; integer(q, W, z, wz) -> Cast -> Mul by s * ws.
struct Pattern {
  std::size_t integer = 0, cast = 0, product = 0;
  std::size_t quantize = 0;  ///< The DynamicQuantizeLinear.
  std::string weights_scale;
};

std::optional<Pattern> match(const Rewriter& rewriter, const Graph& graph, std::size_t i) {
  Pattern p;
  p.integer = i;
  const Node& node = graph.nodes[i];
  if (node.inputs.size() < 3 || rewriter.constant(node.inputs[1]) == nullptr) return std::nullopt;
  if (node.has_input(3) && rewriter.constant(node.inputs[3]) == nullptr) return std::nullopt;
  const auto quantize = rewriter.producer(node.inputs[0]);
  if (!quantize || graph.nodes[*quantize].op != "DynamicQuantizeLinear") return std::nullopt;
  p.quantize = *quantize;
  const Node& dynamic = graph.nodes[p.quantize];
  if (dynamic.outputs.size() != 3 || dynamic.outputs[0] != node.inputs[0] || dynamic.outputs[2] != node.inputs[2]) return std::nullopt;
  const auto cast = rewriter.only_consumer(node.outputs[0]);
  if (!cast || graph.nodes[*cast].op != "Cast" || graph.nodes[*cast].integer("to", 1) != 1) return std::nullopt;
  p.cast = *cast;
  const auto product = rewriter.only_consumer(graph.nodes[p.cast].outputs[0]);
  if (!product || graph.nodes[*product].op != "Mul") return std::nullopt;
  p.product = *product;
  const Node& scaled = graph.nodes[p.product];
  const std::string& factor = scaled.inputs[scaled.inputs[0] == graph.nodes[p.cast].outputs[0] ? 1 : 0];
  const auto scales = rewriter.producer(factor);
  if (!scales || graph.nodes[*scales].op != "Mul") return std::nullopt;
  const Node& both = graph.nodes[*scales];
  const bool first = both.inputs[0] == dynamic.outputs[1];
  if (!first && both.inputs[1] != dynamic.outputs[1]) return std::nullopt;
  p.weights_scale = both.inputs[first ? 1 : 0];
  return p;
}

/// The weights' scale as one number, or one an output channel; nullopt for any other shape.
std::optional<std::vector<float>> scales_of(const Tensor& scale, const Node& node, const Tensor& weights) {
  if (scale.dtype() != DType::kF32) return std::nullopt;
  if (scale.elements() == 1) return scale.to_floats();
  const bool conv = node.op == "ConvInteger";
  const std::int64_t channels = weights.dim(conv ? 0 : 1);
  if (scale.elements() != channels) return std::nullopt;
  // Where the channels stand when the scale is spread over the result, counted from its end.
  const std::size_t place = conv ? weights.rank() - 2 : 0;
  if (scale.rank() <= place || scale.dim(scale.rank() - 1 - place) != channels) return std::nullopt;
  return scale.to_floats();
}

class Pass {
 public:
  explicit Pass(Graph& graph) : graph_(graph), rewriter_(graph) {}

  Result<void> run() {
    const std::size_t count = rewriter_.size();
    for (std::size_t i = 0; i < count; ++i) {
      const std::string& op = rewriter_.node(i).op;
      if (op != "MatMulInteger" && op != "ConvInteger") continue;
      if (const auto pattern = match(rewriter_, graph_, i)) rewrite(*pattern);
    }
    return rewriter_.finish();
  }

 private:
  void rewrite(const Pattern& p) {
    const Node old = rewriter_.node(p.integer);
    const bool conv = old.op == "ConvInteger";
    const Tensor weights = *rewriter_.constant(old.inputs[1]);
    const Tensor* scale = rewriter_.constant(p.weights_scale);
    if (scale == nullptr || (weights.dtype() != DType::kU8 && weights.dtype() != DType::kS8)) return;
    // A product with more than one matrix of weights isn't a layer.
    if (conv ? weights.rank() < 3 : weights.rank() != 2) return;
    auto scales = scales_of(*scale, old, weights);
    if (!scales) return;
    Tensor zero(weights.dtype(), {1});
    if (old.has_input(3)) zero = *rewriter_.constant(old.inputs[3]);
    const std::int64_t channels = weights.dim(conv ? 0 : 1);
    if (zero.dtype() != weights.dtype() || (zero.elements() != 1 && zero.elements() != channels)) return;
    // Scales and zero points are one each, or one a channel each.
    std::vector<std::uint8_t> zeros(zero.as<std::uint8_t>().begin(), zero.as<std::uint8_t>().end());
    const std::size_t many = std::max(zeros.size(), scales->size());
    if (zeros.size() < many) zeros.assign(many, zeros[0]);
    if (scales->size() < many) scales->assign(many, (*scales)[0]);
    const Shape shape = many == 1 ? Shape{} : Shape{channels};

    Node dq;
    dq.name = old.name + "_dequantize_weights";
    dq.op = "DequantizeLinear";
    dq.inputs = {old.inputs[1], rewriter_.add_constant(old.name + "_scale", Tensor::f32(shape, *scales)),
                 rewriter_.add_constant(old.name + "_zero", Tensor::of(weights.dtype(), shape, zeros))};
    dq.outputs = {rewriter_.fresh(dq.name + "_out")};
    dq.attributes["axis"] = std::int64_t{conv ? 0 : 1};
    Node layer = old;
    layer.op = conv ? "Conv" : "MatMul";
    layer.inputs = {dequantized(p.quantize), dq.outputs[0]};
    layer.outputs = {rewriter_.fresh(old.name + "_real")};
    rewriter_.add_node(std::move(dq));
    rewriter_.remove(p.integer);
    rewriter_.remove(p.cast);
    const std::size_t at = rewriter_.add_node(std::move(layer));
    rewriter_.node(at).name = old.name;
    rewriter_.take_output(at, p.product);
  }

  /// The numbers that a DynamicQuantizeLinear's integers stand for, made once for all layers.
  std::string dequantized(std::size_t quantize) {
    if (const auto found = real_.find(quantize); found != real_.end()) return found->second;
    const Node& source = rewriter_.node(quantize);
    Node dq;
    dq.name = source.name + "_dequantize";
    dq.op = "DequantizeLinear";
    dq.inputs = {source.outputs[0], source.outputs[1], source.outputs[2]};
    dq.outputs = {rewriter_.fresh(dq.name + "_out")};
    real_[quantize] = dq.outputs[0];
    rewriter_.add_node(std::move(dq));
    return real_[quantize];
  }

  Graph& graph_;
  Rewriter rewriter_;
  std::map<std::size_t, std::string> real_;
};

}  // namespace

Result<void> integer_to_qdq(Graph& graph) { return Pass(graph).run(); }

}  // namespace kerf::engine
