#include "search/space_values.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

namespace kerf::search {
namespace {

constexpr std::size_t kMaxCombinations = 4096;

Json bits_json(int bits) { return bits == kTernaryBits ? Json("ternary") : Json(bits); }

bool contains(const std::vector<Json>& list, const Json& value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

bool supports_granularity(const LayerInfo& layer, const std::string& granularity) {
  const std::string listed = granularity.starts_with("group:") ? "group:N" : granularity;
  return std::find(layer.granularities.begin(), layer.granularities.end(), listed) !=
         layer.granularities.end();
}

/// The keys that say the same with nothing superfluous; equal meaning, equal text.
Json reduced_precision(const Json& keys) {
  LayerPlan plan = layer_plan_of(keys);
  if (plan.weight_bits == 32) return Json::object();
  if (plan.weight_bits == 16) return {{"weight_bits", 16}};
  Json out = keys;
  out["weight_bits"] = bits_json(plan.weight_bits);
  out["activation_bits"] = plan.activation_bits;
  if (plan.activation_bits == 32) out.erase("activation_range");
  if (out.contains("range") && out.value("weight_range", "") == weight_range_of(plan.range)) {
    out.erase("weight_range");
  }
  // Ranges of activations that aren't quantized decide the weights' range only.
  if (plan.activation_bits == 32 && out.contains("range") && out.contains("weight_range")) {
    out["range"] = plan.weight_range;
    out.erase("weight_range");
  }
  return out;
}

Json reduced_single(const std::string& key, const LayerPlan& plan) {
  if (key == "prune") {
    if (plan.prune.ratio <= 0) return Json::object();
    Json value = {{"structure", plan.prune.structure}, {"ratio", plan.prune.ratio}};
    if (plan.prune.score != PruneSpec{}.score) value["score"] = plan.prune.score;
    return {{"prune", value}};
  }
  if (key == "rank") {
    if (!plan.rank.factorizes()) return Json::object();
    Json value = {{"form", plan.rank.form}};
    value[plan.rank.energy > 0 ? "energy" : "share"] =
        plan.rank.energy > 0 ? plan.rank.energy : plan.rank.share;
    if (plan.rank.data_aware) value["data_aware"] = true;
    return {{"rank", value}};
  }
  if (plan.codebook.entries == 0) return Json::object();
  return {{"codebook", {{"entries", plan.codebook.entries}, {"init", plan.codebook.init}}}};
}

/// How much a prune, rank or codebook takes away; larger is more.
double strength(const LayerPlan& plan) {
  if (plan.prune.ratio > 0) return plan.prune.ratio;
  if (plan.rank.energy > 0) return 1 - plan.rank.energy;
  if (plan.rank.share < 1) return 1 - plan.rank.share;
  return plan.codebook.entries > 0 ? 1.0 / plan.codebook.entries : 0;
}

void merge_equal(std::vector<Json>& values) {
  std::set<std::string> seen;
  std::erase_if(values, [&](const Json& value) { return !seen.insert(canonical_text(value)).second; });
}

}  // namespace

const std::vector<std::string>& precision_keys() {
  static const std::vector<std::string> keys = {"weight_bits", "activation_bits", "activation_range",
                                                "granularity", "symmetric",       "range",
                                                "weight_range", "rounding"};
  return keys;
}

bool has_meaning(const LayerPlan& plan) {
  if (plan.weight_bits >= 16) return true;
  const bool signs = plan.weight_bits == 1 || plan.weight_bits == kTernaryBits;
  const bool grouped = plan.granularity.starts_with("group:");
  if (grouped && (signs || plan.activation_bits <= 8)) return false;
  if (signs && plan.rounding != "nearest") return false;
  if (signs && !plan.symmetric && plan.activation_bits > 8) return false;
  if (plan.activation_bits == 16) return signs;
  if (plan.activation_bits == 1) return signs && plan.activation_range == "static";
  return true;
}

double effective_bits(int weight_bits) { return weight_bits == kTernaryBits ? 1.58 : weight_bits; }

LayerPlan layer_plan_of(const Json& keys) {
  LayerPlan plan;
  for (const auto& [key, value] : keys.items()) {
    (void)apply_layer_key(key, value, "space", plan).has_value();
  }
  if (!keys.contains("weight_range")) plan.weight_range = weight_range_of(plan.range);
  if (plan.weight_bits == 16) plan.activation_bits = 16;
  if (plan.weight_bits == 32) plan.activation_bits = 32;
  return plan;
}

bool supports_bits(const LayerInfo& layer, const LayerPlan& plan) {
  if (plan.weight_bits == 32) return true;
  if (!contains(layer.weight_bits, bits_json(plan.weight_bits))) return false;
  // bf16 stands for both sides and is listed with the weights.
  if (plan.weight_bits == 16) return true;
  // A layer without a list is one that was described before there was a choice.
  if (!layer.granularities.empty() && !supports_granularity(layer, plan.granularity)) return false;
  return contains(layer.activation_bits, plan.activation_bits);
}

bool supports_prune(const LayerInfo& layer, const PruneSpec& prune) {
  if (prune.ratio <= 0) return true;
  // Some scores speak of whole channels only, one of single weights only.
  const bool channel = prune.structure == "channel";
  if (channel ? prune.score == "wanda" : prune.score == "bn" || prune.score == "apoz" || prune.score == "mean_output") {
    return false;
  }
  const auto& scores = layer.prune_scores;
  if (!scores.empty() && std::find(scores.begin(), scores.end(), prune.score) == scores.end()) {
    return false;
  }
  const auto& structures = layer.prune_structures;
  const auto listed = [&](std::string_view name) {
    return std::find(structures.begin(), structures.end(), name) != structures.end();
  };
  if (prune.structure == "channel") return listed("channel") && !layer.prune_group.empty();
  const auto is_block = [](std::string_view name) { return name.find(':') != std::string_view::npos; };
  if (is_block(prune.structure)) return std::any_of(structures.begin(), structures.end(), is_block);
  return listed(prune.structure);
}

bool supports_rank(const LayerInfo& layer, const RankSpec& rank) {
  // A model that was inspected before factors were listed says nothing of them.
  if (!rank.factorizes() || !layer.rank_forms) return true;
  const auto& forms = *layer.rank_forms;
  return std::find(forms.begin(), forms.end(), rank.form) != forms.end();
}

bool supports_rounding(const LayerInfo& layer, const LayerPlan& plan) {
  // A model that was inspected before rounding was listed says nothing of it.
  return plan.weight_bits > 8 || plan.rounding == "nearest" || layer.roundings.empty() ||
         std::find(layer.roundings.begin(), layer.roundings.end(), plan.rounding) !=
             layer.roundings.end();
}

Result<std::vector<Json>> precision_values(const LayerChoices& choices, const LayerInfo& layer) {
  std::vector<Json> combinations = {Json::object()};
  for (const std::string& key : precision_keys()) {
    const auto given = choices.find(key);
    if (given == choices.end()) continue;
    if (combinations.size() * given->second.size() > kMaxCombinations) {
      return invalid_argument("space: layer " + layer.name + " has more than " +
                              std::to_string(kMaxCombinations) +
                              " combinations of precision; expected fewer values a key");
    }
    std::vector<Json> extended;
    for (const Json& base : combinations) {
      for (const Json& value : given->second) {
        extended.push_back(base);
        extended.back()[key] = value;
      }
    }
    combinations = std::move(extended);
  }
  std::vector<Json> values;
  for (const Json& keys : combinations) {
    const LayerPlan plan = layer_plan_of(keys);
    if (has_meaning(plan) && supports_bits(layer, plan) && supports_rounding(layer, plan)) values.push_back(reduced_precision(keys));
  }
  merge_equal(values);
  std::stable_sort(values.begin(), values.end(), [](const Json& a, const Json& b) {
    const LayerPlan left = layer_plan_of(a);
    const LayerPlan right = layer_plan_of(b);
    const double left_bits = effective_bits(left.weight_bits);
    const double right_bits = effective_bits(right.weight_bits);
    return left_bits != right_bits ? left_bits > right_bits
                                   : left.activation_bits > right.activation_bits;
  });
  return values;
}

std::vector<Json> single_key_values(const std::string& key, const LayerChoices& choices,
                                    const LayerInfo& layer) {
  const auto given = choices.find(key);
  if (given == choices.end()) return {Json::object()};
  std::vector<Json> values;
  for (const Json& value : given->second) {
    const LayerPlan plan = layer_plan_of(Json{{key, value}});
    if (key == "prune" && !supports_prune(layer, plan.prune)) continue;
    if (key == "rank" && !supports_rank(layer, plan.rank)) continue;
    if (key == "codebook" && plan.codebook.entries > 0 && !layer.codebook) continue;
    values.push_back(reduced_single(key, plan));
  }
  merge_equal(values);
  std::stable_sort(values.begin(), values.end(), [](const Json& a, const Json& b) {
    return strength(layer_plan_of(a)) < strength(layer_plan_of(b));
  });
  return values;
}

bool is_chain(const std::vector<Json>& precisions) {
  const auto others = [](LayerPlan plan) {
    plan.weight_bits = 8;
    plan.activation_bits = 8;
    return plan;
  };
  std::optional<LayerPlan> before;
  for (const Json& keys : precisions) {
    const LayerPlan plan = layer_plan_of(keys);
    if (before) {
      if (plan.activation_bits > before->activation_bits) return false;
      const bool integers_before = before->weight_bits <= 8;
      if (integers_before && others(plan) != others(*before)) return false;
    }
    before = plan;
  }
  return true;
}

}  // namespace kerf::search
