#include "workers/graph/graph.h"

#include <algorithm>
#include <deque>
#include <unordered_map>
#include <unordered_set>

namespace kerf::graph {
namespace {

template <class T>
T attribute_or(const Node& node, const std::string& name, T fallback) {
  const auto found = node.attributes.find(name);
  if (found == node.attributes.end()) return fallback;
  const T* value = std::get_if<T>(&found->second);
  return value != nullptr ? *value : fallback;
}

}  // namespace

std::int64_t Node::integer(const std::string& key, std::int64_t fallback) const {
  return attribute_or<std::int64_t>(*this, key, fallback);
}
float Node::real(const std::string& key, float fallback) const {
  return attribute_or<float>(*this, key, fallback);
}
std::string Node::text(const std::string& key, const std::string& fallback) const {
  return attribute_or<std::string>(*this, key, fallback);
}
std::vector<std::int64_t> Node::integers(const std::string& key,
                                         std::vector<std::int64_t> fallback) const {
  return attribute_or<std::vector<std::int64_t>>(*this, key, std::move(fallback));
}

const Tensor* Graph::constant(const std::string& value) const {
  const auto found = initializers.find(value);
  return found == initializers.end() ? nullptr : &found->second;
}

const Node* Graph::producer(const std::string& value) const {
  for (const Node& node : nodes) {
    if (std::find(node.outputs.begin(), node.outputs.end(), value) != node.outputs.end()) return &node;
  }
  return nullptr;
}

std::vector<const Node*> Graph::consumers(const std::string& value) const {
  std::vector<const Node*> out;
  for (const Node& node : nodes) {
    if (std::find(node.inputs.begin(), node.inputs.end(), value) != node.inputs.end()) {
      out.push_back(&node);
    }
  }
  return out;
}

bool Graph::is_output(const std::string& value) const {
  return std::any_of(outputs.begin(), outputs.end(),
                     [&](const ValueInfo& output) { return output.name == value; });
}

const ValueInfo* Graph::value(const std::string& wanted) const {
  if (const auto found = values.find(wanted); found != values.end()) return &found->second;
  for (const ValueInfo& input : inputs) {
    if (input.name == wanted) return &input;
  }
  return nullptr;
}

std::string Graph::fresh_name(const std::string& stem) const {
  std::set<std::string> taken;
  for (const auto& [key, tensor] : initializers) taken.insert(key);
  for (const ValueInfo& input : inputs) taken.insert(input.name);
  for (const Node& node : nodes) {
    taken.insert(node.name);
    taken.insert(node.outputs.begin(), node.outputs.end());
  }
  if (!taken.contains(stem)) return stem;
  for (int i = 1;; ++i) {
    const std::string candidate = stem + "_" + std::to_string(i);
    if (!taken.contains(candidate)) return candidate;
  }
}

Result<void> Graph::check() const {
  std::unordered_set<std::string> known;
  std::unordered_set<std::string> names;
  for (const ValueInfo& input : inputs) {
    if (!known.insert(input.name).second) {
      return invalid_argument("graph input '" + input.name + "' stands twice");
    }
  }
  for (const auto& [key, tensor] : initializers) known.insert(key);
  for (const Node& node : nodes) {
    if (node.name.empty()) return invalid_argument("a node of op " + node.op + " has no name");
    if (!names.insert(node.name).second) {
      return invalid_argument("two nodes are called '" + node.name + "'");
    }
    for (const std::string& input : node.inputs) {
      if (!input.empty() && !known.contains(input)) {
        return invalid_argument("node " + node.label() + " reads '" + input +
                                "', which nothing before it produces");
      }
    }
    for (const std::string& output : node.outputs) {
      if (!output.empty() && !known.insert(output).second) {
        return invalid_argument("node " + node.label() + " produces '" + output +
                                "', which has a producer already");
      }
    }
  }
  for (const ValueInfo& output : outputs) {
    if (!known.contains(output.name)) {
      return invalid_argument("graph output '" + output.name + "' has no producer");
    }
  }
  return {};
}

Result<void> Graph::sort() {
  std::unordered_map<std::string, std::size_t> producer_of;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    for (const std::string& output : nodes[i].outputs) {
      if (!output.empty()) producer_of[output] = i;
    }
  }
  std::vector<std::size_t> missing(nodes.size(), 0);
  std::vector<std::vector<std::size_t>> users(nodes.size());
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    for (const std::string& input : nodes[i].inputs) {
      const auto found = producer_of.find(input);
      if (found == producer_of.end()) continue;
      ++missing[i];
      users[found->second].push_back(i);
    }
  }
  // Among the nodes that are ready the first of the old order goes first: stable.
  std::set<std::size_t> ready;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (missing[i] == 0) ready.insert(i);
  }
  std::vector<Node> sorted;
  sorted.reserve(nodes.size());
  std::vector<bool> done(nodes.size(), false);
  while (!ready.empty()) {
    const std::size_t i = *ready.begin();
    ready.erase(ready.begin());
    done[i] = true;
    for (const std::size_t user : users[i]) {
      if (--missing[user] == 0) ready.insert(user);
    }
    sorted.push_back(std::move(nodes[i]));
  }
  if (sorted.size() != nodes.size()) {
    const auto stuck = std::find(done.begin(), done.end(), false) - done.begin();
    return invalid_argument("node " + nodes[static_cast<std::size_t>(stuck)].label() +
                            " is part of a cycle");
  }
  nodes = std::move(sorted);
  return {};
}

