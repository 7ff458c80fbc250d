#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/model_info.h"
#include "workers/graph/graph.h"

namespace kerf::compress {

/// An axis of a constant whose entries belong to channels: it is cut when the channels go.
struct ConstantAxis {
  std::string node;       ///< The node that reads the constant.
  std::size_t input = 0;  ///< Which of its inputs the constant is.
  std::size_t axis = 0;
  std::vector<std::int32_t> channels;  ///< The channel of each index along the axis.
};

/// Which output channels of which layers can only go together.
///
/// A *channel* is a class of layer outputs that are the same thing downstream: channel 3 of `conv1`
/// and channel 3 of `conv2` once `conv1 + conv2` is computed, and the channel of a depthwise layer
/// that reads it. Channels are numbered from 0; those of one layer needn't be adjacent.
struct ChannelGroups {
  std::vector<TiedGroup> groups;             ///< Those that may be pruned, in model order.
  std::map<std::string, std::string> stays;  ///< Layer -> why its channels stay.
  std::map<std::string, std::vector<std::int32_t>> outputs;  ///< Layer -> channel of each output.
  std::map<std::string, std::string> group_of;  ///< Layer -> name of its group, if prunable.
  /// Channels of a group that occur in the same layers. A ratio is applied block by block, so that
  /// every layer loses its share (a sum over a concatenation has several blocks in one group).
  std::map<std::string, std::vector<std::vector<std::int32_t>>> blocks;
  std::vector<ConstantAxis> constants;  ///< Everything to cut.
  std::vector<std::string> depthwise;   ///< Convs whose `group` follows its channels.
  std::map<std::string, std::vector<std::int64_t>>
      reshapes;  ///< Reshape -> a target free of channels.
  std::int32_t channel_count = 0;
};

/// Finds the groups of output channels of a simplified graph.
///
/// Method:   the identity of each layer's output channels is carried forward through every operator
///           and united (union-find, one element a channel) where an operator joins two values:
///           sums tie element by element, a concatenation appends, Flatten repeats a channel H × W
///           times, a depthwise convolution passes its input's channels on and owns rows of them.
///           What reaches a graph output, or an operator that isn't followed, stays, with the
///           reason.
/// Needs:    inferred shapes; a value whose channel count is unknown stays.
/// Cost:     linear in nodes × channels.
/// Source:   the dependency groups of Fang et al. 2023 (DepGraph, arXiv:2301.12900), found here by
///           one forward pass.
[[nodiscard]] ChannelGroups find_channel_groups(const graph::Graph& graph);

}  // namespace kerf::compress
