#include "search/space.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "search/space_values.h"

namespace kerf::search {
namespace {

constexpr std::size_t kMaxAnchors = 8;
constexpr std::size_t kMaxGlobalPoints = 1024;  // tried by choices_of()

/// Keys of `global` that are given to the layers themselves: as defaults they would also reach
/// layers that don't support them, and say the same plan in another way.
bool goes_to_layers(const std::string& key, const Json& value) {
  return key == "weight_bits" || key == "activation_bits" || key == "rank" || key == "codebook" ||
         (key == "prune" && value.is_object());
}

/// Whether a layer can take a default for `key`, with which its plan would be this.
bool supports_default(const LayerInfo& layer, const std::string& key, const LayerPlan& plan) {
  if (key == "prune") return supports_prune(layer, plan.prune);
  if (key == "rank") return supports_rank(layer, plan.rank);
  if (key == "codebook") return plan.codebook.entries == 0 || layer.codebook;
  return has_meaning(plan) && supports_bits(layer, plan);
}

/// How far two precisions are apart: a bit's worth is relative.
double distance(const LayerPlan& a, const LayerPlan& b) {
  return std::abs(std::log2(effective_bits(a.weight_bits) / effective_bits(b.weight_bits))) +
         std::abs(std::log2(static_cast<double>(a.activation_bits) / b.activation_bits));
}

/// (weight_bits, activation_bits): the levels at which a whole network is tried.
using Level = std::pair<int, int>;

Level level_of(const LayerPlan& plan) { return {plan.weight_bits, plan.activation_bits}; }

LayerPlan plan_at(const Level& level) {
  LayerPlan plan;
  plan.weight_bits = level.first;
  plan.activation_bits = level.second;
  return plan;
}

/// Integers first, then bf16, then what only makes the weights smaller.
int urgency(const Level& level) {
  const auto [weights, activations] = level;
  if (weights == 8 && activations == 8) return 0;
  if (weights == 16) return 1;
  if (weights == 4 && activations == 8) return 2;
  if (activations <= 8) return 3;
  return weights == 4 ? 4 : 5;
}

}  // namespace

std::vector<DimensionSpec> SearchSpace::specs() const {
  std::vector<DimensionSpec> out;
  for (const Dimension& dimension : dimensions_) out.push_back(dimension.spec);
  return out;
}

Result<void> SearchSpace::check(const Choices& choices) const {
  if (choices.size() != dimensions_.size()) {
    return invalid_argument("choices: " + std::to_string(choices.size()) + " indices; expected " +
                            std::to_string(dimensions_.size()) + ", one a dimension");
  }
  for (std::size_t d = 0; d < choices.size(); ++d) {
    if (choices[d] < 0 || choices[d] >= dimensions_[d].spec.choices) {
      return invalid_argument("choices: " + dimensions_[d].spec.name + ": " +
                              std::to_string(choices[d]) + "; expected 0 to " +
                              std::to_string(dimensions_[d].spec.choices - 1));
    }
  }
  return {};
}

Json SearchSpace::plan_json(const Choices& choices) const {
  std::map<std::string, Json> chosen;
  Json global = fixed_global_;
  for (std::size_t d = 0; d < choices.size(); ++d) {
    const Dimension& dimension = dimensions_[d];
    const Json& value = dimension.values[static_cast<std::size_t>(choices[d])];
    if (dimension.kind == DimensionKind::kGlobal) {
      global.update(value);
      continue;
    }
    for (const std::string& layer : dimension.layers) {
      Json& keys = chosen.try_emplace(layer, Json::object()).first->second;
      keys.update(value);
      // An f32 layer that was chosen to be one is no layer for a global precision.
      if (dimension.kind == DimensionKind::kPrecision && !value.contains("weight_bits")) {
        keys["weight_bits"] = 32;
      }
      if (dimension.kind == DimensionKind::kPrune && value.empty()) keys["prune"] = nullptr;
      if (dimension.kind == DimensionKind::kRank && value.empty()) keys["rank"] = nullptr;
      if (dimension.kind == DimensionKind::kCodebook && value.empty()) keys["codebook"] = nullptr;
    }
  }
  Json defaults = Json::object();
  for (const auto& [key, value] : global.items()) {
    if (goes_to_layers(key, value)) defaults[key] = value;
  }
  for (const auto& [key, value] : defaults.items()) global.erase(key);

  Json layers = Json::object();
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const LayerInfo& layer = layers_[i];
    Json keys = fixed_layers_[i];
    if (const auto own = chosen.find(layer.name); own != chosen.end()) keys.update(own->second);
    for (const auto& [key, value] : defaults.items()) {
      if (keys.contains(key)) continue;
      Json extended = keys;
      extended[key] = value;
      for (const char* none : {"prune", "rank", "codebook"}) {
        if (extended.contains(none) && extended[none].is_null()) extended.erase(none);
      }
      if (supports_default(layer, key, layer_plan_of(extended))) keys[key] = value;
    }
    for (const char* none : {"prune", "rank", "codebook"}) {
      if (keys.contains(none) && keys[none].is_null()) keys.erase(none);
    }
    const LayerPlan whole = layer_plan_of(keys);
    // Signs share their values already, and a codebook has one scale for the layer.
    const bool grouped = whole.granularity.starts_with("group:");
    if (whole.weight_bits < 2 || (whole.weight_bits <= 8 && grouped)) {
      keys.erase("codebook");
    }
    // Shared values are rounded as one.
    if (keys.contains("codebook")) keys.erase("rounding");
    if (whole.weight_bits == 32) {
      for (const std::string& key : precision_keys()) keys.erase(key);
    }
    if (!keys.empty()) layers[layer.name] = std::move(keys);
  }
  // Nothing changed, nothing to recover: every such point is the baseline.
  if (layers.empty() && !(global.contains("prune") && global["prune"] != 0)) return Json::object();
  Json out = {{"layers", std::move(layers)}};
  if (!global.empty()) out["global"] = std::move(global);
  return out;
}

