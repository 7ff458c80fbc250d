#include "workers/compress/prune_channels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>

#include "workers/compress/layer.h"
#include "workers/graph/shape_inference.h"

namespace kerf::compress {
namespace {

using graph::Graph;
using graph::Node;
using graph::Shape;
using graph::Tensor;

std::string ratio_text(double ratio) {
  std::string text = std::to_string(ratio);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.ends_with('.')) text.pop_back();
  return text;
}

ChannelPruning channel_part(const PruneSpec& prune) {
  if (prune.structure != "channel") return {};
  return {prune.ratio, prune.score};
}

/// The entries of `tensor` along `axis` whose flag is set.
Tensor take(const Tensor& tensor, std::size_t axis, const std::vector<bool>& keep) {
  Shape shape = tensor.shape();
  shape[axis] = std::count(keep.begin(), keep.end(), true);
  Tensor out(tensor.dtype(), shape);
  std::size_t inner = graph::element_size(tensor.dtype());
  for (std::size_t i = axis + 1; i < shape.size(); ++i) inner *= static_cast<std::size_t>(shape[i]);
  std::size_t outer = 1;
  for (std::size_t i = 0; i < axis; ++i) outer *= static_cast<std::size_t>(shape[i]);
  const std::byte* source = tensor.raw();
  std::byte* target = out.mutable_raw();
  for (std::size_t o = 0; o < outer; ++o) {
    for (std::size_t k = 0; k < keep.size(); ++k, source += inner) {
      if (!keep[k]) continue;
      std::memcpy(target, source, inner);
      target += inner;
    }
  }
  return out;
}

/// Norm of the weights of each output channel, over their mean.
std::vector<double> relative_norms(const Node& node, const Tensor& weights, bool squared) {
  const std::size_t axis = output_channel_axis(node);
  const auto rows = static_cast<std::size_t>(weights.dim(axis));
  std::size_t inner = 1;
  for (std::size_t i = axis + 1; i < weights.rank(); ++i)
    inner *= static_cast<std::size_t>(weights.dim(i));
  std::vector<double> norms(rows, 0.0);
  const auto values = weights.as<float>();
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double value = values[i];
    norms[i / inner % rows] += squared ? value * value : std::fabs(value);
  }
  if (squared) {
    for (double& norm : norms) norm = std::sqrt(norm);
  }
  const double mean = std::accumulate(norms.begin(), norms.end(), 0.0) / static_cast<double>(rows);
  for (double& norm : norms) norm = mean > 0 ? norm / mean : 0.0;
  return norms;
}

}  // namespace

Result<std::map<std::string, ChannelPruning>> resolve_channel_pruning(const ChannelGroups& groups,
                                                                      const CompressionPlan& plan) {
  std::map<std::string, ChannelPruning> out;
  for (const auto& [layer, reason] : groups.stays) {
    if (!plan.names_key(layer, "prune")) continue;
    if (const ChannelPruning asked = channel_part(plan.layer(layer).prune); asked.ratio > 0) {
      return invalid_argument("plan.layers." + layer + ".prune: channels of '" + layer +
                              "' stay: " + reason);
    }
  }
  for (const TiedGroup& group : groups.groups) {
    std::optional<ChannelPruning> chosen;
    std::string chosen_by;
    for (const std::string& layer : group.layers) {
      if (!plan.names_key(layer, "prune")) continue;
      const ChannelPruning asked = channel_part(plan.layer(layer).prune);
      if (chosen && *chosen != asked && (chosen->ratio > 0 || asked.ratio > 0)) {
        return invalid_argument(
            "plan.layers." + layer + ".prune: " + ratio_text(asked.ratio) + " (" + asked.score +
            ") of the channels, but '" + chosen_by + "', whose channels are tied to it, has " +
            ratio_text(chosen->ratio) + " (" + chosen->score + "); expected the same for both");
      }
      if (!chosen) {
        chosen = asked;
        chosen_by = layer;
      }
    }
    if (!chosen) {
      // "*" speaks for the layers without an entry of their own, `global` for all.
      for (const std::string& layer : group.layers) {
        const ChannelPruning asked = channel_part(plan.layer(layer).prune);
        if (!plan.names(layer)) {
          chosen = asked;
          break;
        }
        if (!chosen) chosen = asked;
      }
    }
    if (chosen && chosen->ratio > 0) out[group.name] = *chosen;
  }
  return out;
}

std::vector<double> channel_scores(const Graph& graph, const ChannelGroups& groups,
                                   const std::string& score) {
  std::vector<double> scores(static_cast<std::size_t>(groups.channel_count), 0.0);
  for (const Node& node : graph.nodes) {
    const auto own = groups.outputs.find(node.name);
    if (own == groups.outputs.end() || !groups.group_of.contains(node.name)) continue;
    const Tensor* weights = graph.constant(weights_of(graph, node));
    if (weights == nullptr || weights->dtype() != graph::DType::kF32) continue;
    // A depthwise ConvTranspose has its channels along axis 0.
    const bool depthwise = std::find(groups.depthwise.begin(), groups.depthwise.end(), node.name) !=
                           groups.depthwise.end();
    Node reader = node;
    if (depthwise) reader.op = "Conv";
    const auto norms = relative_norms(reader, *weights, score == "l2");
    for (std::size_t r = 0; r < norms.size() && r < own->second.size(); ++r) {
      scores[static_cast<std::size_t>(own->second[r])] += norms[r];
    }
  }
  return scores;
}

