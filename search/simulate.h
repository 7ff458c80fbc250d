#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/json.h"
#include "core/result.h"
#include "core/study.h"
#include "search/pareto.h"
#include "search/sampler.h"

namespace kerf::search {

/// Values by metric.
using MetricValues = std::map<std::string, double>;

/// A choice of a layer, as a table has it.
struct TableChoice {
  MetricValues metrics;  ///< What it adds to each metric.
  MetricValues profile;  ///< What a cheap look at this layer alone says; empty = nothing.
  double weight_bits = 0;  ///< 0 where the table doesn't say.
};

struct TableLayer {
  std::string name;
  std::vector<TableChoice> choices;
};

/// Adds to the metrics where these layers take these choices together; two layers or more.
struct TablePair {
  std::vector<std::size_t> layers;
  std::vector<int> choices;  ///< One a layer.
  MetricValues metrics;
  MetricValues profile;  ///< What a look at these layers side by side says (a reorder); empty = nothing.

  [[nodiscard]] bool matches(const std::vector<int>& layer_choices) const;
};

/// Layers × choices → metrics: a device that is known by its lookup table, or a made-up problem to
/// compare samplers on.
///
/// Maths:    metric = (constant + Σ over layers + Σ over the pairs that match) × (1 + noise × z), z
///           a normal number drawn from the seed, the trial's number and the metric's name.
class Table {
 public:
  /// Every number of a choice but the plan's own keys (weight_bits, …) is a metric. Beside the
  /// contract's keys, "constraints" may bound metrics as a study does, and an entry of "pairs" may
  /// name more than two layers and carry a "profile" as a choice does, of which a sampler sees that of
  /// neighbouring dimensions.
  ///
  /// Errors:   invalid_argument naming the place: unknown keys, layers without choices, ties of
  ///           layers with different numbers of choices, a metric of an objective or a constraint that
  ///           some choices of a layer have and others lack, a name of a metric that nothing has, a
  ///           reference or a number that isn't finite, numbers that add up to more than 1e75.
  [[nodiscard]] static Result<Table> parse(const Json& document);

  [[nodiscard]] const std::vector<Objective>& objectives() const { return objectives_; }
  [[nodiscard]] const std::vector<Constraint>& constraints() const { return constraints_; }
  [[nodiscard]] const std::vector<TableLayer>& layers() const { return layers_; }
  [[nodiscard]] const std::vector<double>& reference() const { return reference_; }
  [[nodiscard]] double profile_cost() const { return profile_cost_; }
  [[nodiscard]] bool has_profile() const;

  /// What a sampler may know: a dimension a free layer (tied ones share one), objectives, the
  /// number of bounds, uniform candidates as anchors, and with `look` the profile.
  [[nodiscard]] SamplerProblem problem(std::int64_t seed, bool look) const;

  /// One index a layer, in the table's order, from one a dimension.
  [[nodiscard]] std::vector<int> layer_choices(const Choices& choices) const;

  /// The metrics of one index a layer, without noise.
  [[nodiscard]] MetricValues exact(const std::vector<int>& layer_choices) const;

  /// The same as trial `number` would measure it.
  [[nodiscard]] MetricValues measure(const std::vector<int>& layer_choices, std::int64_t seed,
                                     std::int64_t number) const;

 private:
  [[nodiscard]] Result<void> parse_layers(const Json& document);
  [[nodiscard]] Result<void> parse_goals(const Json& document);
  [[nodiscard]] Result<void> parse_ties(const Json& document);
  [[nodiscard]] Result<void> parse_pairs(const Json& document);
  void look_at_neighbours(const std::vector<std::pair<std::string, double>>& metrics, Profile& profile) const;
  [[nodiscard]] Result<void> check_metrics(const Json& document);
  [[nodiscard]] Error unknown_metric(const std::string& where) const;
  [[nodiscard]] Result<void> check_sizes() const;
  [[nodiscard]] Result<void> parse_reference(const Json& document);
  [[nodiscard]] Result<std::size_t> layer_index(const Json& name, const std::string& where) const;

  std::vector<Objective> objectives_;
  std::vector<Constraint> constraints_;
  std::vector<TableLayer> layers_;
  static constexpr std::size_t kFixed = std::numeric_limits<std::size_t>::max();
  std::vector<std::size_t> dimension_of_;  ///< Of each layer; kFixed where it has one choice.
  std::size_t dimensions_ = 0;
  MetricValues constants_;
  MetricValues noise_;
  std::vector<TablePair> pairs_;
  std::vector<double> reference_;  ///< One an objective.
  std::vector<std::string> metric_names_;
  double profile_cost_ = 0;
};

struct SimulationOptions {
  std::string sampler = kDefaultSampler;
  std::int64_t trials = 200;  ///< The budget, profile included.
  bool look = false;          ///< The sampler sees the profile; its cost is taken from the budget.
  std::int64_t seed = 1;
  std::int64_t batch = 1;     ///< Trials in flight at a time.
};

struct SimulatedTrial {
  std::vector<int> choices;  ///< One a layer.
  MetricValues metrics;      ///< As measured.
  Observation observation;
};

struct Simulation {
  std::vector<SimulatedTrial> trials;
  std::vector<std::size_t> front;         ///< Indices of trials; by the first objective, best first.
  std::optional<std::size_t> nearest_miss; ///< Where nothing is feasible: the trial of least violation.
  double least_violation = 0;              ///< Of nearest_miss: shares of its bounds, added up.
  std::vector<std::string> notes;         ///< What the sampler had to say.
  std::vector<double> hypervolume;        ///< After each trial, of measured values.
  std::vector<double> exact_hypervolume;  ///< The same without the noise.

  /// {trials: [{choices, metrics}], front: [{trial, choices, metrics}], hypervolume: [...]}
  /// and, where there is, nearest_miss: {trial, choices, metrics, violation}.
  [[nodiscard]] Json to_json() const;
};

/// Runs a sampler against a table. The same options give the same trials.
///
/// Errors:   those of make_sampler and ask.
[[nodiscard]] Result<Simulation> simulate(const Table& table, const SimulationOptions& options);

}  // namespace kerf::search
