#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/metric.h"
#include "core/plan.h"
#include "core/result.h"

namespace kerf {

/// What to optimise.
struct Objective {
  std::string metric;
  Direction direction = Direction::kMinimize;

  friend bool operator==(const Objective&, const Objective&) = default;
};

/// A bound on a metric. g = value − max (or min − value) ≤ 0 is feasible.
struct Constraint {
  std::string metric;
  std::optional<double> max;
  std::optional<double> min;

  friend bool operator==(const Constraint&, const Constraint&) = default;
};

/// The bounds of one constraint, {max, min} beside other keys.
///
/// Errors:   invalid_argument naming the place: neither, no finite number, max below min.
[[nodiscard]] Result<Constraint> constraint_of(const std::string& metric, const Json& bounds, const std::string& where);

/// x = (raw × scale − mean) / std, per channel.
struct Preprocess {
  double scale = 1;
  std::vector<double> mean;      ///< Empty = 0; one value = all channels.
  std::vector<double> std;       ///< Empty = 1; one value = all channels.
  std::string layout = "NCHW";   ///< How the data lies: "NCHW", "NHWC".

  friend bool operator==(const Preprocess&, const Preprocess&) = default;

  /// Errors:   invalid_argument (unknown key, std of 0, unknown layout).
  [[nodiscard]] static Result<Preprocess> parse(const Json& document);
  [[nodiscard]] Json to_json() const;
};

/// The files of a study: paths as given, or ids ("sha256:…") over HTTP. A single file is split into
/// three by a fixed seed.
struct DataFiles {
  std::string calibration;
  std::string evaluation;
  std::string test;
  std::string single;  ///< Set where one file serves all three.

  friend bool operator==(const DataFiles&, const DataFiles&) = default;
};

/// The values that each key of a layer may take; a value of "prune" is one {structure, ratio, score}.
using LayerChoices = std::map<std::string, std::vector<Json>>;

/// Choices for the layers whose name matches a pattern with * and ?.
struct LayerRule {
  std::string match;
  LayerChoices choices;

  friend bool operator==(const LayerRule&, const LayerRule&) = default;
};

/// The space as the user wrote it, before it meets the model.
struct SpaceDefinition {
  LayerChoices all_layers;                      ///< "default"
  std::vector<LayerRule> layers;                ///< Later rules win, key by key.
  std::vector<std::vector<std::string>> ties;   ///< Layers that take the same choices.
  std::map<std::string, std::vector<Json>> global;
  /// Ratios of pruned channels move to where the layers' time on the worker's hardware steps.
  bool snap_channels = false;

  friend bool operator==(const SpaceDefinition&, const SpaceDefinition&) = default;
};

/// Whether, and how surely, poor candidates are stopped before all of them was measured.
struct RacingSettings {
  bool on = true;
  double confidence = 0.999;  ///< Least probability, a candidate, of not stopping one that shouldn't be.
  bool front = false;         ///< Also those that the front beats, not only those that break a constraint.

  friend bool operator==(const RacingSettings&, const RacingSettings&) = default;
};

struct SearchSettings {
  std::string sampler = "profile";  ///< search/sampler.h knows the names.
  std::int64_t seed = 1;
  RacingSettings racing;

  friend bool operator==(const SearchSettings&, const SearchSettings&) = default;
};

/// When to stop; 0 = no such limit.
struct Budget {
  std::int64_t trials = 200;
  double seconds = 0;
  std::int64_t stagnation = 0;  ///< Trials without a gain of hypervolume.
  double gain = 0;              ///< Share of the hypervolume that two batches in a row don't promise.

  friend bool operator==(const Budget&, const Budget&) = default;
};

struct MeasureSettings {
  int threads = 1;
  std::int64_t batch = 1;

  friend bool operator==(const MeasureSettings&, const MeasureSettings&) = default;
};

/// Hours in which the study may run; wall clock of a time zone.
struct Window {
  std::string start;  ///< "22:00"
  std::string stop;   ///< "06:00"
  std::string timezone = "UTC";

  friend bool operator==(const Window&, const Window&) = default;
};

/// One optimisation problem, complete: every field has a value after parse().
struct StudyDefinition {
  std::string name;
  std::string model;
  DataFiles data;
  std::optional<Preprocess> preprocess;
  std::vector<Objective> objectives;
  bool objectives_given = false;  ///< Else the default ones, which adapt to data without labels.
  std::vector<Constraint> constraints;
  SpaceDefinition space;
  SearchSettings search;
  Budget budget;
  MeasureSettings measure;
  std::map<std::string, std::string> hardware_labels;
  std::optional<Window> window;

  friend bool operator==(const StudyDefinition&, const StudyDefinition&) = default;

  /// Checks keys, types, ranges and metric names. Files aren't looked at.
  ///
  /// Errors:   invalid_argument naming the key (and its nearest known one), value, expectation.
  [[nodiscard]] static Result<StudyDefinition> parse(const Json& document);

  /// parse(to_json()) is equal to *this.
  [[nodiscard]] Json to_json() const;

  /// Hash of what makes results comparable: all but name, budget, window and hardware labels.
  /// `kerf run` resumes the study of this identity that it finds in its data directory.
  [[nodiscard]] std::string identity() const;
};

/// Whether a name matches a pattern with * (any run) and ? (any one character).
[[nodiscard]] bool matches(std::string_view pattern, std::string_view name);

}  // namespace kerf