Result<CompressionPlan> SearchSpace::plan(const Choices& choices) const {
  KERF_TRY(check(choices));
  return CompressionPlan::parse(plan_json(choices));
}

std::string SearchSpace::fingerprint(const Choices& choices) const {
  const auto resolved = plan(choices);
  return resolved.has_value() ? resolved->canonical() : std::string();
}

Choices SearchSpace::baseline() const { return Choices(dimensions_.size(), 0); }

std::vector<Choices> SearchSpace::anchors() const {
  std::vector<Choices> out;
  std::set<std::string> seen;
  const auto add = [&](const Choices& choices) {
    if (out.size() < kMaxAnchors && seen.insert(fingerprint(choices)).second) out.push_back(choices);
  };
  std::vector<Level> levels;
  std::vector<double> strengths;  // of pruning
  std::int64_t deepest = 0;       // most values of a rank or codebook dimension
  for (const Dimension& dimension : dimensions_) {
    for (const Json& value : dimension.values) {
      const LayerPlan plan = dimension.kind == DimensionKind::kGlobal ? LayerPlan{}
                                                                      : layer_plan_of(value);
      if (dimension.kind == DimensionKind::kPrecision && plan.weight_bits != 32) {
        levels.push_back(level_of(plan));
      }
      if (plan.prune.ratio > 0) strengths.push_back(plan.prune.ratio);
    }
    if (dimension.kind == DimensionKind::kRank || dimension.kind == DimensionKind::kCodebook) {
      deepest = std::max(deepest, dimension.spec.choices);
    }
  }
  std::sort(levels.begin(), levels.end(), [](const Level& a, const Level& b) {
    return std::pair(urgency(a), b) < std::pair(urgency(b), a);
  });
  levels.erase(std::unique(levels.begin(), levels.end()), levels.end());
  std::sort(strengths.begin(), strengths.end());
  strengths.erase(std::unique(strengths.begin(), strengths.end()), strengths.end());

  // Every dimension at its value nearest to a level; what compresses less wins a tie.
  const auto nearest = [&](const Dimension& dimension, const auto& cost) {
    int best = 0;
    double least = std::numeric_limits<double>::infinity();
    for (std::size_t v = 0; v < dimension.values.size(); ++v) {
      const double value_cost = cost(layer_plan_of(dimension.values[v]));
      if (value_cost < least) {
        least = value_cost;
        best = static_cast<int>(v);
      }
    }
    return best;
  };
  const auto uniform = [&](const Level& level, double prune) {
    Choices choices = baseline();
    for (std::size_t d = 0; d < dimensions_.size(); ++d) {
      if (dimensions_[d].kind == DimensionKind::kPrecision) {
        choices[d] = nearest(dimensions_[d], [&](const LayerPlan& plan) {
          return distance(plan, plan_at(level));
        });
      } else if (dimensions_[d].kind == DimensionKind::kPrune) {
        choices[d] = nearest(dimensions_[d], [&](const LayerPlan& plan) {
          return std::abs(plan.prune.ratio - prune);
        });
      }
    }
    return choices;
  };

  add(baseline());
  const Level first = levels.empty() ? Level{32, 32} : levels.front();
  add(uniform(first, 0));
  for (std::size_t k = 0; k < strengths.size() && k < 3; ++k) add(uniform(first, strengths[k]));
  for (std::size_t k = 1; k < levels.size() && out.size() + 1 < kMaxAnchors; ++k) {
    add(uniform(levels[k], 0));
  }
  if (deepest > 0) {
    Choices choices = uniform(first, 0);
    for (std::size_t d = 0; d < dimensions_.size(); ++d) {
      const DimensionKind kind = dimensions_[d].kind;
      if (kind == DimensionKind::kRank || kind == DimensionKind::kCodebook) {
        choices[d] = static_cast<int>(dimensions_[d].spec.choices / 2);
      }
    }
    add(choices);
  }
  // Room that is left goes to the global settings, one at a time.
  for (std::size_t d = 0; d < dimensions_.size(); ++d) {
    if (dimensions_[d].kind != DimensionKind::kGlobal) continue;
    for (int v = 1; v < dimensions_[d].spec.choices; ++v) {
      Choices choices = uniform(first, 0);
      choices[d] = v;
      add(choices);
    }
  }
  return out;
}

