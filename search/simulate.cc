#include "search/simulate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "core/plan.h"
#include "search/front.h"
#include "search/observe.h"
#include "search/random.h"

namespace kerf::search {
namespace {

constexpr std::size_t kMaxAnchors = 8;

/// A standard normal number of a seed, a trial and a metric (Box and Muller 1958).
double normal(std::int64_t seed, std::int64_t number, const std::string& metric) {
  std::int64_t word = 0;
  for (const char c : metric) word = word * 131 + static_cast<unsigned char>(c) % 127;
  Rng random({seed, number, word % 1'000'003});
  const double u = 1 - random.unit();
  return std::sqrt(-2 * std::log(u)) * std::cos(2 * 3.14159265358979323846 * random.unit());
}

/// 1 and -1 where the bits of the choices only grow or only shrink, else 0.
int trend(const TableLayer& layer) {
  int sign = 0;
  for (std::size_t k = 1; k < layer.choices.size(); ++k) {
    const double before = layer.choices[k - 1].weight_bits;
    const double now = layer.choices[k].weight_bits;
    const int step = before == 0 || now == 0 || now == before ? 0 : now > before ? 1 : -1;
    if (step == 0 || (sign != 0 && step != sign)) return 0;
    sign = step;
  }
  return sign;
}

}  // namespace

SamplerProblem Table::problem(std::int64_t seed, bool look) const {
  SamplerProblem out;
  out.seed = seed;
  bool growing = true;  // bits grow with the index: the last choice compresses least
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    // A tied layer's dimension was made by the first of its layers.
    if (dimension_of_[i] != out.dimensions.size()) continue;
    const int sign = trend(layers_[i]);
    growing = growing && sign > 0;
    out.dimensions.push_back({layers_[i].name,
                              static_cast<std::int64_t>(layers_[i].choices.size()), sign != 0});
  }
  for (const Objective& objective : objectives_) out.directions.push_back(objective.direction);
  std::vector<std::pair<std::string, double>> metrics;  // and their sign in g ≤ 0
  for (const Objective& objective : objectives_) metrics.emplace_back(objective.metric, 1);
  for (const Constraint& constraint : constraints_) {
    if (constraint.max) metrics.emplace_back(constraint.metric, 1);
    if (constraint.min) metrics.emplace_back(constraint.metric, -1);
  }
  for (const auto& [metric, sign] : metrics) out.names.push_back(metric);
  out.constraint_count = static_cast<std::int64_t>(metrics.size() - objectives_.size());
  out.bound_scales = bound_scales(constraints_);
  out.reference = reference_;
  if (look) {
    out.profile.alone.resize(out.dimensions.size());
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      if (dimension_of_[i] == kFixed) continue;
      auto& values = out.profile.alone[dimension_of_[i]];
      values.resize(layers_[i].choices.size(), std::vector<double>(metrics.size(), 0.0));
      for (std::size_t k = 0; k < values.size(); ++k) {
        for (std::size_t m = 0; m < metrics.size(); ++m) {
          const auto& profile = layers_[i].choices[k].profile;
          const auto found = profile.find(metrics[m].first);
          values[k][m] += found == profile.end() ? std::numeric_limits<double>::quiet_NaN()
                                                 : metrics[m].second * found->second;
        }
      }
    }
  }
  if (look) look_at_neighbours(metrics, out.profile);
  std::int64_t levels = out.dimensions.empty() ? 1 : 0;
  for (const DimensionSpec& spec : out.dimensions) levels = std::max(levels, spec.choices);
  for (std::int64_t k = 0; k < levels && out.anchors.size() < kMaxAnchors; ++k) {
    Choices choices;
    for (const DimensionSpec& spec : out.dimensions) {
      const std::int64_t step = std::min(k, spec.choices - 1);
      choices.push_back(static_cast<int>(growing ? spec.choices - 1 - step : step));
    }
    out.anchors.push_back(std::move(choices));
  }
  return out;
}

// What looks say of pairs of neighbouring dimensions.
void Table::look_at_neighbours(const std::vector<std::pair<std::string, double>>& metrics,
                               Profile& profile) const {
  std::map<std::pair<std::size_t, std::size_t>, Profile::Neighbours> found;  // by dimension and metric
  for (const TablePair& pair : pairs_) {
    if (pair.profile.empty() || pair.layers.size() != 2) continue;
    std::size_t first = dimension_of_[pair.layers[0]];
    std::size_t second = dimension_of_[pair.layers[1]];
    int value = pair.choices[0];
    int next = pair.choices[1];
    if (first == kFixed || second == kFixed) continue;
    if (second < first) {
      std::swap(first, second);
      std::swap(value, next);
    }
    if (second != first + 1) continue;
    for (std::size_t m = 0; m < metrics.size(); ++m) {
      const auto seen = pair.profile.find(metrics[m].first);
      if (seen == pair.profile.end()) continue;
      Profile::Neighbours& one = found[{first, m}];
      if (one.adds.empty()) {
        one.first = static_cast<std::int64_t>(first);
        one.metric = static_cast<std::int64_t>(m);
        one.adds.assign(profile.alone[first].size(), std::vector<double>(profile.alone[second].size(), 0.0));
      }
      one.adds[static_cast<std::size_t>(value)][static_cast<std::size_t>(next)] += metrics[m].second * seen->second;
    }
  }
  for (auto& [key, one] : found) profile.neighbours.push_back(std::move(one));
}

