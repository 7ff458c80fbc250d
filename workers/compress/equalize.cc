#include "workers/compress/equalize.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <set>
#include <vector>

#include "workers/compress/layer.h"
#include "workers/compress/layer_input.h"

namespace kerf::compress {
namespace {

using graph::Graph;
using graph::Links;
using graph::Node;
using graph::Tensor;

/// Two layers, by node index, and how the second reads the first's channels.
struct Pair {
  std::size_t first = 0, second = 0;
  std::size_t channels = 0;
};

bool is_matrix(const Node& node) { return node.op == "Gemm" || node.op == "MatMul"; }

/// Weights and bias are constants of f32 that nobody else reads.
bool owns_constants(const Graph& graph, const Links& links, const Node& node) {
  if (node.op != "Conv" && !is_matrix(node)) return false;
  for (std::size_t i = 1; i < 3; ++i) {
    if (!node.has_input(i)) continue;
    const Tensor* constant = graph.constant(node.inputs[i]);
    if (constant == nullptr || constant->dtype() != graph::DType::kF32 ||
        links.of(node.inputs[i]).size() != 1 || graph.is_output(node.inputs[i])) {
      return false;
    }
  }
  const Tensor& weights = *graph.constant(node.inputs[1]);
  return weights.elements() > 0 &&
         (node.op == "Conv" || (weights.rank() == 2 && node.integer("transA", 0) == 0 &&
                                node.real("alpha", 1.0F) == 1.0F && node.real("beta", 1.0F) == 1.0F));
}

/// Whether f(s·x) = s·f(x) for s > 0, channel by channel.
bool keeps_factors(const Graph& graph, const Node& node, const std::string& value) {
  static const std::set<std::string> ops = {"Relu",    "LeakyRelu",         "Identity",
                                            "MaxPool", "AveragePool",       "GlobalAveragePool",
                                            "GlobalMaxPool"};
  if (node.inputs.empty() || node.inputs[0] != value || node.outputs.size() != 1) return false;
  return ops.contains(node.op) || (node.op == "PRelu" && graph.constant(node.inputs[1]) != nullptr);
}

std::optional<Pair> pair_from(const Graph& graph, const Links& links, std::size_t index) {
  const Node& first = graph.nodes[index];
  if (!owns_constants(graph, links, first)) return std::nullopt;
  Pair out;
  out.first = index;
  out.channels = static_cast<std::size_t>(
      output_channels(first, graph.constant(first.inputs[1])->shape()));
  std::string value = first.outputs[0];
  bool flat = is_matrix(first);
  for (;;) {
    const auto& readers = links.of(value);
    if (graph.is_output(value) || readers.size() != 1) return std::nullopt;
    const Node& node = graph.nodes[readers[0]];
    if (std::count(node.inputs.begin(), node.inputs.end(), value) != 1) return std::nullopt;
    if (keeps_factors(graph, node, value)) {
      value = node.outputs[0];
    } else if (node.op == "Flatten" && !flat && node.integer("axis", 1) == 1) {
      flat = true;
      value = node.outputs[0];
    } else {
      if (!node.has_input(1) || node.inputs[0] != value || !owns_constants(graph, links, node) ||
          is_matrix(node) != flat) {
        return std::nullopt;
      }
      out.second = readers[0];
      return out;
    }
  }
}

/// The channel of the first layer that an element (row, column) of the second's weights reads.
class Reader {
 public:
  Reader(const Node& node, const Tensor& weights, std::size_t channels)
      : at_(node, weights.shape()), channels_(channels) {
    if (is_matrix(node)) {
      inner_ = at_.columns / channels;
      return;
    }
    groups_ = static_cast<std::size_t>(std::max<std::int64_t>(1, node.integer("group", 1)));
    inner_ = at_.columns / static_cast<std::size_t>(weights.dim(1));
  }

  [[nodiscard]] bool fits() const {
    return inner_ > 0 && at_.rows % groups_ == 0 && at_.columns / inner_ * groups_ == channels_ &&
           at_.columns % inner_ == 0;
  }
  [[nodiscard]] const WeightPlace& at() const { return at_; }
  [[nodiscard]] std::size_t channel(std::size_t row, std::size_t column) const {
    return row / (at_.rows / groups_) * (at_.columns / inner_) + column / inner_;
  }

