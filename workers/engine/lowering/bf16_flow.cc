#include "workers/engine/lowering/bf16_flow.h"

#include <algorithm>
#include <set>

namespace kerf::engine {

using graph::Node;

namespace {

bool is_bf16(const Node& layer) { return layer.text("kerf_precision", "") == "bf16"; }

/// Ops that give bf16 for bf16, in a loop of ours or as a copy.
bool passes_on(const std::string& op) {
  static const std::set<std::string, std::less<>> ops{
      "MaxPool", "AveragePool", "Relu",    "Clip",      "LeakyRelu", "Add",       "Mul",  "Sigmoid",           "HardSwish",
      "Concat",  "Reshape",     "Flatten", "Transpose", "Squeeze",   "Unsqueeze", "kerf_Swish", "BatchNormalization"};
  return ops.contains(op);
}

/// Ops whose result is about as exact as what they read.
bool keeps_precision(const std::string& op) {
  static const std::set<std::string, std::less<>> ops{"Add", "Sub", "Mul", "Div", "Softmax", "Where", "Concat", "Slice", "Split", "Gather",
                                                      "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Expand", "Identity"};
  return ops.contains(op);
}

}  // namespace

bool Bf16Flow::takes(const std::string& value) {
  if (graph_.is_output(value)) return false;
  if (const auto found = takes_.find(value); found != takes_.end()) return found->second;
  takes_[value] = false;
  const auto& readers = links_.of(value);
  bool all = !readers.empty();
  for (const std::size_t r : readers) {
    const Node& reader = graph_.nodes[r];
    if (graph::is_layer(graph_, reader)) {
      all = all && reader.inputs[0] == value && is_bf16(reader);
    } else if (reader.op == "MatMul") {
      all = all && takes_part(reader);
    } else if (reader.op == "GlobalAveragePool") {
      continue;
    } else {
      all = all && passes_on(reader.op) && takes(reader.outputs[0]);
    }
  }
  takes_[value] = all;
  return all;
}

bool Bf16Flow::takes_part(const Node& node) {
  bool any = false;
  for (const std::string& factor : node.inputs) {
    const Origin from = origin(factor);
    if (from == Origin::kOther) return false;
    any = any || from == Origin::kBf16;
  }
  return any;
}

Bf16Flow::Origin Bf16Flow::origin(const std::string& value) {
  if (const auto found = origins_.find(value); found != origins_.end()) return found->second;
  origins_[value] = Origin::kNone;
  const auto maker = links_.producer.find(value);
  if (maker == links_.producer.end()) return Origin::kNone;
  const Node& node = graph_.nodes[maker->second];
  Origin out = Origin::kNone;
  if (graph::is_layer(graph_, node)) {
    out = is_bf16(node) ? Origin::kBf16 : Origin::kOther;
  } else if (node.op == "MatMul" || keeps_precision(node.op)) {
    for (const std::string& input : node.inputs) {
      const Origin from = input.empty() ? Origin::kNone : origin(input);
      out = std::max(out, from);
    }
  }
  origins_[value] = out;
  return out;
}

}  // namespace kerf::engine
