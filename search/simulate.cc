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

constexpr std::size_t kFixed = std::numeric_limits<std::size_t>::max();
constexpr std::size_t kMaxAnchors = 8;

Error expected(const std::string& where, const Json& value, const std::string& expectation) {
  return invalid_argument(where + ": " + canonical_text(value).substr(0, 80) + "; expected " +
                          expectation);
}

Result<double> number_of(const Json& value, const std::string& where) {
  if (value.is_number() && std::isfinite(value.get<double>())) return value.get<double>();
  return expected(where, value, "a finite number");
}

Result<MetricValues> metrics_of(const Json& object, const std::string& where) {
  MetricValues out;
  if (!object.is_object()) return expected(where, object, "an object of numbers");
  for (const auto& [name, value] : object.items()) {
    KERF_ASSIGN(out[name], number_of(value, where + "." + name));
  }
  return out;
}

bool is_plan_key(const std::string& key) {
  const auto& keys = layer_keys();
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

/// A choice's numbers: metrics, but for the keys that say what the choice is.
Result<TableChoice> parse_choice(const Json& document, const std::string& where) {
  TableChoice out;
  if (!document.is_object()) return expected(where, document, "an object of metrics");
  for (const auto& [key, value] : document.items()) {
    if (key == "profile") {
      KERF_ASSIGN(out.profile, metrics_of(value, where + ".profile"));
    } else if (key == "weight_bits") {
      if (value.is_number()) out.weight_bits = value.get<double>();
    } else if (value.is_number() && !is_plan_key(key)) {
      KERF_ASSIGN(out.metrics[key], number_of(value, where + "." + key));
    }
  }
  return out;
}

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

Result<Table> Table::parse(const Json& document) {
  Table table;
  KERF_TRY(check_keys(document, "table",
                      {"objectives", "constraints", "layers", "ties", "constants", "pairs", "noise",
                       "reference", "profile_cost", "name"}));
  KERF_TRY(table.parse_layers(document));
  KERF_TRY(table.parse_goals(document));
  KERF_TRY(table.parse_ties(document));
  KERF_TRY(table.parse_pairs(document));
  if (document.contains("constants")) {
    KERF_ASSIGN(table.constants_, metrics_of(document["constants"], "table.constants"));
  }
  if (document.contains("noise")) {
    KERF_ASSIGN(table.noise_, metrics_of(document["noise"], "table.noise"));
    for (const auto& [name, share] : table.noise_) {
      if (share < 0) return expected("table.noise." + name, share, "a share of 0 or more");
    }
  }
  if (document.contains("profile_cost")) {
    KERF_ASSIGN(table.profile_cost_, number_of(document["profile_cost"], "table.profile_cost"));
    if (table.profile_cost_ < 0) {
      return expected("table.profile_cost", document["profile_cost"], "0 or more trials");
    }
  }
  std::set<std::string> names;
  for (const TableLayer& layer : table.layers_) {
    for (const TableChoice& choice : layer.choices) {
      for (const auto& [name, value] : choice.metrics) names.insert(name);
    }
  }
  for (const auto& [name, value] : table.constants_) names.insert(name);
  for (const Objective& objective : table.objectives_) {
    if (names.contains(objective.metric)) continue;
    return invalid_argument("table.objectives: no choice and no constant has \"" +
                            objective.metric + "\"");
  }
  for (const Constraint& constraint : table.constraints_) {
    if (names.contains(constraint.metric)) continue;
    return invalid_argument("table.constraints: no choice and no constant has \"" +
                            constraint.metric + "\"");
  }
  table.metric_names_.assign(names.begin(), names.end());
  KERF_TRY(table.parse_reference(document));
  return table;
}

Result<void> Table::parse_layers(const Json& document) {
  const Json layers = document.value("layers", Json());
  if (!layers.is_array() || layers.empty()) {
    return expected("table.layers", layers, "an array of layers with choices");
  }
  std::set<std::string> names;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const std::string where = "table.layers[" + std::to_string(i) + "]";
    const Json& one = layers[i];
    KERF_TRY(check_keys(one, where, {"name", "choices"}));
    TableLayer layer;
    if (!one.contains("name") || !one["name"].is_string()) {
      return expected(where + ".name", one.value("name", Json()), "a text");
    }
    layer.name = one["name"].get<std::string>();
    if (!names.insert(layer.name).second) {
      return expected(where + ".name", one["name"], "a name that no other layer has");
    }
    const Json choices = one.value("choices", Json());
    if (!choices.is_array() || choices.empty() || choices.size() > 4096) {
      return expected(where + ".choices", choices, "an array of one to 4096 choices");
    }
    for (std::size_t k = 0; k < choices.size(); ++k) {
      KERF_ASSIGN(TableChoice choice,
                  parse_choice(choices[k], where + ".choices[" + std::to_string(k) + "]"));
      layer.choices.push_back(std::move(choice));
    }
    layers_.push_back(std::move(layer));
  }
  return {};
}

