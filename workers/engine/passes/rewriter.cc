#include "workers/engine/passes/rewriter.h"

#include <algorithm>

namespace kerf::engine {

Rewriter::Rewriter(graph::Graph& graph)
    : graph_(graph), links_(graph), dead_(graph.nodes.size(), false) {
  for (const graph::ValueInfo& output : graph.outputs) outputs_.insert(output.name);
  for (const graph::ValueInfo& input : graph.inputs) taken_.insert(input.name);
  for (const auto& [name, tensor] : graph.initializers) taken_.insert(name);
  for (const graph::Node& node : graph.nodes) {
    taken_.insert(node.name);
    taken_.insert(node.outputs.begin(), node.outputs.end());
  }
}

std::optional<std::size_t> Rewriter::producer(const std::string& value) const {
  const auto found = links_.producer.find(value);
  if (found == links_.producer.end() || dead_[found->second]) return std::nullopt;
  return found->second;
}

std::vector<std::size_t> Rewriter::consumers(const std::string& value) const {
  std::vector<std::size_t> out;
  for (const std::size_t i : links_.of(value)) {
    if (!dead_[i]) out.push_back(i);
  }
  return out;
}

std::optional<std::size_t> Rewriter::only_consumer(const std::string& value) const {
  if (is_output(value)) return std::nullopt;
  const std::vector<std::size_t> all = consumers(value);
  if (all.size() != 1) return std::nullopt;
  return all.front();
}

void Rewriter::set_input(std::size_t i, std::size_t slot, const std::string& value) {
  graph::Node& target = graph_.nodes[i];
  if (target.inputs.size() <= slot) target.inputs.resize(slot + 1);
  const std::string old = target.inputs[slot];
  target.inputs[slot] = value;
  if (!old.empty()) {
    std::vector<std::size_t>& readers = links_.consumers[old];
    const auto found = std::find(readers.begin(), readers.end(), i);
    if (found != readers.end()) readers.erase(found);
  }
  if (!value.empty()) links_.consumers[value].push_back(i);
}

std::string Rewriter::fresh(const std::string& stem) {
  std::string name = stem;
  for (int i = 1; !taken_.insert(name).second; ++i) name = stem + "_" + std::to_string(i);
  return name;
}

std::string Rewriter::add_constant(const std::string& stem, graph::Tensor tensor) {
  std::string name = fresh(stem);
  graph_.initializers[name] = std::move(tensor);
  return name;
}

std::size_t Rewriter::add_node(graph::Node added) {
  added.name = fresh(added.name);
  const std::size_t i = graph_.nodes.size();
  for (const std::string& output : added.outputs) links_.producer[output] = i;
  for (const std::string& input : added.inputs) {
    if (!input.empty()) links_.consumers[input].push_back(i);
  }
  graph_.nodes.push_back(std::move(added));
  dead_.push_back(false);
  return i;
}

void Rewriter::take_output(std::size_t i, std::size_t absorbed) {
  const std::string output = graph_.nodes[absorbed].outputs[0];
  remove(absorbed);
  graph_.nodes[i].outputs[0] = output;
  links_.producer[output] = i;
}

bool Rewriter::bypass(std::size_t i, const std::string& value) {
  const std::string output = graph_.nodes[i].outputs[0];
  if (is_output(output)) {
    // The maker of `value` makes the graph's output itself.
    const auto maker = producer(value);
    if (!maker || is_output(value)) return false;
    remove(i);
    for (std::string& name : graph_.nodes[*maker].outputs) {
      if (name == value) name = output;
    }
    links_.producer[output] = *maker;
    const std::vector<std::size_t> readers = consumers(value);
    for (const std::size_t reader : readers) {
      std::vector<std::string>& inputs = graph_.nodes[reader].inputs;
      std::replace(inputs.begin(), inputs.end(), value, output);
      links_.consumers[output].push_back(reader);
    }
    links_.consumers.erase(value);
    return true;
  }
  remove(i);
  for (const std::size_t reader : consumers(output)) {
    std::vector<std::string>& inputs = graph_.nodes[reader].inputs;
    std::replace(inputs.begin(), inputs.end(), output, value);
    links_.consumers[value].push_back(reader);
  }
  links_.consumers.erase(output);
  return true;
}

void Rewriter::remove(std::size_t i) { dead_[i] = true; }

Result<void> Rewriter::finish() {
  std::vector<graph::Node> kept;
  kept.reserve(graph_.nodes.size());
  for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
    if (!dead_[i]) kept.push_back(std::move(graph_.nodes[i]));
  }
  graph_.nodes = std::move(kept);
  KERF_TRY(graph_.sort());
  graph_.remove_dead();
  return {};
}

}  // namespace kerf::engine
