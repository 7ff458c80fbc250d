#include "workers/measure/channel_steps.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <set>
#include <utility>

#include "workers/compress/prune_channels.h"
#include "workers/graph/shape_inference.h"
#include "workers/measure/batch_runner.h"
#include "workers/measure/intervals.h"
#include "workers/measure/latency.h"

namespace kerf::measure {

using graph::Graph;
using graph::Node;
using graph::Tensor;
using std::chrono::duration;
using std::chrono::steady_clock;

namespace {

constexpr int kRounds = 7;
constexpr std::size_t kFewestRuns = 3;        // of a layer in a round
constexpr double kBurstSeconds = 0.0004;

std::vector<std::int64_t> counts_of(std::int64_t channels) {
  const std::int64_t block = channels > 64 ? 16 : channels > 32 ? 8 : 4;
  std::set<std::int64_t> out = {channels, channels - channels / 4, channels - channels / 2};
  const std::int64_t most = 8;  // multiples that are tried
  const std::int64_t stride = std::max(block, (channels / block + most - 1) / most * block);
  for (std::int64_t n = stride; n < channels; n += stride) {
    if (4 * n >= channels) out.insert(n);
  }
  return {out.rbegin(), out.rend()};
}

/// The layer alone, with its constants; empty where its input's shape isn't known.
std::optional<Graph> alone(const Graph& graph, const Node& node) {
  const graph::ValueInfo* input = graph.value(node.inputs[0]);
  const graph::ValueInfo* output = graph.value(node.outputs[0]);
  if (input == nullptr || output == nullptr || input->shape.empty()) return std::nullopt;
  for (std::size_t axis = 1; axis < input->shape.size(); ++axis) {
    if (input->shape[axis] <= 0) return std::nullopt;
  }
  Graph out;
  out.opset = graph.opset;
  out.inputs = {*input};
  out.outputs = {{node.outputs[0], output->dtype, {}}};
  out.nodes = {node};
  for (std::size_t i = 1; i < node.inputs.size(); ++i) {
    if (node.inputs[i].empty()) continue;
    const Tensor* constant = graph.constant(node.inputs[i]);
    if (constant == nullptr) return std::nullopt;
    out.initializers[node.inputs[i]] = *constant;
  }
  if (!graph::infer_shapes(out).has_value()) return std::nullopt;
  return out;
}

/// Equal for layers that take the same time.
std::string signature(const Graph& graph, const Node& node) {
  std::string out = node.op;
  for (const char* key : {"strides", "dilations", "pads", "kernel_shape"}) {
    out += std::string(" ") + key;
    for (const std::int64_t value : node.integers(key)) out.append(",").append(std::to_string(value));
  }
  for (const char* key : {"group", "transA", "transB"}) out.append(" ").append(std::to_string(node.integer(key, 0)));
  out.append(" ").append(node.text("auto_pad", "")).append(graph::to_string(graph.inputs[0].shape));
  for (const auto& [name, tensor] : graph.initializers) out += graph::to_string(tensor.shape());
  return out;
}

class Scanner {
 public:
  Scanner(const compress::PreparedModel& model, const ChannelScan& scan, HostLock* lock,
          const Progress& progress)
      : model_(model), scan_(scan), lock_(lock), progress_(progress) {}

  Result<std::map<std::string, std::vector<ChannelCost>>> run() {
    std::map<std::string, std::vector<ChannelCost>> out;
    const auto& groups = model_.channels.groups;
    for (std::size_t g = 0; g < groups.size(); ++g) {
      if (duration<double>(steady_clock::now() - start_).count() - waited_ms_ / 1000 > scan_.seconds) break;
      if (progress_) progress_("channels", static_cast<double>(g) / static_cast<double>(groups.size()));
      const auto blocks = model_.channels.blocks.find(groups[g].name);
      if (blocks == model_.channels.blocks.end() || blocks->second.size() != 1) continue;
      KERF_ASSIGN(std::vector<ChannelCost> costs, costs_of(blocks->second.front()));
      if (!costs.empty()) out[groups[g].name] = std::move(costs);
    }
    return out;
  }

 private:
  /// A layer at some number of channels.
  struct Variant {
    Graph layer;
    std::optional<Compiled> compiled;
    std::vector<double> us = {};  // of each round
    double typical_us = 0;
  };
  using Variants = std::map<std::string, Variant>;  // by signature

