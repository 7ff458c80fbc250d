#include "workers/measure/detour.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <set>
#include <type_traits>
#include <utility>
#include <variant>

namespace kerf::measure {

using graph::Attribute;
using graph::Graph;
using graph::Node;
using graph::Tensor;

namespace {

constexpr int kConstant = std::numeric_limits<int>::min();  // made of constants alone

bool equal(const Tensor& a, const Tensor& b) {
  if (a.dtype() != b.dtype() || a.shape() != b.shape()) return false;
  return a.raw() == b.raw() || a.bytes() == 0 || std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

bool equal(const Attribute& a, const Attribute& b) {
  if (a.index() != b.index()) return false;
  return std::visit(
      [&](const auto& held) {
        using Held = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<Held, Tensor>) {
          return equal(held, std::get<Tensor>(b));
        } else {
          return held == std::get<Held>(b);
        }
      },
      a);
}

bool equal_constants(const Tensor* a, const Tensor* b) {
  if (a == nullptr || b == nullptr) return a == b;
  return equal(*a, *b);
}

}  // namespace

Detours::Detours(const Graph& base, std::vector<std::string> points) : base_(&base), points_(std::move(points)) {
  for (const Node& node : base.nodes) nodes_[node.name] = &node;
  for (std::size_t i = 0; i < points_.size(); ++i) index_[points_[i]] = static_cast<int>(i);
  for (const std::string& point : points_) {
    const auto readers = base.consumers(point);
    pooled_.push_back(std::any_of(readers.begin(), readers.end(),
                                  [](const Node* reader) { return reader->op == "GlobalAveragePool"; }));
  }
}

bool Detours::same(const Graph& other, const Node& node) const {
  const auto found = nodes_.find(node.name);
  if (found == nodes_.end()) return false;
  const Node& own = *found->second;
  if (own.op != node.op || own.domain != node.domain || own.inputs != node.inputs || own.outputs != node.outputs ||
      own.attributes.size() != node.attributes.size()) {
    return false;
  }
  for (const auto& [name, attribute] : node.attributes) {
    const auto there = own.attributes.find(name);
    if (there == own.attributes.end() || !equal(there->second, attribute)) return false;
  }
  return std::all_of(node.inputs.begin(), node.inputs.end(), [&](const std::string& input) {
    return input.empty() || equal_constants(base_->constant(input), other.constant(input));
  });
}

Detour Detours::of(const Graph& other) const {
  const int count = static_cast<int>(points_.size());
  const auto nowhere = [&] { return Detour{-1, count}; };
  if (other.inputs.size() != base_->inputs.size() || other.outputs.size() != base_->outputs.size()) return nowhere();
  // A value's level: the last point that it depends on, or is; -1 before the first.
  std::map<std::string, int> levels;
  for (std::size_t i = 0; i < other.inputs.size(); ++i) {
    if (other.inputs[i].name != base_->inputs[i].name) return nowhere();
    levels[other.inputs[i].name] = -1;
  }
  std::vector<bool> there(points_.size(), false), bypassed(points_.size(), false);
  std::set<std::string> altered;  // constants that nodes make differently
  int first = count, last = -2;   // levels of nodes that differ
  bool bf16 = false;
  const auto bypass = [&](int from, int to) {
    for (int level = from + 1; level <= to; ++level) bypassed[static_cast<std::size_t>(level)] = true;
  };
  for (const Node& node : other.nodes) {
    int low = std::numeric_limits<int>::max();
    int level = kConstant;
    bool differs = !same(other, node);
    for (const std::string& input : node.inputs) {
      differs = differs || altered.contains(input);
      const auto known = levels.find(input);
      if (known == levels.end()) continue;
      low = std::min(low, known->second);
      level = std::max(level, known->second);
    }
    if (level == kConstant) {
      if (differs) altered.insert(node.outputs.begin(), node.outputs.end());
      continue;
    }
    bypass(low, level);
    if (differs) {
      first = std::min(first, low);
      last = std::max(last, level);
      bf16 = bf16 || !node.text("kerf_precision", "").empty();
    }
    for (const std::string& output : node.outputs) {
      if (output.empty()) continue;
      const auto point = index_.find(output);
      levels[output] = point == index_.end() ? level : point->second;
      if (point != index_.end()) {
        there[static_cast<std::size_t>(point->second)] = true;
        // A point that isn't the next one: what lies between isn't there.
        if (point->second <= level) return nowhere();
      }
    }
  }
  for (std::size_t i = 0; i < other.outputs.size(); ++i) {
    const auto made = levels.find(other.outputs[i].name);
    if (other.outputs[i].name != base_->outputs[i].name || made == levels.end()) return nowhere();
    bypass(made->second, count - 1);
  }
  const auto fits = [&](int point) {
    return there[static_cast<std::size_t>(point)] && !bypassed[static_cast<std::size_t>(point)];
  };
  Detour out{std::min(first, count - 1), 0};
  while (out.leaves >= 0 && !fits(out.leaves)) --out.leaves;
  out.returns = std::max(last + 1, out.leaves);
  if (out.returns < 0) out.returns = 0;
  while (out.returns < count &&
         (!fits(out.returns) || (bf16 && out.returns > out.leaves && pooled_[static_cast<std::size_t>(out.returns)]))) {
    ++out.returns;
  }
  return out;
}

}  // namespace kerf::measure
