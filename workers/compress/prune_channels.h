#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/plan.h"
#include "core/result.h"
#include "workers/compress/channel_groups.h"
#include "workers/graph/graph.h"

namespace kerf::compress {

/// How much of a group goes, and by which score.
struct ChannelPruning {
  double ratio = 0;          ///< 0 ≤ ratio < 1.
  std::string score = "l1";  ///< "l1", "l2", or one of activation_scores.h.

  friend bool operator==(const ChannelPruning&, const ChannelPruning&) = default;
};

/// What a plan says about each group's channels; groups that keep all are left out.
///
/// A group's ratio is what its layers' own entries say; else what "*" or `global` say. "*" has no
/// effect on layers whose channels stay.
///
/// Errors:   invalid_argument: two layers of a group with different ratios (names both); a layer
///           whose own entry asks for it and whose channels stay (says why).
[[nodiscard]] Result<std::map<std::string, ChannelPruning>> resolve_channel_pruning(
    const ChannelGroups& groups, const CompressionPlan& plan);

/// Importance of every channel.
///
/// Maths:    score(c) = Σ over the layers and their output rows r of channel c of ‖W_r‖ / mean_r
/// ‖W_r‖,
///           with the l1 or l2 norm; a layer of zeros adds nothing.
/// Source:   Li et al. 2017, arXiv:1608.08710 (l1 norm of filters), summed over tied layers as in
///           Fang et al. 2023, arXiv:2301.12900.
[[nodiscard]] std::vector<double> channel_scores(const graph::Graph& graph,
                                                 const ChannelGroups& groups,
                                                 const std::string& score);

/// Which channels stay (index = channel).
///
/// Maths:    of each block of n channels max(1, round((1 − ratio)·n)) stay, those of the highest
/// score;
///           of equal scores the lower number stays. No rounding to what a kernel likes: which
///           ratios are worth trying on a machine is for the search to find out.
[[nodiscard]] std::vector<bool> choose_channels(
    const graph::Graph& graph, const ChannelGroups& groups,
    const std::map<std::string, ChannelPruning>& pruning);

/// The same by scores that are there already: those of every channel, by the score's name.
[[nodiscard]] std::vector<bool> choose_channels(
    const ChannelGroups& groups, const std::map<std::string, ChannelPruning>& pruning,
    const std::map<std::string, std::vector<double>>& scores);

/// Marks for removal the channels of the lowest score wherever they are, in all groups but
/// `except`.
///
/// Maths:    round(ratio · n) of the n channels of those groups, by score(c) / the number of layers
/// and
///           rows it sums, so that tied layers don't outweigh single ones; of equal scores the
///           higher number goes first. A block keeps its best channel.
void choose_channels_globally(const graph::Graph& graph, const ChannelGroups& groups, double ratio,
                              const std::map<std::string, ChannelPruning>& except,
                              std::vector<bool>& keep);

/// Removes channels for real: every constant that has an entry for each of them is cut, depthwise
/// layers get fewer groups, reshapes get targets without channel numbers, shapes are inferred anew.
///
/// Errors:   internal where the cut graph doesn't pass shape inference.
[[nodiscard]] Result<graph::Graph> remove_channels(const graph::Graph& graph,
                                                   const ChannelGroups& groups,
                                                   const std::vector<bool>& keep);

}  // namespace kerf::compress
