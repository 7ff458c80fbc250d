#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "core/plan.h"
#include "scheduler/profile_looks.h"
#include "scheduler/profile_plan.h"
#include "search/native/lean.h"

// What labels say of values: which looks are taken for it, and what they make of the damage.
namespace kerf::scheduler {

using search::DimensionKind;

namespace {

bool is_of_labels(const std::string& metric) {
  return metric == "accuracy" || metric == "accuracy_drop" || metric == "top5" || metric == "cross_entropy" ||
         metric == "cross_entropy_rise";
}

bool prunes(const LayerPlan& layer) {
  return layer.prune.ratio > 0 || layer.rank.factorizes() || layer.codebook.entries > 0;
}

/// What a layer that nobody looks at does next to nothing in, the faster the more; 0: it would.
int harmless(const LayerPlan& layer, bool bf16) {
  if (prunes(layer) || layer.weight_bits < 8) return 0;
  if (layer.weight_bits == 8) return layer.activation_bits == 8 ? 3 : layer.activation_bits > 8 ? 1 : 0;
  return layer.weight_bits == 16 && bf16 ? 2 : 1;
}

}  // namespace

// The uniform candidate that runs fastest of those that do next to nothing: what a value does to labels is
// seen beside it, as 500 samples in f32 would cost three times as much.
Json ProfilePlan::fast_and_harmless(const search::SearchSpace& space, bool bf16) const {
  Json best = Json::object();
  int most = -1;
  for (const search::Choices& anchor : space.anchors()) {
    const auto plan = space.plan(anchor);
    if (!plan.has_value()) continue;
    int sum = 0;
    bool harm = false;
    const Json all = plan->to_json().value("layers", Json::object());
    Json layers = Json::object();
    for (const Dimension& dimension : dimensions_) {
      if (dimension.kind == DimensionKind::kGlobal) continue;
      for (const std::string& name : dimension.layers) {
        const int speed = harmless(plan->layer(name), bf16);
        harm = harm || speed == 0;
        sum += speed;
        if (all.contains(name)) layers[name] = all[name];
      }
    }
    if (harm || sum <= most) continue;
    most = sum;
    best = std::move(layers);
  }
  return best;
}

void ProfilePlan::add_labels(const StudyDefinition& study, const search::SearchSpace& space, bool bf16) {
  if (std::none_of(metrics_.begin(), metrics_.end(), is_of_labels)) return;
  const Json quiet = fast_and_harmless(space, bf16);
  const auto with = [&](Json layers) {
    Json plan = {{"layers", std::move(layers)}};
    if (!global_.empty()) plan["global"] = global_;
    return plan;
  };
  beside_ = with(quiet);
  identities_["labels"]["beside"] = beside_;
  std::size_t longest = 0;
  for (const Dimension& dimension : dimensions_) longest = std::max(longest, dimension.values.size());
  for (std::size_t back = 1; back <= longest; ++back) {
    for (std::size_t d = 0; d < dimensions_.size(); ++d) {
      const search::Dimension& from = space.dimensions()[d];
      if (from.kind == DimensionKind::kGlobal || back > from.values.size()) continue;
      const std::size_t v = from.values.size() - back;
      if (dimensions_[d].values[v].damage_key.empty()) continue;
      Json layers = quiet;
      bool matters = false;
      for (const std::string& name : from.layers) {
        const Json own = quiet.value(name, Json::object());
        Json keys = from.kind == DimensionKind::kPrecision ? Json::object() : own;
        keys.update(from.values[v]);
        const auto plan = CompressionPlan::parse({{"layers", {{"layer", keys}}}});
        if (!plan.has_value()) continue;
        const LayerPlan layer = plan->layer("layer");
        matters = matters || prunes(layer) || layer.weight_bits < 8 || layer.activation_bits < 8;
        // Beside integers it is looked at among integers: what activations of 8 bits or more do doesn't show.
        if (layer.weight_bits <= 8 && layer.activation_bits > 8 && own.contains("activation_bits")) {
          keys["activation_bits"] = own["activation_bits"];
        }
        layers[name] = std::move(keys);
      }
      if (matters) dimensions_[d].values[v].label_key = want(labels_, "labels", with(std::move(layers)));
    }
  }
  // Looks don't see the labels that judge candidates; trials say what they did to them.
  if (study.data.single.empty() && study.data.calibration.empty()) labels_.clear();
}

// Where time runs short the harmless ones aren't asked: what labels add is about the root of a damage. Nor are
// those that no front will have: they come behind all others, the mildest first.
std::vector<ProfilePlan::Want> ProfilePlan::labels_by_damage(const std::map<std::string, Json>& documents) const {
  const Looks looks(*this, documents);
  constexpr double kHopeless = 0.25;  // nats, of one value alone; a network at 4 bits is about there
  struct Order {
    double hopeless = 0;  // its KL where that is too much
    double damage = 0;
  };
  std::map<std::string, Order> orders;
  for (const Dimension& dimension : dimensions_) {
    for (const Value& value : dimension.values) {
      if (value.label_key.empty()) continue;
      const double damage = adds(dimension, value, looks).damage;
      Order& order = orders[value.label_key];
      if (std::isfinite(damage)) order.damage = std::max(order.damage, damage);
      const DamageLook* look = looks.damage(value.damage_key);
      if (look != nullptr && look->kl > kHopeless) order.hopeless = std::max(order.hopeless, look->kl);
    }
  }
  std::vector<Want> out = labels_;
  std::stable_sort(out.begin(), out.end(), [&](const Want& a, const Want& b) {
    const Order& first = orders[a.key];
    const Order& second = orders[b.key];
    if (first.hopeless != second.hopeless) return first.hopeless < second.hopeless;
    return first.damage > second.damage;
  });
  return out;
}

std::int64_t ProfilePlan::labelled(const std::map<std::string, Json>& documents) const {
  const Looks looks(*this, documents);
  return std::count_if(labels_.begin(), labels_.end(), [&](const Want& want) {
    const LabelLook* look = looks.labels(want.key);
    return look != nullptr && look->samples > 0;
  });
}

void ProfilePlan::lean(const Looks& looks, search::Profile& profile) const {
  std::map<std::string, std::size_t> places;
  for (const Dimension& dimension : dimensions_) {
    auto& values = profile.lean_of.emplace_back();
    for (const Value& value : dimension.values) {
      values.push_back(-1);
      if (value.label_key.empty()) continue;
      const auto [place, first] = places.emplace(value.label_key, profile.leans.size());
      values.back() = static_cast<std::int64_t>(place->second);
      if (first) profile.leans.emplace_back();
      search::LeanLook& lean = profile.leans[place->second];
      if (const LabelLook* look = looks.labels(value.label_key); look != nullptr && look->samples > 0) {
        lean = {look->kl, look->lean, look->error};
      } else if (const DamageLook* damage = looks.damage(value.damage_key); damage != nullptr && damage->kl > lean.kl) {
        lean.kl = damage->kl;
      }
    }
  }
  for (const std::string& metric : metrics_) profile.about_labels.push_back(is_of_labels(metric));
}

}  // namespace kerf::scheduler
