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

/// The nodes that quantize a value by its own range, and the name of what comes out.
struct Made {
  std::vector<Node> nodes;
  std::string output;
};

Node made_node(Names& names, const std::string& stem, const std::string& op,
               std::vector<std::string> inputs, std::vector<std::string> outputs) {
  Node node;
  node.name = names.make(stem);
  node.op = op;
  node.inputs = std::move(inputs);
  node.outputs = std::move(outputs);
  return node;
}

Made make_dynamic(Graph& graph, Names& names, const std::string& value) {
  const std::string integers = names.make(value + ".dynamic");
  const std::string scale = names.make(value + ".dynamic.scale");
  const std::string zero = names.make(value + ".dynamic.zero_point");
  Made made;
  made.output = names.make(value + ".dynamic.dequantized");
  made.nodes.push_back(made_node(names, value + ".dynamic.quantize", "DynamicQuantizeLinear",
                                 {value}, {integers, scale, zero}));
  made.nodes.push_back(made_node(names, value + ".dynamic.dequantize", "DequantizeLinear",
                                 {integers, scale, zero}, {made.output}));
  graph::Shape shape;
  if (const graph::ValueInfo* info = graph.value(value)) shape = info->shape;
  graph.values[integers] = {integers, DType::kU8, shape};
  graph.values[scale] = {scale, DType::kF32, {}};
  graph.values[zero] = {zero, DType::kU8, {}};
  graph.values[made.output] = {made.output, DType::kF32, shape};
  return made;
}

/// Sign gives −1, 0 and +1; the pair behind it turns them into integers with the scale.
Made make_sign(Graph& graph, Names& names, const std::string& value, float scale) {
  const std::string sign = names.make(value + ".sign");
  const std::string one = names.make(value + ".sign.one");
  const std::string factor = names.make(value + ".sign.scale");
  const std::string zero = names.make(value + ".sign.zero_point");
  const std::string integers = names.make(value + ".sign.quantized");
  Made made;
  made.output = names.make(value + ".sign.dequantized");
  graph.initializers[one] = Tensor::scalar(1.0F);
  graph.initializers[factor] = Tensor::scalar(scale);
  graph.initializers[zero] = zero_points(DType::kS8, {}, 0);
  made.nodes.push_back(made_node(names, sign, "Sign", {value}, {sign}));
  made.nodes.push_back(made_node(names, value + ".sign.quantize", "QuantizeLinear",
                                 {sign, one, zero}, {integers}));
  made.nodes.push_back(made_node(names, value + ".sign.dequantize", "DequantizeLinear",
                                 {integers, factor, zero}, {made.output}));
  graph::Shape shape;
  if (const graph::ValueInfo* info = graph.value(value)) shape = info->shape;
  graph.values[sign] = {sign, DType::kF32, shape};
  graph.values[integers] = {integers, DType::kS8, shape};
  graph.values[made.output] = {made.output, DType::kF32, shape};
  return made;
}

Node weights_node(Graph& graph, Names& names, const Node& layer, const QuantizedLayer& how) {
  const std::string& weights = layer.inputs[1];
  const std::string values = names.make(weights + ".integers");
  const std::string scale = names.make(weights + ".scale");
  const std::string zero = names.make(weights + ".zero_point");
  const bool per_channel = how.weights.scales.size() > 1;
  const std::size_t channels = output_channel_axis(layer);
  graph::Shape shape;
  if (how.weights.group > 0) {
    shape = how.weights.values.shape();
    std::int64_t& inputs = shape[1 - channels];
    inputs = (inputs + how.weights.group - 1) / how.weights.group;
  } else if (per_channel) {
    shape = {static_cast<std::int64_t>(how.weights.scales.size())};
  }
  graph.initializers[values] = how.weights.values;
  graph.initializers[scale] = Tensor::f32(shape, how.weights.scales);
  graph.initializers[zero] = zero_points(DType::kS8, shape, 0);
  if (!how.weights.zeros.empty()) {
    graph.initializers[zero] = Tensor::of(DType::kS8, shape, how.weights.zeros);
  }
  Node node;
  node.name = names.make(weights + ".dequantize");
  node.op = "DequantizeLinear";
  node.inputs = {values, scale, zero};
  node.outputs = {names.make(weights + ".dequantized")};
  if (how.weights.group > 0) {
    node.attributes["axis"] = static_cast<std::int64_t>(1 - channels);
    node.attributes["block_size"] = how.weights.group;
  } else if (per_channel) {
    node.attributes["axis"] = static_cast<std::int64_t>(channels);
  }
  node.attributes["kerf_bits"] = static_cast<std::int64_t>(how.bits);
  graph.values[node.outputs[0]] = {node.outputs[0], DType::kF32, how.weights.values.shape()};
  return node;
}