bool Table::has_profile() const {
  return std::any_of(layers_.begin(), layers_.end(), [](const TableLayer& layer) {
    return std::any_of(layer.choices.begin(), layer.choices.end(),
                       [](const TableChoice& choice) { return !choice.profile.empty(); });
  });
}

std::vector<int> Table::layer_choices(const Choices& choices) const {
  std::vector<int> out(layers_.size(), 0);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    if (dimension_of_[i] != kFixed) out[i] = choices.at(dimension_of_[i]);
  }
  return out;
}

bool TablePair::matches(const std::vector<int>& layer_choices) const {
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (layer_choices[layers[i]] != choices[i]) return false;
  }
  return true;
}

MetricValues Table::exact(const std::vector<int>& layer_choices) const {
  MetricValues out;
  for (const std::string& name : metric_names_) out[name] = 0;
  const auto add = [&](const MetricValues& values) {
    for (const auto& [name, value] : values) out[name] += value;
  };
  add(constants_);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    add(layers_[i].choices.at(static_cast<std::size_t>(layer_choices.at(i))).metrics);
  }
  for (const TablePair& pair : pairs_) {
    if (pair.matches(layer_choices)) add(pair.metrics);
  }
  return out;
}

MetricValues Table::measure(const std::vector<int>& layer_choices, std::int64_t seed,
                            std::int64_t number) const {
  MetricValues out = exact(layer_choices);
  for (const auto& [name, share] : noise_) {
    const auto value = out.find(name);
    if (value != out.end() && share > 0) value->second *= 1 + share * normal(seed, number, name);
  }
  return out;
}

Json Simulation::to_json() const {
  Json out = {{"trials", Json::array()}, {"front", Json::array()}, {"hypervolume", hypervolume}};
  for (const SimulatedTrial& trial : trials) {
    out["trials"].push_back({{"choices", trial.choices}, {"metrics", trial.metrics}});
  }
  for (const std::size_t i : front) {
    out["front"].push_back(
        {{"trial", i}, {"choices", trials[i].choices}, {"metrics", trials[i].metrics}});
  }
  if (nearest_miss) {
    out["nearest_miss"] = {{"trial", *nearest_miss},
                           {"choices", trials[*nearest_miss].choices},
                           {"metrics", trials[*nearest_miss].metrics},
                           {"violation", least_violation}};
  }
  return out;
}

Result<Simulation> simulate(const Table& table, const SimulationOptions& options) {
  KERF_ASSIGN(const std::unique_ptr<Sampler> sampler,
              make_sampler(options.sampler, table.problem(options.seed, options.look)));
  std::vector<Direction> directions;
  for (const Objective& objective : table.objectives()) directions.push_back(objective.direction);
  FrontTracker measured(directions, table.reference());
  FrontTracker exact(directions, table.reference());
  const auto observe = [&](std::int64_t number, const Choices& choices, const MetricValues& values) {
    Observation out;
    out.number = number;
    out.choices = choices;
    for (const Objective& objective : table.objectives()) {
      out.objectives.push_back(values.at(objective.metric));
    }
    for (const Constraint& constraint : table.constraints()) {
      const double value = values.at(constraint.metric);
      if (constraint.max) out.constraints.push_back(value - *constraint.max);
      if (constraint.min) out.constraints.push_back(*constraint.min - value);
    }
    return out;
  };
  // Half a trial can't be run: what the profile leaves of the last one is lost.
  const double cost = options.look ? table.profile_cost() : 0;
  const auto budget = static_cast<std::int64_t>(
      std::floor(std::max(0.0, static_cast<double>(options.trials) - cost)));
  Simulation out;
  if (budget == 0) {
    out.notes.push_back("the profile costs " + canonical_text(cost) + " trials of " + std::to_string(options.trials) + ": none is left to measure");
  }
  while (static_cast<std::int64_t>(out.trials.size()) < budget) {
    const auto number = static_cast<std::int64_t>(out.trials.size());
    KERF_ASSIGN(const std::vector<Choices> points,
                sampler->ask(std::min(std::max<std::int64_t>(1, options.batch),
                                      budget - number)));
    if (points.empty()) break;  // nothing new is left
    for (const Choices& choices : points) {
      const auto n = static_cast<std::int64_t>(out.trials.size());
      SimulatedTrial trial;
      trial.choices = table.layer_choices(choices);
      trial.metrics = table.measure(trial.choices, options.seed, n);
      trial.observation = observe(n, choices, trial.metrics);
      KERF_TRY(sampler->tell(trial.observation));
      measured.add(trial.observation);
      exact.add(observe(n, choices, table.exact(trial.choices)));
      out.hypervolume.push_back(measured.hypervolume());
      out.exact_hypervolume.push_back(exact.hypervolume());
      out.trials.push_back(std::move(trial));
    }
  }
  std::vector<Candidate> candidates;
  for (const SimulatedTrial& trial : out.trials) {
    candidates.push_back({trial.observation.objectives, trial.observation.constraints});
  }
  Selection selection = select(candidates, directions, bound_scales(table.constraints()));
  out.front = std::move(selection.front);
  out.nearest_miss = selection.nearest_miss;
  out.least_violation = selection.least_violation;
  for (std::string& note : sampler->take_notes()) out.notes.push_back(std::move(note));
  const double sign = directions.front() == Direction::kMinimize ? 1 : -1;
  std::stable_sort(out.front.begin(), out.front.end(), [&](std::size_t a, std::size_t b) {
    return sign * candidates[a].objectives[0] < sign * candidates[b].objectives[0];
  });
  return out;
}

}  // namespace kerf::search
