#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/result.h"

namespace kerf {

/// An input or output of a model. A free dimension is -1.
struct PortInfo {
  std::string name;
  std::string dtype;  ///< "f32", "s64", …
  std::vector<std::int64_t> shape;
};

/// A layer = a node with weights, which a plan may name.
struct LayerInfo {
  std::string name;
  std::string op;                            ///< "Conv", "Gemm", "MatMul".
  std::vector<std::int64_t> input_shape;     ///< Of one sample, batch first.
  std::vector<std::int64_t> output_shape;
  std::vector<std::int64_t> weight_shape;    ///< As stored in the model.
  std::int64_t macs = 0;                     ///< Of one sample.
  std::int64_t params = 0;                   ///< Weights and bias.
  std::vector<Json> weight_bits;             ///< What a plan may say for this layer.
  std::vector<Json> activation_bits;
  std::vector<std::string> roundings;        ///< "nearest", "adaptive"; empty: not known.
  std::vector<std::string> granularities;    ///< Of integer weights: "channel", "tensor", "group:N".
  bool codebook = true;                      ///< Whether its weights may share values.
  std::vector<std::string> prune_structures; ///< "channel" only where its channels may go.
  std::vector<std::string> prune_scores;     ///< Of single weights and, where they may go, channels.
  /// "svd", "spatial", "tucker"; empty: it stays whole; none: not known.
  std::optional<std::vector<std::string>> rank_forms;
  std::string prune_group;                   ///< Name of its TiedGroup; empty = channels stay.
  std::string channels_stay_because;         ///< Why, where prune_group is empty.
  std::string kernel;                        ///< The f32 primitive that runs it.
};

/// What the f32 layers that a group's channels run through take where so many of them stay.
struct ChannelCost {
  std::int64_t channels = 0;
  double us = 0;
};

/// Those of all groups, by name, most channels first. Kept for every study of the model on such hardware.
struct ChannelCosts {
  std::string hardware;  ///< Id of the fingerprint of who measured; empty: nobody did.
  std::map<std::string, std::vector<ChannelCost>> groups;

  [[nodiscard]] Json to_json() const;  ///< {hardware, groups: {name: [[channels, us], …]}}
  [[nodiscard]] static Result<ChannelCosts> parse(const Json& document);
};

/// Layers whose output channels are removed together, because sums, concatenations or depthwise
/// layers tie them.
struct TiedGroup {
  std::string name;                 ///< That of its first layer.
  std::vector<std::string> layers;  ///< In the model's order; those that lose output channels.
  std::int64_t channels = 0;
  std::vector<ChannelCost> costs;   ///< Most channels first; empty: not measured.
};

/// What `kerf inspect` says, and what a search space is built from.
struct ModelInfo {
  std::vector<PortInfo> inputs;
  std::vector<PortInfo> outputs;
  std::vector<LayerInfo> layers;
  std::vector<TiedGroup> groups;
  std::int64_t macs = 0;
  std::int64_t params = 0;
  std::int64_t opset = 0;
  std::string costs_hardware;           ///< Where the groups' costs were measured; see ChannelCosts.
  std::string distill_refused_because;  ///< Why it can't be trained; empty = it can, or not known.

  void set_channel_costs(const ChannelCosts& costs);
  [[nodiscard]] ChannelCosts channel_costs() const;

  [[nodiscard]] Json to_json() const;
  [[nodiscard]] static Result<ModelInfo> parse(const Json& document);
};

}  // namespace kerf
