#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/plan.h"
#include "core/result.h"
#include "workers/compress/model.h"
#include "workers/compress/prune_channels.h"

namespace kerf::compress {

/// A plan that met a model: what happens to each layer, everything checked.
struct ResolvedPlan {
  std::vector<std::pair<std::string, LayerPlan>> layers;  ///< All of the model's, in its order.
  std::map<std::string, ChannelPruning> channels;         ///< By group.
  std::optional<double> global_channels;                  ///< One ratio for all other groups.
  bool bias_correction = false;

  [[nodiscard]] bool needs_ranges() const;     ///< Some layer runs on integers.
  [[nodiscard]] bool corrects_biases() const;  ///< Some layer's weights change and it is wanted.
  [[nodiscard]] bool prunes_single_weights(const LayerPlan& layer) const;

  [[nodiscard]] bool rounds_adaptively() const;
  [[nodiscard]] bool needs_calibration() const;
  [[nodiscard]] const LayerPlan& at(const std::string& layer) const;  ///< Throws where unknown.

  [[nodiscard]] bool prunes() const;  ///< Channels or single weights go somewhere.

  /// Says what was pruned, and nothing else: equal for plans with the same pruned f32 graph; empty
  /// where nothing is.
  [[nodiscard]] std::string variant() const;
};

/// Puts a plan and a model together.
///
/// What a layer's own entry asks for must be possible; what "*" or `global` ask for and a layer
/// can't do leaves that layer as it is (weights in f32, channels there).
///
/// Errors:   invalid_argument, unimplemented; see compress().
[[nodiscard]] Result<ResolvedPlan> resolve_plan(const PreparedModel& model,
                                                const CompressionPlan& plan);

}  // namespace kerf::compress