Result<void> Table::parse_goals(const Json& document) {
  const Json objectives = document.value("objectives", Json());
  if (!objectives.is_array() || objectives.empty() || objectives.size() > 4) {
    return expected("table.objectives", objectives, "an array of one to four objectives");
  }
  for (std::size_t i = 0; i < objectives.size(); ++i) {
    const std::string where = "table.objectives[" + std::to_string(i) + "]";
    KERF_TRY(check_keys(objectives[i], where, {"metric", "direction"}));
    const Json metric = objectives[i].value("metric", Json());
    const Json direction = objectives[i].value("direction", Json("minimize"));
    if (!metric.is_string()) return expected(where + ".metric", metric, "a text");
    const auto parsed = direction.is_string() ? direction_from_string(direction.get<std::string>())
                                              : std::nullopt;
    if (!parsed) return expected(where + ".direction", direction, "\"minimize\" or \"maximize\"");
    objectives_.push_back({metric.get<std::string>(), *parsed});
  }
  const Json constraints = document.value("constraints", Json::array());
  if (!constraints.is_array()) return expected("table.constraints", constraints, "an array");
  for (std::size_t i = 0; i < constraints.size(); ++i) {
    const std::string where = "table.constraints[" + std::to_string(i) + "]";
    KERF_TRY(check_keys(constraints[i], where, {"metric", "max", "min"}));
    const Json metric = constraints[i].value("metric", Json());
    if (!metric.is_string()) return expected(where + ".metric", metric, "a text");
    Constraint constraint{metric.get<std::string>(), std::nullopt, std::nullopt};
    if (constraints[i].contains("max")) {
      KERF_ASSIGN(constraint.max, number_of(constraints[i]["max"], where + ".max"));
    }
    if (constraints[i].contains("min")) {
      KERF_ASSIGN(constraint.min, number_of(constraints[i]["min"], where + ".min"));
    }
    if (!constraint.max && !constraint.min) {
      return invalid_argument(where + ": neither \"max\" nor \"min\"; expected one of them");
    }
    constraints_.push_back(std::move(constraint));
  }
  // A number that is left out by mistake would make its choice look free.
  for (const Objective& objective : objectives_) {
    for (const TableLayer& layer : layers_) {
      const auto has = [&](const TableChoice& c) { return c.metrics.contains(objective.metric); };
      const bool any = std::any_of(layer.choices.begin(), layer.choices.end(), has);
      const bool all = std::all_of(layer.choices.begin(), layer.choices.end(), has);
      if (any && !all) {
        return invalid_argument("table: some choices of layer " + layer.name + " have \"" +
                                objective.metric + "\" and others don't; expected all or none");
      }
    }
  }
  return {};
}

Result<std::size_t> Table::layer_index(const Json& name, const std::string& where) const {
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    if (name == layers_[i].name) return i;
  }
  return expected(where, name, "the name of a layer of the table");
}

