#include "workers/compress/export.h"

#include <vector>

#include "workers/compress/integer_bias.h"

namespace kerf::compress {
namespace {

using graph::Graph;
using graph::Node;
using graph::Tensor;

/// Integers of 4 bits or fewer, and their zero points, as s4.
void narrow_weights(Graph& graph) {
  for (const Node& node : graph.nodes) {
    const auto bits = node.integer("kerf_bits", 8);
    if (node.op != "DequantizeLinear" || bits < 1 || bits > 4) continue;
    for (const std::size_t input : {std::size_t{0}, std::size_t{2}}) {
      const Tensor* tensor = node.has_input(input) ? graph.constant(node.inputs[input]) : nullptr;
      if (tensor == nullptr || tensor->dtype() != graph::DType::kS8) continue;
      const auto values = tensor->as<std::int8_t>();
      graph.initializers[node.inputs[input]] =
          Tensor::of(graph::DType::kS4, tensor->shape(),
                     std::vector<std::int8_t>(values.begin(), values.end()));
    }
  }
}

}  // namespace

std::map<std::string, std::string> export_metadata(const CompressionPlan& plan,
                                                   const std::string& source) {
  std::map<std::string, std::string> out = {{"kerf.plan", canonical_text(plan.to_json())},
                                            {"kerf.version", KERF_VERSION}};
  if (!source.empty()) out["kerf.source"] = source;
  return out;
}

Result<Graph> to_standard_onnx(const CompressedModel& model,
                               const std::map<std::string, std::string>& metadata,
                               const ExportOptions& options) {
  Graph out = model.graph;
  if (!options.int4_as_int8) narrow_weights(out);
  std::vector<Node> nodes;
  nodes.reserve(out.nodes.size());
  for (std::size_t n = 0; n < out.nodes.size(); ++n) {
    Node node = out.nodes[n];
    if (const auto integers = integer_bias(model.graph, node)) {
      const std::string stem = node.name + ".bias";
      const auto channels = static_cast<std::int64_t>(integers->values.size());
      const std::string values = out.fresh_name(stem + ".integers");
      out.initializers[values] = Tensor::of(graph::DType::kS32, {channels}, integers->values);
      const std::string scale = out.fresh_name(stem + ".scale");
      const graph::Shape shape = integers->scales.size() == 1 && channels != 1
                                     ? graph::Shape{}
                                     : graph::Shape{static_cast<std::int64_t>(integers->scales.size())};
      out.initializers[scale] = Tensor::f32(shape, integers->scales);
      Node dequantize;
      dequantize.name = out.fresh_name(stem + ".dequantize");
      dequantize.op = "DequantizeLinear";
      dequantize.inputs = {values, scale};
      dequantize.outputs = {out.fresh_name(stem + ".dequantized")};
      if (!shape.empty()) dequantize.attributes["axis"] = std::int64_t{0};
      out.values[dequantize.outputs[0]] = {dequantize.outputs[0], graph::DType::kF32, {channels}};
      node.inputs[2] = dequantize.outputs[0];
      nodes.push_back(std::move(dequantize));
    }
    std::erase_if(node.attributes,
                  [](const auto& item) { return item.first.starts_with("kerf_"); });
    nodes.push_back(std::move(node));
  }
  out.nodes = std::move(nodes);
  out.remove_dead();
  for (const auto& [key, value] : metadata) out.metadata[key] = value;
  KERF_TRY(out.check());
  return out;
}

}  // namespace kerf::compress