bool same(const QuantizedLayer& a, const QuantizedLayer& b) {
  return a.bits == b.bits && a.weights.scales == b.weights.scales &&
         a.weights.zeros == b.weights.zeros && a.weights.group == b.weights.group &&
         std::ranges::equal(a.weights.values.as<std::int8_t>(), b.weights.values.as<std::int8_t>());
}

}  // namespace

Result<Graph> insert_qdq(const Graph& source, const std::map<std::string, QuantizedLayer>& layers,
                         const std::map<std::string, ActivationRange>& ranges,
                         const std::map<std::string, float>& sign_scales) {
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
  std::set<std::string> dynamic;
  std::set<std::string> signs;
  for (const Node& node : source.nodes) {
    if (!graph::is_layer(source, node)) continue;
    const auto how = layers.find(node.name);
    const InputForm form = how != layers.end() ? how->second.input : InputForm::kFloat;
    if (form == InputForm::kStatic) {
      quantized.insert(node.inputs[0]);
    } else {
      wanted_as_f32.insert(node.inputs[0]);
    }
    if (form == InputForm::kDynamic) dynamic.insert(node.inputs[0]);
    if (form == InputForm::kSign) signs.insert(node.inputs[0]);
  }
  std::map<std::string, std::string> dequantized;  // value -> what follows its pair
  std::vector<Node> nodes;
  std::map<std::string, std::string> ranged;  // value -> what follows its DynamicQuantizeLinear
  std::map<std::string, std::string> signed_values;
  const auto add_pair = [&](const std::string& value) -> Result<void> {
    const auto add = [&](Made made, std::map<std::string, std::string>& outputs) {
      outputs[value] = made.output;
      for (Node& node : made.nodes) nodes.push_back(std::move(node));
    };
    if (dynamic.contains(value)) add(make_dynamic(out, names, value), ranged);
    if (signs.contains(value)) {
      const auto scale = sign_scales.find(value);
      if (scale == sign_scales.end()) {
        return invalid_argument("no scale for the signs of '" + value + "'");
      }
      add(make_sign(out, names, value, scale->second), signed_values);
    }
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

  struct Rounded {
    const QuantizedLayer* how;
    std::string output;
  };
  std::map<std::string, std::vector<Rounded>> made;  // constant -> its DequantizeLinears
  for (const Node& original : source.nodes) {
    Node node = original;
    const auto how = layers.find(node.name);
    const bool is_layer = graph::is_layer(source, original);
    const InputForm form = how != layers.end() ? how->second.input : InputForm::kFloat;
    const bool integer = form == InputForm::kStatic;
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const auto replacement = dequantized.find(node.inputs[i]);
      if (replacement == dequantized.end()) continue;
      const bool reads_integers =
          is_layer && i == 0 ? integer : !wanted_as_f32.contains(node.inputs[i]);
      if (reads_integers) node.inputs[i] = replacement->second;
    }
    if (form == InputForm::kDynamic) node.inputs[0] = ranged.at(original.inputs[0]);
    if (form == InputForm::kSign) node.inputs[0] = signed_values.at(original.inputs[0]);
    if (how != layers.end()) {
      auto& list = made[original.inputs[1]];
      auto found = std::find_if(list.begin(), list.end(),
                                [&](const Rounded& m) { return same(*m.how, how->second); });
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