Result<void> Table::parse_ties(const Json& document) {
  std::vector<std::size_t> leader(layers_.size());
  for (std::size_t i = 0; i < leader.size(); ++i) leader[i] = i;
  const Json ties = document.value("ties", Json::array());
  if (!ties.is_array()) return expected("table.ties", ties, "an array of arrays of layer names");
  for (const Json& tie : ties) {
    if (!tie.is_array()) return expected("table.ties", tie, "an array of layer names");
    std::optional<std::size_t> first;
    for (const Json& name : tie) {
      KERF_ASSIGN(const std::size_t index, layer_index(name, "table.ties"));
      if (!first) first = index;
      if (layers_[index].choices.size() != layers_[*first].choices.size()) {
        return invalid_argument("table.ties: layers " + layers_[*first].name + " and " +
                                layers_[index].name + " have different numbers of choices");
      }
      const std::size_t from = std::max(leader[index], leader[*first]);
      const std::size_t to = std::min(leader[index], leader[*first]);
      std::replace(leader.begin(), leader.end(), from, to);
    }
  }
  dimension_of_.assign(layers_.size(), kFixed);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    if (layers_[i].choices.size() == 1) continue;
    dimension_of_[i] = leader[i] == i ? dimensions_++ : dimension_of_[leader[i]];
  }
  return {};
}

Result<void> Table::parse_pairs(const Json& document) {
  const Json pairs = document.value("pairs", Json::array());
  if (!pairs.is_array()) return expected("table.pairs", pairs, "an array of pairs");
  for (std::size_t p = 0; p < pairs.size(); ++p) {
    const std::string where = "table.pairs[" + std::to_string(p) + "]";
    Json one = pairs[p];
    if (!one.is_object() || !one.contains("layers") || !one["layers"].is_array() ||
        one["layers"].size() < 2 || !one.contains("choices") || !one["choices"].is_array() ||
        one["choices"].size() != one["layers"].size()) {
      return expected(where, one, "an object with two \"layers\" (or more) and as many \"choices\"");
    }
    TablePair pair;
    for (std::size_t side = 0; side < one["layers"].size(); ++side) {
      KERF_ASSIGN(const std::size_t layer, layer_index(one["layers"][side], where + ".layers"));
      const Json& value = one["choices"][side];
      const auto count = static_cast<std::int64_t>(layers_[layer].choices.size());
      if (!value.is_number_integer() || value.get<std::int64_t>() < 0 ||
          value.get<std::int64_t>() >= count) {
        return expected(where + ".choices", value, "an index of a choice of " + layers_[layer].name);
      }
      pair.layers.push_back(layer);
      pair.choices.push_back(value.get<int>());
    }
    if (one.contains("profile")) {
      KERF_ASSIGN(pair.profile, metrics_of(one["profile"], where + ".profile"));
    }
    one.erase("layers");
    one.erase("choices");
    one.erase("profile");
    KERF_ASSIGN(pair.metrics, metrics_of(one, where));
    pairs_.push_back(std::move(pair));
  }
  return {};
}

Result<void> Table::parse_reference(const Json& document) {
  MetricValues given;
  if (document.contains("reference")) {
    KERF_ASSIGN(given, metrics_of(document["reference"], "table.reference"));
  }
  for (const Objective& objective : objectives_) {
    if (const auto value = given.find(objective.metric); value != given.end()) {
      reference_.push_back(value->second);
      continue;
    }
    if (document.contains("reference")) {
      return invalid_argument("table.reference: no \"" + objective.metric +
                              "\"; expected a value for each objective");
    }
    // The worst that layers, one by one, and pairs can add up to, and a tenth of its size.
    const double sign = objective.direction == Direction::kMinimize ? 1 : -1;
    const auto value_in = [&](const MetricValues& values) {
      const auto found = values.find(objective.metric);
      return found == values.end() ? 0.0 : found->second;
    };
    double worst = value_in(constants_);
    for (const TableLayer& layer : layers_) {
      double most = -std::numeric_limits<double>::infinity();
      for (const TableChoice& choice : layer.choices) {
        most = std::max(most, sign * value_in(choice.metrics));
      }
      worst += sign * most;
    }
    for (const TablePair& pair : pairs_) {
      worst += sign * std::max(0.0, sign * value_in(pair.metrics));
    }
    reference_.push_back(worst + sign * (worst == 0 ? 1.0 : 0.1 * std::abs(worst)));
  }
  return {};
}

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
  out.notes = sampler->take_notes();
  const double sign = directions.front() == Direction::kMinimize ? 1 : -1;
  std::stable_sort(out.front.begin(), out.front.end(), [&](std::size_t a, std::size_t b) {
    return sign * candidates[a].objectives[0] < sign * candidates[b].objectives[0];
  });
  return out;
}

}  // namespace kerf::search