void Graph::remove_dead() {
  if (!disabled_passes.contains(kRemoveDeadNodes)) {
    cut_to_outputs();
    return;
  }
  std::unordered_set<std::string> read;
  for (const ValueInfo& output : outputs) read.insert(output.name);
  for (const Node& node : nodes) read.insert(node.inputs.begin(), node.inputs.end());
  std::erase_if(initializers, [&](const auto& entry) { return !read.contains(entry.first); });
}

void Graph::cut_to_outputs() {
  std::unordered_set<std::string> needed;
  for (const ValueInfo& output : outputs) needed.insert(output.name);
  std::vector<bool> keep(nodes.size(), false);
  for (std::size_t i = nodes.size(); i-- > 0;) {
    keep[i] = std::any_of(nodes[i].outputs.begin(), nodes[i].outputs.end(),
                          [&](const std::string& output) { return needed.contains(output); });
    if (keep[i]) needed.insert(nodes[i].inputs.begin(), nodes[i].inputs.end());
  }
  std::size_t write = 0;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (!keep[i]) continue;
    if (write != i) nodes[write] = std::move(nodes[i]);
    ++write;
  }
  nodes.resize(write);
  std::erase_if(initializers, [&](const auto& entry) { return !needed.contains(entry.first); });
}

Links::Links(const Graph& graph) {
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    for (const std::string& output : graph.nodes[i].outputs) {
      if (!output.empty()) producer[output] = i;
    }
    for (const std::string& input : graph.nodes[i].inputs) {
      if (!input.empty()) consumers[input].push_back(i);
    }
  }
}

const std::vector<std::size_t>& Links::of(const std::string& value) const {
  static const std::vector<std::size_t> none;
  const auto found = consumers.find(value);
  return found == consumers.end() ? none : found->second;
}

bool is_layer(const Graph& graph, const Node& node) {
  if (node.op != "Conv" && node.op != "ConvTranspose" && node.op != "Gemm" && node.op != "MatMul") {
    return false;
  }
  if (!node.has_input(1)) return false;
  if (graph.constant(node.inputs[1]) != nullptr) return true;
  const Node* source = graph.producer(node.inputs[1]);
  return source != nullptr && source->op == "DequantizeLinear" && source->has_input(0) &&
         graph.constant(source->inputs[0]) != nullptr;
}

}  // namespace kerf::graph
