#include "workers/compress/partial_run.h"

#include <algorithm>

#include "workers/engine/executor.h"

namespace kerf::compress {

using graph::DType;
using graph::Graph;
using graph::Node;
using graph::Tensor;

PartialRun::PartialRun(const Graph& graph, std::vector<Tensor> inputs, int threads)
    : graph_(graph), inputs_(std::move(inputs)), threads_(threads) {
  for (std::size_t i = 0; i < inputs_.size(); ++i) live_[graph.inputs[i].name] = inputs_[i];
}

Result<Tensor> PartialRun::value(const std::string& name) {
  if (const auto known = live_.find(name); known != live_.end()) return known->second.to_f32();
  if (auto between = run_between(name); between.has_value()) return between;
  return run_from_inputs(name);
}

Result<Tensor> PartialRun::run_between(const std::string& name) {
  // The nodes that `name` needs and that haven't run, from the back.
  Graph part;
  part.name = graph_.name;
  part.opset = graph_.opset;
  std::set<std::string> needed = {name};
  std::set<std::string> made;
  for (auto node = graph_.nodes.rbegin(); node != graph_.nodes.rend(); ++node) {
    const bool wanted = std::any_of(node->outputs.begin(), node->outputs.end(), [&](const auto& output) {
      return needed.contains(output) && !live_.contains(output);
    });
    if (!wanted) continue;
    for (const std::string& input : node->inputs) {
      if (!input.empty() && graph_.constant(input) == nullptr) needed.insert(input);
    }
    made.insert(node->outputs.begin(), node->outputs.end());
    part.nodes.insert(part.nodes.begin(), *node);
  }
  std::set<std::string> running;
  for (const Node& node : part.nodes) running.insert(node.name);
  std::vector<Tensor> from;
  for (const std::string& value : needed) {
    const auto live = live_.find(value);
    if (live == live_.end()) continue;
    graph::ValueInfo port{value, live->second.dtype(), live->second.shape()};
    if (const graph::ValueInfo* known = graph_.value(value); known != nullptr && !known->shape.empty()) {
      port.shape[0] = known->shape[0];
    }
    part.inputs.push_back(std::move(port));
    from.push_back(live->second);
  }
  // What nodes that run later read stays live beside the wanted value.
  part.outputs.push_back({name, DType::kF32, {}});
  for (const Node& node : graph_.nodes) {
    if (done_.contains(node.name) || running.contains(node.name)) continue;
    for (const std::string& input : node.inputs) {
      const bool listed = std::any_of(part.outputs.begin(), part.outputs.end(),
                                      [&](const auto& output) { return output.name == input; });
      if (made.contains(input) && !listed) part.outputs.push_back({input, DType::kF32, {}});
    }
  }
  for (graph::ValueInfo& output : part.outputs) {
    if (const graph::ValueInfo* known = graph_.value(output.name)) output = *known;
  }
  for (const Node& node : part.nodes) {
    for (const std::string& input : node.inputs) {
      if (const Tensor* constant = graph_.constant(input)) part.initializers[input] = *constant;
    }
  }
  KERF_ASSIGN(std::vector<Tensor> results, engine::run_all(part, from, threads_));
  const std::int64_t samples = inputs_[0].dim(0);
  for (const Tensor& result : results) {
    if (result.rank() == 0 || result.dim(0) % samples != 0)
      return invalid_argument("a value isn't one a sample");
  }
  done_.insert(running.begin(), running.end());
  for (std::size_t i = 1; i < results.size(); ++i) live_[part.outputs[i].name] = results[i];
  live_[name] = results[0];
  const Tensor out = results[0].to_f32();
  std::set<std::string> read_later;
  for (const Node& node : graph_.nodes) {
    if (!done_.contains(node.name)) read_later.insert(node.inputs.begin(), node.inputs.end());
  }
  std::erase_if(live_, [&](const auto& item) { return !read_later.contains(item.first); });
  return out;
}

Result<Tensor> PartialRun::run_from_inputs(const std::string& name) {
  Graph whole = graph_;
  const graph::ValueInfo* known = graph_.value(name);
  whole.outputs = {known != nullptr ? *known : graph::ValueInfo{name, DType::kF32, {}}};
  whole.cut_to_outputs();
  auto results = engine::run_all(whole, inputs_, threads_);
  if (!results.has_value()) return with_context("recovery", results.error());
  return (*results)[0].to_f32();
}

}  // namespace kerf::compress