std::vector<bool> choose_channels(const Graph& graph, const ChannelGroups& groups,
                                  const std::map<std::string, ChannelPruning>& pruning) {
  std::map<std::string, std::vector<double>> scores;
  for (const auto& [group, spec] : pruning) {
    auto [entry, added] = scores.try_emplace(spec.score);
    if (added) entry->second = channel_scores(graph, groups, spec.score);
  }
  return choose_channels(groups, pruning, scores);
}

std::vector<bool> choose_channels(const ChannelGroups& groups,
                                  const std::map<std::string, ChannelPruning>& pruning,
                                  const std::map<std::string, std::vector<double>>& scores) {
  std::vector<bool> keep(static_cast<std::size_t>(groups.channel_count), true);
  for (const auto& [group, spec] : pruning) {
    const std::vector<double>& score = scores.at(spec.score);
    for (std::vector<std::int32_t> block : groups.blocks.at(group)) {
      std::stable_sort(block.begin(), block.end(), [&](std::int32_t a, std::int32_t b) {
        return score[static_cast<std::size_t>(a)] > score[static_cast<std::size_t>(b)];
      });
      const auto count = static_cast<double>(block.size());
      const auto stay =
          static_cast<std::size_t>(std::max(1.0, std::round((1.0 - spec.ratio) * count)));
      for (std::size_t i = stay; i < block.size(); ++i)
        keep[static_cast<std::size_t>(block[i])] = false;
    }
  }
  return keep;
}

void choose_channels_globally(const Graph& graph, const ChannelGroups& groups, double ratio,
                              const std::map<std::string, ChannelPruning>& except,
                              std::vector<bool>& keep) {
  std::vector<double> scores = channel_scores(graph, groups, "l1");
  std::vector<double> rows(scores.size(), 0.0);
  for (const auto& [layer, channels] : groups.outputs) {
    for (const std::int32_t channel : channels) rows[static_cast<std::size_t>(channel)] += 1;
  }
  struct Entry {
    double score;
    std::size_t channel;
    std::size_t block;
  };
  std::vector<Entry> entries;
  std::vector<std::size_t> left;  // channels of each block that are still there
  for (const auto& [group, blocks] : groups.blocks) {
    if (except.contains(group)) continue;
    for (const std::vector<std::int32_t>& block : blocks) {
      for (const std::int32_t channel : block) {
        const auto c = static_cast<std::size_t>(channel);
        entries.push_back({scores[c] / std::max(1.0, rows[c]), c, left.size()});
      }
      left.push_back(block.size());
    }
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.score != b.score ? a.score < b.score : a.channel > b.channel;
  });
  auto wanted = static_cast<std::size_t>(std::llround(ratio * static_cast<double>(entries.size())));
  for (const Entry& entry : entries) {
    if (wanted == 0) break;
    if (left[entry.block] <= 1) continue;
    --left[entry.block];
    --wanted;
    keep[entry.channel] = false;
  }
}

Result<Graph> remove_channels(const Graph& graph, const ChannelGroups& groups,
                              const std::vector<bool>& keep) {
  if (std::find(keep.begin(), keep.end(), false) == keep.end()) return graph;
  Graph out = graph;
  const graph::Links links(graph);
  std::map<std::string, std::size_t> index;
  for (std::size_t i = 0; i < out.nodes.size(); ++i) index[out.nodes[i].name] = i;

  for (const ConstantAxis& constant : groups.constants) {
    std::vector<bool> entries;
    entries.reserve(constant.channels.size());
    for (const std::int32_t channel : constant.channels) {
      entries.push_back(keep[static_cast<std::size_t>(channel)]);
    }
    if (std::find(entries.begin(), entries.end(), false) == entries.end()) continue;
    Node& node = out.nodes[index.at(constant.node)];
    std::string& name = node.inputs[constant.input];
    Tensor cut = take(out.initializers.at(name), constant.axis, entries);
    // Other readers of the constant keep it as it is, unless it is theirs to cut as well.
    if (links.of(name).size() > 1 || out.is_output(name)) name = out.fresh_name(name + ".cut");
    out.initializers[name] = std::move(cut);
  }
  for (const std::string& layer : groups.depthwise) {
    const std::vector<std::int32_t>& channels = groups.outputs.at(layer);
    const auto kept = std::count_if(channels.begin(), channels.end(), [&](std::int32_t channel) {
      return keep[static_cast<std::size_t>(channel)];
    });
    Node& node = out.nodes[index.at(layer)];
    const auto multiplier = static_cast<std::int64_t>(channels.size()) / node.integer("group", 1);
    node.attributes["group"] = static_cast<std::int64_t>(kept) / multiplier;
  }
  for (const auto& [reshape, target] : groups.reshapes) {
    Node& node = out.nodes[index.at(reshape)];
    node.inputs[1] = out.fresh_name(reshape + ".target");
    node.attributes.erase("allowzero");
    out.initializers[node.inputs[1]] =
        Tensor::s64({static_cast<std::int64_t>(target.size())}, target);
  }
  out.remove_dead();
  out.values.clear();
  if (auto inferred = graph::infer_shapes(out); !inferred.has_value()) {
    return internal_error("a pruned graph doesn't fit together: " + inferred.error().message);
  }
  return out;
}

}  // namespace kerf::compress