std::optional<Choices> SearchSpace::choices_of(const CompressionPlan& plan) const {
  const std::string wanted = plan.canonical();
  Choices choices = baseline();
  std::vector<std::size_t> globals;
  for (std::size_t d = 0; d < dimensions_.size(); ++d) {
    const Dimension& dimension = dimensions_[d];
    if (dimension.kind == DimensionKind::kGlobal) {
      globals.push_back(d);
      continue;
    }
    // All layers of a dimension say the same, so the first speaks for all; the fingerprint decides.
    const LayerPlan target = plan.layer(dimension.layers.front());
    for (std::size_t v = 0; v < dimension.values.size(); ++v) {
      LayerPlan probe = target;
      const Json& keys = dimension.values[v];
      if (dimension.kind == DimensionKind::kPrecision) {
        const LayerPlan value = layer_plan_of(keys);
        if (level_of(value) != level_of(target)) continue;
        for (const auto& [key, setting] : keys.items()) {
          (void)apply_layer_key(key, setting, "space", probe).has_value();
        }
      } else {
        const LayerPlan value = layer_plan_of(keys);
        if (dimension.kind == DimensionKind::kPrune) probe.prune = value.prune;
        if (dimension.kind == DimensionKind::kRank) probe.rank = value.rank;
        if (dimension.kind == DimensionKind::kCodebook) probe.codebook = value.codebook;
        if (keys.empty() && target.prune.ratio <= 0) probe.prune = target.prune;
        if (keys.empty() && !target.rank.factorizes()) probe.rank = target.rank;
      }
      if (probe == target) {
        choices[d] = static_cast<int>(v);
        break;
      }
    }
  }
  // Global settings interact with the layers' (defaults): the few points of them are tried.
  for (std::size_t tried = 0; tried < kMaxGlobalPoints; ++tried) {
    if (fingerprint(choices) == wanted) return choices;
    std::size_t g = 0;
    while (g < globals.size()) {
      const std::size_t d = globals[g];
      if (++choices[d] < dimensions_[d].spec.choices) break;
      choices[d] = 0;
      ++g;
    }
    if (g == globals.size()) break;
  }
  return std::nullopt;
}

double SearchSpace::log10_size() const {
  double sum = 0;
  for (const Dimension& dimension : dimensions_) {
    sum += std::log10(static_cast<double>(dimension.spec.choices));
  }
  return sum;
}

Json SearchSpace::to_json() const {
  Json out = Json::array();
  for (const Dimension& dimension : dimensions_) {
    out.push_back({{"name", dimension.spec.name},
                   {"layers", dimension.layers},
                   {"ordered", dimension.spec.ordered},
                   {"values", dimension.values}});
  }
  return out;
}

}  // namespace kerf::search
