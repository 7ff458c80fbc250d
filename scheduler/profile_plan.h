#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/look.h"
#include "core/measurement.h"
#include "core/study.h"
#include "search/native/profile.h"
#include "search/space.h"

namespace kerf::scheduler {

/// Which cheap looks the profile of a space takes, and what they make of it.
///
/// Damage:   each value of each dimension alone, everything else f32. A global setting is looked at on
///           the first uniform candidate, as it does nothing to f32. Recoveries that train or
///           reconstruct aren't looked at, and no look has one.
/// Cost:     what a layer's precision costs depends on that layer and on who stands before it, so one
///           look serves all layers at their n-th values ("round"), each in the layout in which it
///           runs among its like. Where kinds of activations differ between neighbours, looks in
///           which they alternate say what passing from one to the other adds; a study without a
///           metric of time takes none of these. Values that change
///           shapes (channels, global pruning) are looked at one at a time.
/// Labels:   where the study is about them and has a calibration part, each value that changes what a layer
///           computes by more than 8 bits do, beside the fastest uniform candidate that does next to nothing:
///           whether it does more or less harm than its damage says. Values that differ in activations of
///           8 bits or more alone share a look.
/// Metrics:  accuracy, top5, agreement, accuracy_drop, mae, rmse, kl, sqnr_db: the damage (noise of the
///           log-scores; of the outputs where they aren't scores or the study is about their values)
///           with the metric's sign, for the sampler to fit a scale;
///           latency_p50/p90/p99_us, latency_ratio, throughput_sps: from the sum of steps;
///           weight_bytes, storage_bytes, macs: from the plans; weight_bytes and storage_bytes are exact
///           (within a hundredth) where no layer has two dimensions and nothing is unknown. A packed file
///           has what all layers of a kind share once: that is taken off each value by comparing single
///           files with the round's. What a value without a look at its damage weighs is the round's
///           file, dealt to layers by what another value takes off them.
///           Others are unknown.
class ProfilePlan {
 public:
  /// A look that is wanted. Looks of one key are the same, whoever takes them.
  struct Want {
    std::string key;
    Json plan;
  };

  /// `hardware`: of the study's baseline.
  [[nodiscard]] static ProfilePlan make(const StudyDefinition& study, const search::SearchSpace& space,
                                        const HardwareFingerprint& hardware);

  /// Distinct ones, the values that change most first.
  [[nodiscard]] const std::vector<Want>& damage() const { return damage_; }
  [[nodiscard]] const std::vector<Want>& cost() const { return cost_; }
  [[nodiscard]] const std::vector<Want>& labels() const { return labels_; }
  /// The same, those of the largest damage first, as far as these looks say.
  [[nodiscard]] std::vector<Want> labels_by_damage(const std::map<std::string, Json>& looks) const;
  /// How many of them labels had something to say of.
  [[nodiscard]] std::int64_t labelled(const std::map<std::string, Json>& looks) const;
  [[nodiscard]] const Json& beside() const { return beside_; }  ///< What labels() are compared with.

  /// Whether costs are to be timed.
  [[nodiscard]] bool timed() const { return timed_; }

  static constexpr std::int64_t kSamples = 16;
  static constexpr std::int64_t kLabelSamples = 512;

  /// `looks`: DamageLook, CostLook and LabelLook documents by key; what is missing is unknown in the profile.
  /// Empty where nothing is known at all.
  [[nodiscard]] search::Profile profile(const std::map<std::string, Json>& looks) const;

 private:
  struct Value {
    std::string damage_key;      ///< Empty: it does nothing.
    std::string damage_before;   ///< What damage is compared with; empty: none at all.
    std::string cost_key;        ///< Empty: it costs what the f32 model does.
    std::string label_key;       ///< Empty: its damage is what it seems.
    bool knowable = true;        ///< Whether a look can be taken.
    int activations = 0;         ///< Kind of what the layer reads: see kind_of().
  };
  struct Dimension {
    search::DimensionKind kind = search::DimensionKind::kPrecision;
    std::vector<std::string> layers;
    std::vector<Value> values;
  };
  struct Pair {                  ///< Alternating neighbours: `first` and the next dimension of a precision.
    std::size_t first = 0, second = 0;
    int before = 0, after = 0;   ///< Kinds of activations.
    std::string key;             ///< The alternating look,
    std::string like;            ///< and the one in which both are as `after`.
  };
  /// What a value adds; NaN where nobody looked.
  struct Adds {
    double damage, us, weight_bytes, storage_bytes, macs;
  };
  class Looks;

  [[nodiscard]] std::string want(std::vector<Want>& list, const char* what, const Json& plan);
  void add_layers(const search::SearchSpace& space);
  void add_globals(const search::SearchSpace& space);
  void add_rounds(const search::SearchSpace& space);
  void add_pairs(const search::SearchSpace& space);
  void add_labels(const StudyDefinition& study, const search::SearchSpace& space, bool bf16);
  [[nodiscard]] Json fast_and_harmless(const search::SearchSpace& space, bool bf16) const;
  void lean(const Looks& looks, search::Profile& profile) const;
  [[nodiscard]] Adds adds(const Dimension& dimension, const Value& value, const Looks& looks) const;
  /// Whether every value had a file of its own: none is an estimate.
  bool settle_storage(std::vector<std::vector<Adds>>& all, const Looks& looks) const;
  [[nodiscard]] bool is_exact(std::size_t metric, const Looks& looks, const search::Profile& profile) const;
  [[nodiscard]] double in_metric(const std::string& metric, const Adds& adds, double base_us) const;

  std::map<std::string, Json> identities_;  ///< What keys are made of, beside the plan: damage, cost, labels.
  std::vector<std::string> metrics_;      ///< Objectives, then bounds.
  std::vector<double> signs_;             ///< −1 for a lower bound.
  std::int64_t batch_ = 1;
  Json global_ = Json::object();          ///< Settings that every look has.
  std::string base_key_;                  ///< Cost of the f32 model.
  std::vector<Dimension> dimensions_;
  std::vector<Pair> pairs_;
  bool regression_ = false;               ///< Some metric is about the outputs' values, not their ranks.
  bool timed_ = false;                    ///< Some metric is made of time.
  bool overlap_ = false;                  ///< Some layer has two dimensions: bytes multiply.
  Json beside_ = Json::object();
  std::vector<Want> damage_, cost_, labels_;
};

}  // namespace kerf::scheduler
