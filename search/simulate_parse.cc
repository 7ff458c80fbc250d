#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>

#include "core/plan.h"
#include "search/simulate.h"

namespace kerf::search {
namespace {

// Sums below this leave room for a hypervolume of four objectives, and for squares.
constexpr double kLargest = 1e75;
constexpr double kMostSigmas = 9;  // that the noise's normal numbers reach

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
      if (!value.is_number() && !value.is_string()) return expected(where + "." + key, value, "a number of bits, or \"ternary\"");
      if (value.is_number()) out.weight_bits = value.get<double>();
    } else if (value.is_number() && !is_plan_key(key)) {
      KERF_ASSIGN(out.metrics[key], number_of(value, where + "." + key));
    }
  }
  return out;
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
  if (document.contains("name") && !document["name"].is_string()) {
    return expected("table.name", document["name"], "a text");
  }
  KERF_TRY(table.check_metrics(document));
  KERF_TRY(table.parse_reference(document));
  KERF_TRY(table.check_sizes());
  return table;
}

// A name that nothing has is a slip, and a number that is left out by mistake would make its choice look free.
Result<void> Table::check_metrics(const Json& document) {
  std::set<std::string> decided;
  for (const TableLayer& layer : layers_) {
    for (const TableChoice& choice : layer.choices) {
      for (const auto& [name, value] : choice.metrics) decided.insert(name);
    }
  }
  std::set<std::string> names = decided;
  for (const auto& [name, value] : constants_) names.insert(name);
  metric_names_.assign(names.begin(), names.end());
  const auto check = [&](const MetricValues& values, const std::string& where) -> Result<void> {
    for (const auto& [name, value] : values) {
      if (!names.contains(name)) return unknown_metric(where + "." + name);
    }
    return {};
  };
  KERF_TRY(check(noise_, "table.noise"));
  for (std::size_t p = 0; p < pairs_.size(); ++p) {
    const std::string where = "table.pairs[" + std::to_string(p) + "]";
    KERF_TRY(check(pairs_[p].metrics, where));
    KERF_TRY(check(pairs_[p].profile, where + ".profile"));
    for (const auto& [name, value] : pairs_[p].metrics) decided.insert(name);
  }
  std::set<std::string> asked;
  for (std::size_t i = 0; i < objectives_.size(); ++i) {
    const std::string& metric = objectives_[i].metric;
    asked.insert(metric);
    if (decided.contains(metric)) continue;
    return expected("table.objectives[" + std::to_string(i) + "].metric", metric, "a metric that choices or pairs have");
  }
  for (std::size_t i = 0; i < constraints_.size(); ++i) {
    const std::string& metric = constraints_[i].metric;
    asked.insert(metric);
    if (names.contains(metric)) continue;
    return unknown_metric("table.constraints[" + std::to_string(i) + "].metric: \"" + metric + "\"");
  }
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const TableLayer& layer = layers_[i];
    for (std::size_t k = 0; k < layer.choices.size(); ++k) {
      const std::string where = "table.layers[" + std::to_string(i) + "].choices[" + std::to_string(k) + "]";
      const Json& written = document["layers"][i]["choices"][k];
      KERF_TRY(check(layer.choices[k].profile, where + ".profile"));
      for (const std::string& metric : asked) {
        const auto has = [&](const TableChoice& choice) { return choice.metrics.contains(metric); };
        if (has(layer.choices[k])) continue;
        if (written.contains(metric)) return expected(where + "." + metric, written[metric], "a finite number");
        if (std::none_of(layer.choices.begin(), layer.choices.end(), has)) continue;
        return invalid_argument(where + ": no \"" + metric + "\"; expected it, as other choices of layer " + layer.name + " have it");
      }
    }
  }
  return {};
}

Error Table::unknown_metric(const std::string& where) const {
  std::string list;
  for (const std::string& name : metric_names_) list += " " + name;
  return invalid_argument(where + "; expected a metric that choices or constants have:" + list);
}

// No sum, no noise and no hypervolume that overflows.
Result<void> Table::check_sizes() const {
  const auto size_in = [](const MetricValues& values, const std::string& name) {
    const auto found = values.find(name);
    return found == values.end() ? 0.0 : std::abs(found->second);
  };
  for (const std::string& name : metric_names_) {
    double most = size_in(constants_, name);
    for (const TableLayer& layer : layers_) {
      double largest = 0;
      for (const TableChoice& choice : layer.choices) {
        largest = std::max({largest, size_in(choice.metrics, name), size_in(choice.profile, name)});
      }
      most += largest;
    }
    for (const TablePair& pair : pairs_) most += std::max(size_in(pair.metrics, name), size_in(pair.profile, name));
    most *= 1 + kMostSigmas * size_in(noise_, name);
    if (most <= kLargest) continue;
    return invalid_argument("table: \"" + name + "\" adds up to as much as " + canonical_text(most) + "; expected at most 1e+75");
  }
  return {};
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
    for (const Objective& other : objectives_) {
      if (other.metric == metric) return expected(where + ".metric", metric, "a metric that is not an objective already");
    }
    objectives_.push_back({metric.get<std::string>(), *parsed});
  }
  const Json constraints = document.value("constraints", Json::array());
  if (!constraints.is_array()) return expected("table.constraints", constraints, "an array");
  for (std::size_t i = 0; i < constraints.size(); ++i) {
    const std::string where = "table.constraints[" + std::to_string(i) + "]";
    KERF_TRY(check_keys(constraints[i], where, {"metric", "max", "min"}));
    const Json metric = constraints[i].value("metric", Json());
    if (!metric.is_string()) return expected(where + ".metric", metric, "a text");
    KERF_ASSIGN(Constraint constraint, constraint_of(metric.get<std::string>(), constraints[i], where));
    constraints_.push_back(std::move(constraint));
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
                                layers_[index].name + " have different numbers of choices; expected as many");
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
      if (std::find(pair.layers.begin(), pair.layers.end(), layer) != pair.layers.end()) {
        return expected(where + ".layers", one["layers"][side], "each layer once");
      }
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
  for (const auto& [name, value] : given) {
    const std::string where = "table.reference." + name;
    if (std::find(metric_names_.begin(), metric_names_.end(), name) == metric_names_.end()) return unknown_metric(where);
    if (std::abs(value) > kLargest) return expected(where, value, "at most 1e+75");
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

}  // namespace kerf::search
