#include "scheduler/profile_plan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "core/metric.h"
#include "core/plan.h"
#include "core/sha256.h"
#include "scheduler/profile_looks.h"

namespace kerf::scheduler {

using search::DimensionKind;

namespace {

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
constexpr int kArithmetic = 2;            // of looks: those of another one aren't these
constexpr int kMostKinds = 4;             // of activations that are paired
constexpr double kNoiseShare = 0.03;      // of a layer's time: less isn't a change

/// What a layer of these keys reads: values of one kind need nothing between them.
int kind_of(const Json& keys) {
  const auto plan = CompressionPlan::parse({{"layers", {{"layer", keys}}}});
  if (!plan.has_value()) return 32;
  const LayerPlan layer = plan->layer("layer");
  if (layer.weight_bits == 16) return 16;
  if (layer.weight_bits > 16 || layer.activation_bits > 16) return 32;
  return layer.activation_bits + (layer.activation_range == "dynamic" ? 100 : 0);
}

bool trains(const Json& value) {
  const std::string text = canonical_text(value);
  return text.find("distill") != std::string::npos || text.find("reconstruct") != std::string::npos ||
         text.find("batch_norm") != std::string::npos;
}

bool changes_structure(const std::string& key) {
  return key == "prune" || key == "rank" || key == "codebook" || key == "weight_bits" ||
         key == "activation_bits";
}

Json with_global(Json layers, const Json& global) {
  if (layers.empty()) return Json::object();
  Json plan = {{"layers", std::move(layers)}};
  if (!global.empty()) plan["global"] = global;
  return plan;
}

}  // namespace

std::string ProfilePlan::want(std::vector<Want>& list, const char* what, const Json& plan) {
  const auto parsed = CompressionPlan::parse(plan);
  if (!parsed.has_value()) return "";
  const Json identity = {what, kArithmetic, identities_[what], parsed->canonical()};
  std::string key = sha256_hex(canonical_text(identity));
  const bool known = std::any_of(list.begin(), list.end(), [&](const Want& one) { return one.key == key; });
  if (!known) list.push_back({key, plan});
  return key;
}

ProfilePlan ProfilePlan::make(const StudyDefinition& study, const search::SearchSpace& space,
                              const HardwareFingerprint& hardware) {
  ProfilePlan out;
  const std::string calibration = !study.data.single.empty()        ? study.data.single
                                  : !study.data.calibration.empty() ? study.data.calibration
                                                                    : study.data.evaluation;
  for (const Objective& objective : study.objectives) {
    out.metrics_.push_back(objective.metric);
    out.signs_.push_back(1);
  }
  for (const Constraint& constraint : study.constraints) {
    if (constraint.max) {
      out.metrics_.push_back(constraint.metric);
      out.signs_.push_back(1);
    }
    if (constraint.min) {
      out.metrics_.push_back(constraint.metric);
      out.signs_.push_back(-1);
    }
  }
  for (const std::string& metric : out.metrics_) {
    const MetricInfo* info = find_metric(metric);
    out.timed_ = out.timed_ || (info != nullptr && info->needs_latency);
    out.regression_ = out.regression_ || metric == "mae" || metric == "rmse" || metric == "sqnr_db";
  }
  // What is computed depends on the instruction set and the library, not on how fast they are.
  Json& damage = out.identities_["damage"];
  damage = {{"model", study.model},
                          {"data", calibration},
                          {"preprocess", study.preprocess ? study.preprocess->to_json() : Json()},
                          {"samples", kSamples},
                          {"isa", hardware.isa},
                          {"onednn", hardware.onednn_version}};
  out.identities_["labels"] = damage;
  out.identities_["labels"]["samples"] = kLabelSamples;
  out.identities_["cost"] = {{"model", study.model},
                        {"hardware", hardware.id()},
                        {"threads", study.measure.threads},
                        {"batch", study.measure.batch},
                        {"timed", out.timed_}};
  out.batch_ = study.measure.batch;
  // The settings that every plan of the space has, but for recoveries.
  search::Choices last;
  for (const search::Dimension& dimension : space.dimensions()) {
    const bool global = dimension.kind == DimensionKind::kGlobal;
    last.push_back(global ? 0 : static_cast<int>(dimension.spec.choices) - 1);
  }
  if (const auto plan = space.plan(last); plan.has_value()) {
    out.global_ = plan->to_json().value("global", Json::object());
    for (const char* key : {"recovery", "distill", "prune"}) out.global_.erase(key);
  }
  out.base_key_ = out.want(out.cost_, "cost", Json::object());
  out.add_layers(space);
  out.add_globals(space);
  out.add_rounds(space);
  if (out.timed_) out.add_pairs(space);
  out.add_labels(study, space, hardware.multiplies_bf16());
  return out;
}

void ProfilePlan::add_layers(const search::SearchSpace& space) {
  std::set<std::string> seen;
  std::size_t most = 0;
  for (const search::Dimension& from : space.dimensions()) {
    Dimension dimension{from.kind, from.layers, {}};
    dimension.values.resize(from.values.size());
    most = std::max(most, from.values.size());
    if (from.kind != DimensionKind::kGlobal) {
      for (const std::string& layer : from.layers) overlap_ = !seen.insert(layer).second || overlap_;
    }
    dimensions_.push_back(std::move(dimension));
  }
  // From the last values on: where time runs short it's the mild ones that aren't looked at.
  for (std::size_t back = 1; back <= most; ++back) {
    for (std::size_t d = 0; d < dimensions_.size(); ++d) {
      const search::Dimension& from = space.dimensions()[d];
      if (from.kind == DimensionKind::kGlobal || back > from.values.size()) continue;
      const Json& keys = from.values[from.values.size() - back];
      Value& value = dimensions_[d].values[from.values.size() - back];
      value.activations = kind_of(keys);
      Json layers = Json::object();
      if (!keys.empty()) {
        for (const std::string& layer : from.layers) layers[layer] = keys;
      }
      const auto plan = CompressionPlan::parse(with_global(layers, global_));
      if (!plan.has_value() || plan->is_baseline()) continue;
      value.damage_key = want(damage_, "damage", plan->to_json());
      // What shapes it changes beyond its own only the whole model tells.
      if (from.kind == DimensionKind::kPrune) value.cost_key = want(cost_, "cost", plan->to_json());
    }
  }
}

void ProfilePlan::add_globals(const search::SearchSpace& space) {
  const std::vector<search::Choices> anchors = space.anchors();
  for (std::size_t d = 0; d < dimensions_.size(); ++d) {
    const search::Dimension& from = space.dimensions()[d];
    if (from.kind != DimensionKind::kGlobal) continue;
    const std::string key = from.spec.name.substr(from.spec.name.find('.') + 1);
    const auto plan_at = [&](int v) -> std::optional<Json> {
      if (anchors.size() < 2 || key == "distill") return std::nullopt;
      search::Choices choices = anchors[1];
      for (std::size_t g = 0; g < choices.size(); ++g) {
        if (space.dimensions()[g].kind == DimensionKind::kGlobal) choices[g] = 0;
      }
      choices[d] = v;
      const auto plan = space.plan(choices);
      if (!plan.has_value() || plan->is_baseline()) return std::nullopt;
      Json document = plan->to_json();
      if (document.contains("global")) {
        if (key == "recovery" && trains(document["global"])) return std::nullopt;
        if (key != "recovery") document["global"].erase("recovery");
        document["global"].erase("distill");
      }
      return document;
    };
    const auto before = plan_at(0);
    for (std::size_t v = 0; v < from.values.size(); ++v) {
      Value& value = dimensions_[d].values[v];
      const auto plan = before ? plan_at(static_cast<int>(v)) : std::nullopt;
      value.knowable = plan.has_value();
      if (!plan || v == 0) continue;
      value.damage_before = want(damage_, "damage", *before);
      value.damage_key = want(damage_, "damage", *plan);
      if (changes_structure(key)) value.cost_key = want(cost_, "cost", *plan);
    }
  }
}

void ProfilePlan::add_rounds(const search::SearchSpace& space) {
  for (const DimensionKind kind :
       {DimensionKind::kPrecision, DimensionKind::kRank, DimensionKind::kCodebook}) {
    bool more = true;
    for (std::size_t v = 0; more; ++v) {
      more = false;
      Json layers = Json::object();
      for (const search::Dimension& from : space.dimensions()) {
        if (from.kind != kind || v >= from.values.size()) continue;
        more = true;
        if (from.values[v].empty()) continue;
        for (const std::string& layer : from.layers) layers[layer] = from.values[v];
      }
      if (layers.empty()) continue;
      const std::string key = want(cost_, "cost", with_global(layers, global_));
      for (std::size_t d = 0; d < dimensions_.size(); ++d) {
        const search::Dimension& from = space.dimensions()[d];
        if (from.kind != kind || v >= from.values.size() || from.values[v].empty()) continue;
        dimensions_[d].values[v].cost_key = key;
        dimensions_[d].values[v].knowable = !key.empty();
      }
    }
  }
}

// Looks in which dimensions alternate between two kinds of activations.
void ProfilePlan::add_pairs(const search::SearchSpace& space) {
  std::vector<int> kinds;
  for (const Dimension& dimension : dimensions_) {
    if (dimension.kind != DimensionKind::kPrecision) continue;
    for (const Value& value : dimension.values) {
      if (std::find(kinds.begin(), kinds.end(), value.activations) == kinds.end()) {
        kinds.push_back(value.activations);
      }
    }
  }
  if (kinds.size() > static_cast<std::size_t>(kMostKinds)) kinds.resize(kMostKinds);
  // The first value of a kind stands for it.
  const auto first_of = [&](std::size_t d, int kind) -> std::optional<std::size_t> {
    for (std::size_t v = 0; v < dimensions_[d].values.size(); ++v) {
      if (dimensions_[d].values[v].activations == kind) return v;
    }
    return std::nullopt;
  };
  const auto is_precision = [&](std::size_t d) { return dimensions_[d].kind == DimensionKind::kPrecision; };
  for (const int even : kinds) {
    for (const int odd : kinds) {
      if (even == odd) continue;
      Json layers = Json::object();
      std::vector<int> at(dimensions_.size(), 0);
      std::size_t ordinal = 0;
      for (std::size_t d = 0; d < dimensions_.size(); ++d) {
        if (!is_precision(d)) continue;
        const int kind = ordinal++ % 2 == 0 ? even : odd;
        const auto v = first_of(d, kind);
        if (!v) continue;
        at[d] = kind;
        const Json& keys = space.dimensions()[d].values[*v];
        if (keys.empty()) continue;
        for (const std::string& layer : dimensions_[d].layers) layers[layer] = keys;
      }
      // What decides something else of a layer may stand between.
      std::vector<Pair> found;
      std::optional<std::size_t> before;
      for (std::size_t d = 0; d < dimensions_.size(); ++d) {
        if (!is_precision(d)) continue;
        const auto last = std::exchange(before, d);
        if (!last || at[*last] == 0 || at[d] == 0) continue;
        const std::string& like = dimensions_[d].values[*first_of(d, at[d])].cost_key;
        found.push_back({*last, d, at[*last], at[d], "", like.empty() ? base_key_ : like});
      }
      if (found.empty()) continue;
      const std::string key = want(cost_, "cost", with_global(layers, global_));
      for (Pair& pair : found) {
        pair.key = key;
        pairs_.push_back(pair);
      }
    }
  }
}

ProfilePlan::Adds ProfilePlan::adds(const Dimension& dimension, const Value& value,
                                    const Looks& looks) const {
  Adds out{0, 0, 0, 0, 0};
  if (!value.knowable) return {kUnknown, kUnknown, kUnknown, kUnknown, kUnknown};
  const auto damage_of = [this](const DamageLook& look) {
    for (const double known : {regression_ ? look.noise : look.scores, look.noise, look.kl}) {
      if (std::isfinite(known)) return known;
    }
    return look.flips;
  };
  const CostLook* base = looks.base();
  const double base_storage = base == nullptr ? kUnknown : static_cast<double>(base->storage_bytes);
  const double base_macs = base == nullptr ? kUnknown : static_cast<double>(base->macs);
  if (!value.damage_key.empty()) {
    const DamageLook* look = looks.damage(value.damage_key);
    const DamageLook* before = looks.damage(value.damage_before);
    const bool known = look != nullptr && (value.damage_before.empty() || before != nullptr);
    out.damage = known ? damage_of(*look) - (before == nullptr ? 0 : damage_of(*before)) : kUnknown;
    if (look == nullptr) {
      out.storage_bytes = out.macs = kUnknown;
    } else {
      out.storage_bytes = static_cast<double>(look->storage_bytes) -
                          (before == nullptr ? base_storage : static_cast<double>(before->storage_bytes));
      out.macs = static_cast<double>(look->macs) -
                 (before == nullptr ? base_macs : static_cast<double>(before->macs));
    }
  }
  if (value.cost_key.empty()) return out;
  const CostLook* look = looks.cost(value.cost_key);
  if (look == nullptr || base == nullptr) {
    out.us = out.weight_bytes = kUnknown;
    return out;
  }
  const bool local = dimension.kind == DimensionKind::kPrecision ||
                     dimension.kind == DimensionKind::kRank ||
                     dimension.kind == DimensionKind::kCodebook;
  for (const auto& [name, then] : base->layers) {
    const bool own = std::find(dimension.layers.begin(), dimension.layers.end(), name) != dimension.layers.end();
    if (local && !own) continue;
    const auto now = look->layers.find(name);
    if (now == look->layers.end()) continue;
    const double before_us = then.us + then.before_us;
    const double change = now->second.us + now->second.before_us - before_us;
    // Of a layer that the value doesn't reach the difference is noise.
    if (local || std::abs(change) > kNoiseShare * before_us) out.us += change;
    if (local) out.weight_bytes += static_cast<double>(now->second.weight_bytes - then.weight_bytes);
  }
  if (!local) out.weight_bytes = static_cast<double>(look->weight_bytes - base->weight_bytes);
  return out;
}

double ProfilePlan::in_metric(const std::string& metric, const Adds& adds, double base_us) const {
  const MetricInfo* info = find_metric(metric);
  if (info != nullptr && info->of_outputs) {
    return info->better == Direction::kMaximize ? 0 - adds.damage : adds.damage;
  }
  if (metric == "latency_p50_us" || metric == "latency_p90_us" || metric == "latency_p99_us") return adds.us;
  if (metric == "latency_ratio") return adds.us / base_us;
  if (metric == "throughput_sps") {
    const double samples = static_cast<double>(batch_) * 1e6;
    return samples / std::max(base_us + adds.us, 0.01 * base_us) - samples / base_us;
  }
  if (metric == "weight_bytes") return adds.weight_bytes;
  if (metric == "storage_bytes") return adds.storage_bytes;
  if (metric == "macs") return adds.macs;
  return kUnknown;
}

// Bytes are a sum over layers where each has one dimension, and all of them were looked at. What a file
// holds once and how its text shortens leave less than a hundredth of it.
bool ProfilePlan::is_exact(std::size_t metric, const Looks& looks, const search::Profile& profile) const {
  if (overlap_ || (metrics_[metric] != "weight_bytes" && metrics_[metric] != "storage_bytes")) return false;
  for (std::size_t d = 0; d < dimensions_.size(); ++d) {
    for (std::size_t v = 0; v < dimensions_[d].values.size(); ++v) {
      const double adds = profile.at(d, v, metric);
      const std::string& round = dimensions_[d].values[v].cost_key;
      if (!std::isfinite(adds) || (!round.empty() && looks.cost(round) == nullptr)) return false;
      if (dimensions_[d].kind == DimensionKind::kGlobal && adds != 0) return false;
    }
  }
  return true;
}

search::Profile ProfilePlan::profile(const std::map<std::string, Json>& documents) const {
  search::Profile out;
  const Looks looks(*this, documents);
  if (looks.empty()) return out;
  const double base_us = looks.base() == nullptr ? kUnknown : looks.base()->total_us();
  std::vector<std::vector<Adds>> all;
  for (const Dimension& dimension : dimensions_) {
    auto& values = all.emplace_back();
    for (const Value& value : dimension.values) values.push_back(adds(dimension, value, looks));
  }
  const bool each_seen = settle_storage(all, looks);
  for (const auto& dimension : all) {
    auto& values = out.alone.emplace_back();
    for (const Adds& adds_here : dimension) {
      auto& metrics = values.emplace_back();
      for (std::size_t m = 0; m < metrics_.size(); ++m) {
        metrics.push_back(signs_[m] * in_metric(metrics_[m], adds_here, base_us));
      }
    }
  }
  lean(looks, out);
  for (std::size_t m = 0; m < metrics_.size(); ++m) {
    out.exact.push_back(is_exact(m, looks, out) && (each_seen || metrics_[m] != "storage_bytes"));
  }
  // What stands before a layer of one kind, behind one of another.
  std::map<std::size_t, std::vector<const Pair*>> by_first;
  for (const Pair& pair : pairs_) by_first[pair.first].push_back(&pair);
  for (const auto& [first, pairs] : by_first) {
    const Dimension& left = dimensions_[first];
    const std::size_t second = pairs.front()->second;
    const Dimension& right = dimensions_[second];
    std::map<std::pair<int, int>, double> added;
    for (const Pair* pair : pairs) {
      const CostLook* mixed = looks.cost(pair->key);
      const CostLook* alike = looks.cost(pair->like);
      const auto at = mixed == nullptr ? std::map<std::string, CostLook::Layer>::const_iterator()
                                       : mixed->layers.find(right.layers.front());
      if (mixed == nullptr || alike == nullptr || at == mixed->layers.end()) continue;
      const auto like = alike->layers.find(right.layers.front());
      if (like == alike->layers.end()) continue;
      added[{pair->before, pair->after}] = at->second.before_us - like->second.before_us;
    }
    for (std::size_t m = 0; m < metrics_.size(); ++m) {
      const double unit = in_metric(metrics_[m], {0, 1, 0, 0, 0}, base_us);
      if (!std::isfinite(unit) || unit == 0 || metrics_[m] == "throughput_sps") continue;
      search::Profile::Neighbours neighbours{static_cast<std::int64_t>(first),
                                             static_cast<std::int64_t>(m), {},
                                             static_cast<std::int64_t>(second)};
      for (const Value& v : left.values) {
        auto& row = neighbours.adds.emplace_back();
        for (const Value& w : right.values) {
          const auto found = added.find({v.activations, w.activations});
          row.push_back(found == added.end() ? 0 : signs_[m] * unit * found->second);
        }
      }
      out.neighbours.push_back(std::move(neighbours));
    }
  }
  return out;
}

}  // namespace kerf::scheduler