 private:
  WeightPlace at_;
  std::size_t channels_, inner_ = 1, groups_ = 1;
};

bool normal(float value) {
  return value == 0.0F || (std::fabs(value) >= std::numeric_limits<float>::min() &&
                           std::fabs(value) <= std::numeric_limits<float>::max());
}

/// Equalizes one pair; whether anything changed.
bool equalize_pair(Graph& graph, const Pair& pair) {
  Node& one = graph.nodes[pair.first];
  Node& two = graph.nodes[pair.second];
  Tensor first = graph.initializers.at(one.inputs[1]);
  Tensor second = graph.initializers.at(two.inputs[1]);
  const WeightPlace at(one, first.shape());
  const Reader reader(two, second, pair.channels);
  if (!reader.fits() || at.rows != pair.channels) return false;
  std::vector<float> bias;
  if (one.has_input(2)) bias = graph.initializers.at(one.inputs[2]).to_floats();
  if (!bias.empty() && bias.size() != pair.channels) return false;

  const auto w = first.mutable_as<float>();
  const auto v = second.mutable_as<float>();
  std::vector<float> largest_one(pair.channels, 0.0F);
  std::vector<float> largest_two(pair.channels, 0.0F);
  for (std::size_t r = 0; r < at.rows; ++r) {
    for (std::size_t c = 0; c < at.columns; ++c)
      largest_one[r] = std::max(largest_one[r], std::fabs(w[at(r, c)]));
  }
  for (std::size_t r = 0; r < reader.at().rows; ++r) {
    for (std::size_t c = 0; c < reader.at().columns; ++c) {
      float& largest = largest_two[reader.channel(r, c)];
      largest = std::max(largest, std::fabs(v[reader.at()(r, c)]));
    }
  }
  std::vector<int> exponents(pair.channels, 0);  // s = 2^exponent
  for (std::size_t c = 0; c < pair.channels; ++c) {
    if (largest_one[c] == 0.0F || largest_two[c] == 0.0F) continue;
    const double half = (std::log2(static_cast<double>(largest_one[c])) -
                         std::log2(static_cast<double>(largest_two[c]))) / 2;
    exponents[c] = static_cast<int>(std::lround(half));
  }
  // A channel whose weights can't all be scaled exactly stays.
  for (std::size_t r = 0; r < at.rows; ++r) {
    for (std::size_t c = 0; c < at.columns; ++c) {
      const float value = w[at(r, c)];
      if (!normal(value) || !normal(std::ldexp(value, -exponents[r]))) exponents[r] = 0;
    }
    if (!bias.empty() && (!normal(bias[r]) || !normal(std::ldexp(bias[r], -exponents[r])))) exponents[r] = 0;
  }
  for (std::size_t r = 0; r < reader.at().rows; ++r) {
    for (std::size_t c = 0; c < reader.at().columns; ++c) {
      int& exponent = exponents[reader.channel(r, c)];
      const float value = v[reader.at()(r, c)];
      if (!normal(value) || !normal(std::ldexp(value, exponent))) exponent = 0;
    }
  }
  if (std::all_of(exponents.begin(), exponents.end(), [](int e) { return e == 0; })) return false;
  for (std::size_t r = 0; r < at.rows; ++r) {
    for (std::size_t c = 0; c < at.columns; ++c) {
      float& value = w[at(r, c)];
      value = std::ldexp(value, -exponents[r]);
    }
    if (!bias.empty()) bias[r] = std::ldexp(bias[r], -exponents[r]);
  }
  for (std::size_t r = 0; r < reader.at().rows; ++r) {
    for (std::size_t c = 0; c < reader.at().columns; ++c) {
      float& value = v[reader.at()(r, c)];
      value = std::ldexp(value, exponents[reader.channel(r, c)]);
    }
  }
  graph.initializers[one.inputs[1]] = std::move(first);
  graph.initializers[two.inputs[1]] = std::move(second);
  if (!bias.empty()) {
    Tensor& old = graph.initializers[one.inputs[2]];
    old = Tensor::f32(old.shape(), bias);
  }
  return true;
}

}  // namespace

Graph equalize(const Graph& source) {
  Graph graph = source;
  const Links links(graph);
  std::vector<Pair> pairs;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    if (const auto pair = pair_from(graph, links, i)) pairs.push_back(*pair);
  }
  constexpr int kMostSweeps = 20;
  for (int sweep = 0; sweep < kMostSweeps; ++sweep) {
    bool changed = false;
    for (const Pair& pair : pairs) changed = equalize_pair(graph, pair) || changed;
    if (!changed) break;
  }
  return graph;
}

}  // namespace kerf::compress