  Result<std::vector<ChannelCost>> costs_of(const std::vector<std::int32_t>& block) {
    const auto channels = static_cast<std::int64_t>(block.size());
    KERF_ASSIGN(const std::set<std::string> touched, touched_by(block));
    std::vector<std::pair<std::int64_t, std::vector<std::string>>> parts;  // signatures of each count
    Variants variants;
    std::string like;
    std::size_t bytes = 0;
    for (const std::int64_t count : counts_of(channels)) {
      KERF_ASSIGN(const Graph graph, kept(block, count));
      std::vector<std::string>& part = parts.emplace_back(count, std::vector<std::string>()).second;
      for (const std::string& name : touched) {
        const Node* node = find(graph, name);
        auto layer = node == nullptr ? std::nullopt : alone(graph, *node);
        if (!layer) return std::vector<ChannelCost>{};
        part.push_back(signature(*layer, *node));
        like.append(part.back()).append("\n");
        if (variants.contains(part.back())) continue;
        for (const auto& [constant, tensor] : layer->initializers) bytes += tensor.bytes();
        if (bytes > scan_.most_bytes) return std::vector<ChannelCost>{};
        variants.emplace(part.back(), Variant{std::move(*layer), std::nullopt});
      }
    }
    const auto known = costs_.find(like);
    if (known != costs_.end()) return known->second;
    std::vector<ChannelCost> out;
    KERF_ASSIGN(const bool timed, time(variants));
    for (const auto& [count, signatures] : parts) {
      double sum = 0;
      for (const std::string& one : signatures) sum += variants.at(one).typical_us;
      if (timed && sum > 0) out.push_back({count, sum});
    }
    return costs_[like] = out;
  }

  /// The layers that fewer channels change, by what half of them changes.
  Result<std::set<std::string>> touched_by(const std::vector<std::int32_t>& block) const {
    const auto channels = static_cast<std::int64_t>(block.size());
    KERF_ASSIGN(const Graph half, kept(block, channels - channels / 2));
    std::set<std::string> touched;
    for (const Node& node : half.nodes) {
      const Node* before = find(model_.graph, node.name);
      if (before == nullptr || !graph::is_layer(half, node)) continue;
      const Tensor* now = half.constant(node.inputs[1]);
      const Tensor* then = model_.graph.constant(before->inputs[1]);
      if (now != nullptr && then != nullptr && now->shape() != then->shape()) touched.insert(node.name);
    }
    return touched;
  }

  [[nodiscard]] Result<Graph> kept(const std::vector<std::int32_t>& block, std::int64_t count) const {
    std::vector<bool> keep(static_cast<std::size_t>(model_.channels.channel_count), true);
    for (std::size_t i = static_cast<std::size_t>(count); i < block.size(); ++i) {
      keep[static_cast<std::size_t>(block[i])] = false;
    }
    return compress::remove_channels(model_.graph, model_.channels, keep);
  }

  static const Node* find(const Graph& graph, const std::string& name) {
    const auto found = std::find_if(graph.nodes.begin(), graph.nodes.end(),
                                    [&](const Node& node) { return node.name == name; });
    return found == graph.nodes.end() ? nullptr : &*found;
  }

  /// False where one can't run alone.
  Result<bool> time(Variants& variants) {
    for (auto& [shape, variant] : variants) {
      if (!compile(variant)) return false;
    }
    std::vector<double> totals;
    for (int round = 0; round < kRounds; ++round) {
      HostLock::Turn turn;
      if (lock_ != nullptr) {
        KERF_ASSIGN(turn, lock_->exclusive(scan_.wait));
        waited_ms_ += turn.waited_ms();
      }
      const PinnedThread pin(scan_.threads);
      double total = 0;
      for (auto& [shape, variant] : variants) {
        variant.us.push_back(burst_us(*variant.compiled));
        total += variant.us.back();
      }
      totals.push_back(total);
    }
    // Clocks change between rounds: what a layer takes is its share of a round.
    const double total = median_of(totals);
    for (auto& [shape, variant] : variants) {
      for (std::size_t round = 0; round < totals.size(); ++round) variant.us[round] *= total / totals[round];
      variant.typical_us = median_of(variant.us);
    }
    return true;
  }

  bool compile(Variant& variant) const {
    const auto inputs = random_inputs(variant.layer, scan_.batch, 1);
    if (!inputs.has_value()) return false;
    auto compiled = Compiled::make(variant.layer, *inputs, {.batch = scan_.batch, .threads = scan_.threads});
    if (!compiled.has_value()) return false;
    const std::vector<std::int64_t> samples(static_cast<std::size_t>(compiled->batch()), 0);
    if (!compiled->load(*inputs, samples).has_value()) return false;
    variant.compiled = std::move(*compiled);
    return true;
  }

  static double burst_us(Compiled& compiled) {
    compiled.run();
    std::vector<double> us;
    double spent = 0;
    while (us.size() < kFewestRuns || spent < kBurstSeconds * 1e6) {
      const auto start = steady_clock::now();
      compiled.run();
      us.push_back(duration<double, std::micro>(steady_clock::now() - start).count());
      spent += us.back();
    }
    return median_of(std::move(us));
  }

  const compress::PreparedModel& model_;
  const ChannelScan& scan_;
  HostLock* lock_;
  const Progress& progress_;
  double waited_ms_ = 0;
  steady_clock::time_point start_ = steady_clock::now();
  std::map<std::string, std::vector<ChannelCost>> costs_;  // of groups, by the signatures of all their layers
};

}  // namespace

Result<std::map<std::string, std::vector<ChannelCost>>> scan_channels(
    const compress::PreparedModel& model, const ChannelScan& scan, HostLock* lock,
    const Progress& progress) {
  return Scanner(model, scan, lock, progress).run();
}

}  // namespace kerf::measure
