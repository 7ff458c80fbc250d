#include "workers/compress/insert_qdq.h"

#include <algorithm>
#include <set>
#include <vector>

#include "workers/compress/layer.h"

namespace kerf::compress {
namespace {

using graph::DType;
using graph::Graph;
using graph::Node;
using graph::Tensor;

/// Names that are taken, so that new ones cost a look-up and not a walk through the graph.
class Names {
 public:
  explicit Names(const Graph& graph) {
    for (const auto& [name, tensor] : graph.initializers) taken_.insert(name);
    for (const graph::ValueInfo& input : graph.inputs) taken_.insert(input.name);
    for (const Node& node : graph.nodes) {
      taken_.insert(node.name);
      taken_.insert(node.outputs.begin(), node.outputs.end());
    }
  }

  std::string make(const std::string& stem) {
    if (taken_.insert(stem).second) return stem;
    for (int i = 1;; ++i) {
      const std::string name = stem + "_" + std::to_string(i);
      if (taken_.insert(name).second) return name;
    }
  }

 private:
  std::set<std::string> taken_;
};

Tensor zero_points(DType dtype, const graph::Shape& shape, int value) {
  Tensor out(dtype, shape);
  for (std::uint8_t& byte : out.mutable_as<std::uint8_t>()) byte = static_cast<std::uint8_t>(value);
  return out;
}

/// The two nodes of a value, and the name of what comes out.
struct Pair {
  Node quantize;
  Node dequantize;
};

Pair make_pair(Graph& graph, Names& names, const std::string& value, const ActivationRange& range) {
  const std::string scale = names.make(value + ".scale");
  const std::string zero = names.make(value + ".zero_point");
  graph.initializers[scale] = Tensor::scalar(range.scale);
  graph.initializers[zero] = zero_points(range.dtype, {}, range.zero_point);
  Pair pair;
  pair.quantize.name = names.make(value + ".quantize");
  pair.quantize.op = "QuantizeLinear";
  pair.quantize.inputs = {value, scale, zero};
  pair.quantize.outputs = {names.make(value + ".quantized")};
  pair.dequantize.name = names.make(value + ".dequantize");
  pair.dequantize.op = "DequantizeLinear";
  pair.dequantize.inputs = {pair.quantize.outputs[0], scale, zero};
  pair.dequantize.outputs = {names.make(value + ".dequantized")};
  graph::Shape shape;
  if (const graph::ValueInfo* info = graph.value(value)) shape = info->shape;
  graph.values[pair.quantize.outputs[0]] = {pair.quantize.outputs[0], range.dtype, shape};
  graph.values[pair.dequantize.outputs[0]] = {pair.dequantize.outputs[0], DType::kF32, shape};
  return pair;
}

Node weights_node(Graph& graph, Names& names, const Node& layer, const QuantizedLayer& how) {
  const std::string& weights = layer.inputs[1];
  const std::string values = names.make(weights + ".integers");
  const std::string scale = names.make(weights + ".scale");
  const std::string zero = names.make(weights + ".zero_point");
  const bool per_channel = how.weights.scales.size() > 1;
  const graph::Shape shape =
      per_channel ? graph::Shape{static_cast<std::int64_t>(how.weights.scales.size())}
                  : graph::Shape{};
  graph.initializers[values] = how.weights.values;
  graph.initializers[scale] = Tensor::f32(shape, how.weights.scales);
  graph.initializers[zero] = zero_points(DType::kS8, shape, 0);
  Node node;
  node.name = names.make(weights + ".dequantize");
  node.op = "DequantizeLinear";
  node.inputs = {values, scale, zero};
  node.outputs = {names.make(weights + ".dequantized")};
  if (per_channel) node.attributes["axis"] = static_cast<std::int64_t>(output_channel_axis(layer));
  node.attributes["kerf_bits"] = static_cast<std::int64_t>(how.bits);
  graph.values[node.outputs[0]] = {node.outputs[0], DType::kF32, how.weights.values.shape()};
  return node;
}

bool same(const QuantizedLayer& a, const QuantizedLayer& b) {
  return a.bits == b.bits && a.weights.scales == b.weights.scales &&
         std::ranges::equal(a.weights.values.as<std::int8_t>(), b.weights.values.as<std::int8_t>());
}

}  // namespace

Result<Graph> insert_qdq(const Graph& source, const std::map<std::string, QuantizedLayer>& layers,
                         const std::map<std::string, ActivationRange>& ranges) {
  for (const auto& [layer, how] : layers) {
    if (find_node(source, layer) == nullptr) {
      return invalid_argument("the graph has no layer '" + layer + "'");
    }
  }
  Graph out = source;
  Names names(source);

  // Who reads what: integer layers their data input; layers that stay f32 theirs.
  std::set<std::string> quantized;
  std::set<std::string> wanted_as_f32;
  for (const Node& node : source.nodes) {
    if (!graph::is_layer(source, node)) continue;
    const auto how = layers.find(node.name);
    if (how != layers.end() && how->second.integer_input) {
      quantized.insert(node.inputs[0]);
    } else {
      wanted_as_f32.insert(node.inputs[0]);
    }
  }
  std::map<std::string, std::string> dequantized;  // value -> what follows its pair
  std::vector<Node> nodes;
  const auto add_pair = [&](const std::string& value) -> Result<void> {
    if (!quantized.contains(value)) return {};
    const auto range = ranges.find(value);
    if (range == ranges.end()) return invalid_argument("no range for the value '" + value + "'");
    Pair pair = make_pair(out, names, value, range->second);
    dequantized[value] = pair.dequantize.outputs[0];
    nodes.push_back(std::move(pair.quantize));
    nodes.push_back(std::move(pair.dequantize));
    return {};
  };
  for (const graph::ValueInfo& input : source.inputs) KERF_TRY(add_pair(input.name));

  struct Made {
    const QuantizedLayer* how;
    std::string output;
  };
  std::map<std::string, std::vector<Made>> made;  // constant -> its DequantizeLinears
  for (const Node& original : source.nodes) {
    Node node = original;
    const auto how = layers.find(node.name);
    const bool is_layer = graph::is_layer(source, original);
    const bool integer = how != layers.end() && how->second.integer_input;
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const auto replacement = dequantized.find(node.inputs[i]);
      if (replacement == dequantized.end()) continue;
      const bool reads_integers =
          is_layer && i == 0 ? integer : !wanted_as_f32.contains(node.inputs[i]);
      if (reads_integers) node.inputs[i] = replacement->second;
    }
    if (how != layers.end()) {
      auto& list = made[original.inputs[1]];
      auto found = std::find_if(list.begin(), list.end(),
                                [&](const Made& m) { return same(*m.how, how->second); });
      if (found == list.end()) {
        Node dequantize = weights_node(out, names, original, how->second);
        list.push_back({&how->second, dequantize.outputs[0]});
        nodes.push_back(std::move(dequantize));
        found = std::prev(list.end());
      }
      node.inputs[1] = found->output;
    }
    const std::vector<std::string> outputs = node.outputs;
    nodes.push_back(std::move(node));
    for (const std::string& output : outputs) {
      if (!output.empty()) KERF_TRY(add_pair(output));
    }
  }
  out.nodes = std::move(nodes);
  out.remove_dead();
  KERF_TRY(out.check());
  return out;
}

}  // namespace kerf::compress
