#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/plan.h"
#include "core/result.h"
#include "workers/compress/model.h"
#include "workers/compress/prune_channels.h"

namespace kerf::compress {

/// Whether a layer's weights get another form: integers, bf16, shared values.
[[nodiscard]] bool changes_weights(const LayerPlan& layer);

/// A plan that met a model: what happens to each layer, everything checked.
struct ResolvedPlan {
  std::vector<std::pair<std::string, LayerPlan>> layers;  ///< All of the model's, in its order.
  std::map<std::string, ChannelPruning> channels;         ///< By group.
  std::optional<double> global_channels;                  ///< One ratio for all other groups.
  bool equalize = false;
  std::vector<std::string> recovery;  ///< In order.
  bool bias_correction = false;       ///< Is among them.
  std::optional<DistillSpec> distill; ///< Wanted as the last recovery.
  std::set<std::string> named_ranks;  ///< Layers whose own entry asks for a rank.

  [[nodiscard]] bool needs_ranges() const;     ///< Some layer's input has a range of its own.
  [[nodiscard]] bool corrects_biases() const;  ///< Some layer's weights change and it is wanted.
  [[nodiscard]] bool reconstructs() const;     ///< As above.
  [[nodiscard]] bool reestimates() const;      ///< As above, normalizations.
  [[nodiscard]] bool distills() const;         ///< As above.
  [[nodiscard]] bool prunes_single_weights(const LayerPlan& layer) const;
  [[nodiscard]] bool factorizes(const LayerPlan& layer) const;

  /// What of the plan needs calibration data, for the start of a sentence; empty: nothing does.
  [[nodiscard]] std::string why_calibration() const;

  [[nodiscard]] const LayerPlan& at(const std::string& layer) const;  ///< Throws where unknown.

  [[nodiscard]] bool prunes() const;  ///< Channels or single weights go somewhere.

  /// Replaces a layer by its parts, which have its plan.
  void split(const std::string& layer, const std::vector<std::string>& parts);

  /// Texts that tell f32 graphs apart, for Calibration: each is equal for plans whose graphs are the
  /// same at that point, and empty where the graph is the model's own.
  [[nodiscard]] std::string base_variant() const;       ///< Equalized or not.
  [[nodiscard]] std::string channel_variant() const;    ///< … and channels gone.
  [[nodiscard]] std::string structure_variant() const;  ///< … and layers factorized.
  [[nodiscard]] std::string variant() const;  ///< … and single weights gone, and recovered.

 private:
  [[nodiscard]] Json structure(bool with_ranks) const;
  [[nodiscard]] bool any(bool (*wanted)(const LayerPlan&)) const;
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
