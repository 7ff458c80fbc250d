#include "workers/measure/prefix.h"

#include <algorithm>
#include <map>
#include <set>

#include "workers/compress/layer.h"
#include "workers/graph/fingerprint.h"

namespace kerf::measure {

using graph::DType;
using graph::Graph;
using graph::Node;
using graph::Tensor;

namespace {

/// Whether layers that run in integers or in bf16 make the value, or a part of it. Before a global pooling
/// they leave it in bf16.
bool is_of_few_bits(const Graph& graph, const graph::Links& links, const std::string& value) {
  std::set<std::string> seen = {value};
  std::vector<std::string> open = {value};
  while (!open.empty()) {
    const auto maker = links.producer.find(open.back());
    open.pop_back();
    if (maker == links.producer.end()) continue;
    const Node& node = graph.nodes[maker->second];
    if (node.op == "DequantizeLinear") continue;
    if (graph::is_layer(graph, node)) {
      const auto read = links.producer.find(node.inputs[0]);
      const bool integer = read != links.producer.end() && graph.nodes[read->second].op == "DequantizeLinear";
      if (integer || node.text("kerf_precision", "") != "") return true;
      continue;
    }
    for (const std::string& input : node.inputs) {
      if (seen.insert(input).second) open.push_back(input);
    }
  }
  return false;
}

bool ends_a_chain(const Graph& graph, const graph::Links& links, const std::string& value) {
  const graph::ValueInfo* info = graph.value(value);
  if (info == nullptr || info->shape.empty()) return false;
  if (info->dtype != DType::kF32 && info->dtype != DType::kU8 && info->dtype != DType::kS8) return false;
  const Node& producer = graph.nodes[links.producer.at(value)];
  if (producer.op == "DequantizeLinear" || producer.text("kerf_precision", "") != "") return false;
  // What may read it without being fused with what makes it.
  static const std::set<std::string> kStarts = {"DequantizeLinear", "MaxPool", "AveragePool", "GlobalAveragePool",
                                                "GlobalMaxPool", "Flatten", "Reshape", "Add"};
  const auto& readers = links.of(value);
  return !readers.empty() && std::all_of(readers.begin(), readers.end(), [&](std::size_t reader) {
    const Node& node = graph.nodes[reader];
    if (node.text("kerf_precision", "") != "") return false;
    if (node.op == "GlobalAveragePool" && is_of_few_bits(graph, links, value)) return false;
    return kStarts.contains(node.op) || graph::is_layer(graph, node);
  });
}

}  // namespace

std::vector<CutPoint> cut_points(const Graph& graph) {
  const graph::Links links(graph);
  const auto prints = graph::fingerprints(graph);
  // Values by the last node that reads them; a graph output is read at the end.
  std::map<std::string, std::size_t> last_reader;
  for (const auto& input : graph.inputs) last_reader[input.name] = 0;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    for (const std::string& input : graph.nodes[i].inputs) {
      if (prints.contains(input)) last_reader[input] = i;
    }
  }
  for (const auto& output : graph.outputs) last_reader[output.name] = graph.nodes.size();
  double macs = 0;
  std::vector<CutPoint> out;
  // Values that what follows needs: made by what came, not from constants alone.
  std::set<std::string> alive;
  for (const auto& input : graph.inputs) alive.insert(input.name);
  std::set<std::string> from_inputs = alive;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    macs += static_cast<double>(compress::layer_macs(graph, node));
    const bool varies = std::any_of(node.inputs.begin(), node.inputs.end(), [&](const std::string& input) { return from_inputs.contains(input); });
    for (const std::string& output : node.outputs) {
      if (output.empty() || !varies) continue;
      from_inputs.insert(output);
      if (const auto last = last_reader.find(output); last != last_reader.end() && last->second > i) alive.insert(output);
    }
    std::erase_if(alive, [&](const std::string& value) { return last_reader[value] <= i; });
    if (alive.size() != 1 || i + 1 == graph.nodes.size()) continue;
    const std::string& value = *alive.begin();
    if (graph.is_output(value) || !links.producer.contains(value) || !ends_a_chain(graph, links, value)) continue;
    if (!out.empty() && out.back().value == value) continue;
    out.push_back({value, prints.at(value), macs});
  }
  for (CutPoint& point : out) point.share = macs > 0 ? point.share / macs : 0;
  return out;
}

Graph head_of(const Graph& graph, const std::string& value) { return part_of(graph, "", value); }

Graph tail_of(const Graph& graph, const std::string& value) { return part_of(graph, value, ""); }

Graph part_of(const Graph& graph, const std::string& from, const std::string& to) {
  Graph out;
  out.name = graph.name;
  out.opset = graph.opset;
  out.metadata = graph.metadata;
  out.disabled_passes = graph.disabled_passes;
  out.inputs = from.empty() ? graph.inputs : std::vector<graph::ValueInfo>{*graph.value(from)};
  out.outputs = to.empty() ? graph.outputs : std::vector<graph::ValueInfo>{*graph.value(to)};
  std::set<std::string> needed;
  for (const auto& output : out.outputs) needed.insert(output.name);
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    const bool wanted = std::any_of(node->outputs.begin(), node->outputs.end(), [&](const std::string& output) {
      return needed.contains(output) && output != from;
    });
    if (!wanted) continue;
    needed.insert(node->inputs.begin(), node->inputs.end());
    for (const std::string& output : node->outputs) {
      if (const auto known = graph.values.find(output); known != graph.values.end()) out.values.insert(*known);
    }
    out.nodes.push_back(*node);
  }
  std::reverse(out.nodes.begin(), out.nodes.end());
  for (const std::string& value : needed) {
    if (const Tensor* constant = graph.constant(value)) out.initializers[value] = *constant;
  }
  return out;
}

}  // namespace kerf::measure
