#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/model_info.h"
#include "core/plan.h"
#include "core/result.h"
#include "core/study.h"
#include "search/sampler.h"

namespace kerf::search {

/// What a dimension decides.
enum class DimensionKind { kPrecision, kPrune, kRank, kCodebook, kGlobal };

/// One thing to choose, with what its values mean.
struct Dimension {
  DimensionSpec spec;
  DimensionKind kind = DimensionKind::kPrecision;
  std::vector<std::string> layers;  ///< Whom a value goes to; empty = it goes into `global`.
  std::vector<Json> values;         ///< Keys of a layer (or of `global`) that a value sets, one an index.
};

/// A study's space, resolved against a model: dimensions, and the plan of each of their points.
///
/// Dimensions, in the model's order of layers, the global ones last:
///   "<layer>.precision"  the distinct valid combinations of weight_bits × activation_bits × the
///                        other keys of precision that the study gives (granularity, rounding, …).
///                        What means the same is one value: 32 with any activations is f32, 16 is
///                        bf16; what no kernel stands for is dropped. Ordered from f32 down.
///   "<group>.prune"      for a group whose channels the model ties, where the study prunes
///                        channels: the choices that all its members allow, taken by all.
///                        "<layer>.prune" for unstructured and n:m pruning elsewhere. A layer whose
///                        channels stay drops the choices that prune channels.
///   "<layer>.rank", "<layer>.codebook"
///   "global.<key>"       every key of the space's `global`.
/// What has one value only is no dimension: its value stands in every plan. Where a study ties
/// layers, one dimension, named after the first of them, serves all.
///
/// With `snap_channels` a group's ratios move to numbers of channels at which its layers' time steps,
/// where the inspection timed them (search/snap_channels.h).
///
/// A choice that a layer doesn't support is dropped; a layer that supports none of a key's choices
/// stays as it is, unless a rule names it in full, which is an error. A recovery that the model can't
/// have is dropped; where the study wants no other, that is an error.
///
/// A value of `global` for weight_bits, activation_bits, prune (with a structure), rank or codebook
/// is given to each layer that supports it and doesn't choose that key itself.
class SearchSpace {
 public:
  /// Errors:   invalid_argument: a rule's pattern or a tie names no layer (says the nearest), tied
  ///           layers share no value, a layer named by a rule supports none of its choices, more
  ///           than 4,096 combinations of one layer's keys.
  [[nodiscard]] static Result<SearchSpace> build(const SpaceDefinition& definition,
                                                 const ModelInfo& model);

  [[nodiscard]] const std::vector<Dimension>& dimensions() const { return dimensions_; }

  /// The same, as samplers see them.
  [[nodiscard]] std::vector<DimensionSpec> specs() const;

  /// The plan of a point. Every layer that isn't left in f32 is named; a plan that changes no
  /// layer is the baseline, whatever `global` says of ranges and recovery.
  ///
  /// Errors:   invalid_argument: the number of indices, or an index out of range.
  [[nodiscard]] Result<CompressionPlan> plan(const Choices& choices) const;

  /// Equal for points that mean the same plan (a calibration range where nothing is quantized).
  /// Empty for a point that isn't one.
  [[nodiscard]] std::string fingerprint(const Choices& choices) const;

  /// The point nearest to "everything stays f32"; is_baseline() of its plan where the space allows.
  [[nodiscard]] Choices baseline() const;

  /// Where a search starts: the baseline, then uniform candidates (every layer at 8/8, at bf16, at
  /// 4/8, …, at 8/8 with each share of pruning), distinct as plans; at most eight.
  [[nodiscard]] std::vector<Choices> anchors() const;

  /// The first point whose plan says the same, if there is one.
  [[nodiscard]] std::optional<Choices> choices_of(const CompressionPlan& plan) const;

  /// log10 of the number of points.
  [[nodiscard]] double log10_size() const;

  /// [{name, layers, ordered, values}] for people and the dashboard.
  [[nodiscard]] Json to_json() const;

 private:
  friend class SpaceBuilder;

  [[nodiscard]] Json plan_json(const Choices& choices) const;
  [[nodiscard]] Result<void> check(const Choices& choices) const;

  std::vector<Dimension> dimensions_;
  std::vector<LayerInfo> layers_;
  std::vector<Json> fixed_layers_;  ///< Keys that every plan gives layers_[i].
  Json fixed_global_ = Json::object();
};

}  // namespace kerf::search
