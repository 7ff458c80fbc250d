#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "search/snap_channels.h"
#include "search/space.h"
#include "search/space_values.h"

namespace kerf::search {
namespace {

/// The known name nearest to `word` by edit distance; empty where none is near.
std::string nearest_name(std::string_view word, const std::vector<LayerInfo>& layers) {
  std::string_view best;
  for (const LayerInfo& layer : layers) {
    const std::string_view better = nearest_word(word, {best, layer.name});
    if (!better.empty()) best = better;
  }
  return std::string(best);
}

Error no_such_layer(const std::string& where, const std::string& name,
                    const std::vector<LayerInfo>& layers) {
  std::string plain = name;
  std::erase_if(plain, [](char c) { return c == '*' || c == '?'; });
  const std::string near = nearest_name(plain, layers);
  std::string message = where + ": \"" + name + "\" names no layer of the model";
  if (!near.empty()) {
    message += "; did you mean \"" + near + "\"?";
  } else if (!layers.empty()) {
    message += "; expected a name such as \"" + layers.front().name + "\" (kerf inspect lists them)";
  }
  return invalid_argument(message);
}

constexpr std::array<std::pair<DimensionKind, const char*>, 4> kLayerKinds = {{
    {DimensionKind::kPrecision, "precision"},
    {DimensionKind::kPrune, "prune"},
    {DimensionKind::kRank, "rank"},
    {DimensionKind::kCodebook, "codebook"},
}};

/// The values that one or more layers take together.
struct Slot {
  std::vector<std::size_t> layers;  // ascending
  std::vector<Json> values;
};

bool prunes_channels(const Json& keys) {
  return keys.contains("prune") && keys["prune"]["structure"] == "channel";
}

/// The values of `a` that `b` has as well, in the order of `a`.
std::vector<Json> shared_values(const std::vector<Json>& a, const std::vector<Json>& b) {
  std::vector<Json> out;
  std::copy_if(a.begin(), a.end(), std::back_inserter(out), [&](const Json& value) {
    return std::find(b.begin(), b.end(), value) != b.end();
  });
  return out;
}

/// Sets of layers that share a fate.
class Unions {
 public:
  explicit Unions(std::size_t size) : parent_(size) {
    std::iota(parent_.begin(), parent_.end(), std::size_t{0});
  }
  std::size_t find(std::size_t i) {
    while (parent_[i] != i) i = parent_[i] = parent_[parent_[i]];
    return i;
  }
  // The smaller index stays the representative: the first layer in the model's order.
  void join(std::size_t a, std::size_t b) {
    a = find(a);
    b = find(b);
    parent_[std::max(a, b)] = std::min(a, b);
  }

 private:
  std::vector<std::size_t> parent_;
};

}  // namespace

/// Builds a SearchSpace step by step: choices of each layer, groups and ties, dimensions.
class SpaceBuilder {
 public:
  SpaceBuilder(const SpaceDefinition& definition, const ModelInfo& model)
      : definition_(definition), model_(model), ties_(model.layers.size()) {}

  Result<SearchSpace> build() {
    for (std::size_t i = 0; i < model_.layers.size(); ++i) index_[model_.layers[i].name] = i;
    KERF_TRY(collect_choices());
    KERF_TRY(collect_ties());
    space_.layers_ = model_.layers;
    space_.fixed_layers_.assign(model_.layers.size(), Json::object());
    std::map<DimensionKind, std::map<std::size_t, Slot>> slots;  // by kind, by first layer
    for (const auto& [kind, suffix] : kLayerKinds) {
      KERF_ASSIGN(slots[kind], slots_of(kind, suffix));
    }
    for (std::size_t i = 0; i < model_.layers.size(); ++i) {
      for (const auto& [kind, suffix] : kLayerKinds) {
        const auto slot = slots[kind].find(i);
        if (slot != slots[kind].end()) place(kind, suffix, slot->second);
      }
    }
    KERF_TRY(place_globals());
    return std::move(space_);
  }

 private:
  Result<void> collect_choices() {
    choices_.assign(model_.layers.size(), definition_.all_layers);
    for (std::size_t r = 0; r < definition_.layers.size(); ++r) {
      const LayerRule& rule = definition_.layers[r];
      bool matched = false;
      for (std::size_t i = 0; i < model_.layers.size(); ++i) {
        if (!matches(rule.match, model_.layers[i].name)) continue;
        matched = true;
        for (const auto& [key, values] : rule.choices) choices_[i][key] = values;
        if (rule.match == model_.layers[i].name) {
          KERF_TRY(check_supported(rule, model_.layers[i], choices_[i]));
        }
      }
      if (!matched) {
        return no_such_layer("study.space.layers[" + std::to_string(r) + "].match", rule.match,
                             model_.layers);
      }
    }
    return {};
  }

  /// A rule that names a layer in full must give it something that it supports.
  static Result<void> check_supported(const LayerRule& rule, const LayerInfo& layer,
                                      const LayerChoices& choices) {
    const bool precision = rule.choices.contains("weight_bits") ||
                           rule.choices.contains("activation_bits");
    if (precision) {
      KERF_ASSIGN(const std::vector<Json> values, precision_values(choices, layer));
      if (values.empty()) {
        return invalid_argument("study.space: layer " + layer.name +
                                " supports none of its combinations of weight_bits and "
                                "activation_bits; it supports weight_bits " +
                                canonical_text(layer.weight_bits) + ", activation_bits " +
                                canonical_text(layer.activation_bits));
      }
    }
    if (rule.choices.contains("prune") && single_key_values("prune", choices, layer).empty()) {
      return invalid_argument("study.space: layer " + layer.name +
                              " supports none of its choices of prune; it supports " +
                              canonical_text(layer.prune_structures) +
                              (layer.channels_stay_because.empty()
                                   ? ""
                                   : " (channels stay: " + layer.channels_stay_because + ")"));
    }
    if (rule.choices.contains("rank") && single_key_values("rank", choices, layer).empty()) {
      return invalid_argument(
          "study.space: layer " + layer.name + " supports none of its choices of rank; it supports " +
          canonical_text(layer.rank_forms.value_or(std::vector<std::string>())));
    }
    return {};
  }

  Result<void> collect_ties() {
    for (std::size_t t = 0; t < definition_.ties.size(); ++t) {
      const auto& tie = definition_.ties[t];
      for (const std::string& name : tie) {
        const auto found = index_.find(name);
        if (found == index_.end()) {
          return no_such_layer("study.space.ties[" + std::to_string(t) + "]", name, model_.layers);
        }
        ties_.join(index_.at(tie.front()), found->second);
      }
    }
    return {};
  }

  Result<std::map<std::size_t, Slot>> slots_of(DimensionKind kind, const std::string& suffix) {
    std::vector<Slot> slots;
    for (std::size_t i = 0; i < model_.layers.size(); ++i) {
      Slot slot;
      slot.layers = {i};
      if (kind == DimensionKind::kPrecision) {
        KERF_ASSIGN(slot.values, precision_values(choices_[i], model_.layers[i]));
      } else {
        slot.values = single_key_values(suffix, choices_[i], model_.layers[i]);
      }
      if (slot.values.empty()) slot.values = {Json::object()};  // stays as it is
      slots.push_back(std::move(slot));
    }
    if (kind == DimensionKind::kPrune) {
      KERF_ASSIGN(slots, grouped(std::move(slots)));
    }
    return tied(std::move(slots), suffix);
  }

  /// One slot for each group of layers that lose channels together.
  ///
  /// Errors:   invalid_argument: members that share no choice.
  Result<std::vector<Slot>> grouped(std::vector<Slot> slots) {
    std::vector<std::vector<std::size_t>> groups;
    std::set<std::size_t> member;
    const auto add = [&](const std::vector<std::string>& names) {
      std::vector<std::size_t> layers;
      for (const std::string& name : names) {
        const auto found = index_.find(name);
        if (found != index_.end() && member.insert(found->second).second) {
          layers.push_back(found->second);
        }
      }
      std::sort(layers.begin(), layers.end());
      if (!layers.empty()) groups.push_back(std::move(layers));
    };
    for (const TiedGroup& group : model_.groups) add(group.layers);
    std::vector<Slot> out;
    for (const auto& group : groups) {
      std::vector<Json> values = slots[group.front()].values;
      for (const std::size_t i : group) {
        values = shared_values(values, slots[i].values);
        if (!values.empty()) continue;
        return invalid_argument("study.space: layers " + model_.layers[group.front()].name + " and " +
                                model_.layers[i].name +
                                " lose their channels together, but share no choice of prune; "
                                "expected one that both allow");
      }
      const bool channels = std::any_of(values.begin(), values.end(), prunes_channels);
      if (channels) {
        out.push_back({group, std::move(values)});
        continue;
      }
      // Nobody's channels go (some member must keep them): each member prunes what it may alone.
      for (const std::size_t i : group) {
        std::erase_if(slots[i].values, prunes_channels);
        if (slots[i].values.empty()) slots[i].values = {Json::object()};
        out.push_back(std::move(slots[i]));
      }
    }
    for (std::size_t i = 0; i < slots.size(); ++i) {
      if (!member.contains(i)) out.push_back(std::move(slots[i]));
    }
    return out;
  }

  /// Merges the slots of layers that the study ties.
  Result<std::map<std::size_t, Slot>> tied(std::vector<Slot> slots, const std::string& suffix) {
    // A group's slot and a tie that touches one of its layers join the whole.
    Unions fate = ties_;
    for (const Slot& slot : slots) {
      for (const std::size_t i : slot.layers) fate.join(slot.layers.front(), i);
    }
    std::map<std::size_t, Slot> merged;
    for (Slot& slot : slots) {
      const auto [place, fresh] = merged.try_emplace(fate.find(slot.layers.front()), slot);
      if (fresh) continue;
      Slot& whole = place->second;
      std::vector<Json> values = shared_values(whole.values, slot.values);
      if (values.empty()) {
        return invalid_argument("study.space.ties: layers " +
                                model_.layers[whole.layers.front()].name + " and " +
                                model_.layers[slot.layers.front()].name +
                                " share no choice of " + suffix +
                                "; expected one that both allow");
      }
      whole.values = std::move(values);
      whole.layers.insert(whole.layers.end(), slot.layers.begin(), slot.layers.end());
      std::sort(whole.layers.begin(), whole.layers.end());
    }
    std::map<std::size_t, Slot> by_first;
    for (auto& [root, slot] : merged) {
      const std::size_t first = slot.layers.front();
      by_first.emplace(first, std::move(slot));
    }
    return by_first;
  }

  /// Ratios of channels where the hardware gains, if the study leaves that to us and the layers are
  /// of one group that was timed.
  void snap(Slot& slot) const {
    if (!definition_.snap_channels) return;
    const TiedGroup* own = nullptr;
    for (const TiedGroup& group : model_.groups) {
      const auto inside = [&](std::size_t i) {
        return std::find(group.layers.begin(), group.layers.end(), model_.layers[i].name) != group.layers.end();
      };
      if (std::all_of(slot.layers.begin(), slot.layers.end(), inside)) own = &group;
    }
    if (own != nullptr) slot.values = snapped_channels(slot.values, *own);
  }

  void place(DimensionKind kind, const std::string& suffix, Slot slot) {
    if (kind == DimensionKind::kPrune) snap(slot);
    if (slot.values.size() == 1) {
      for (const std::size_t i : slot.layers) {
        Json& keys = space_.fixed_layers_[i];
        keys.update(slot.values.front());
        if (!slot.values.front().empty()) continue;
        // A layer that was told to stay as it is isn't reached by a global default either.
        const std::string key = kind == DimensionKind::kPrecision ? "weight_bits" : suffix;
        if (choices_[i].contains(key)) {
          keys[key] = kind == DimensionKind::kPrecision ? Json(32) : Json(nullptr);
        }
      }
      return;
    }
    Dimension dimension;
    dimension.kind = kind;
    dimension.spec.name = model_.layers[slot.layers.front()].name + "." + suffix;
    dimension.spec.choices = static_cast<std::int64_t>(slot.values.size());
    dimension.spec.ordered = kind == DimensionKind::kPrecision ? is_chain(slot.values) : true;
    for (const std::size_t i : slot.layers) dimension.layers.push_back(model_.layers[i].name);
    dimension.values = slot.values;
    space_.dimensions_.push_back(std::move(dimension));
  }

  Result<void> place_globals() {
    for (const auto& [key, given] : definition_.global) {
      std::vector<Json> values;
      std::set<std::string> seen;
      for (const Json& value : given) {
        const auto plan = CompressionPlan::parse({{"global", {{key, value}}}});
        if (!plan.has_value()) return with_context("study.space.global", plan.error());
        if (seen.insert(canonical_text(plan->to_json())).second) values.push_back(Json{{key, value}});
      }
      if (key == "recovery") KERF_TRY(drop_recoveries(values));
      const bool ratios = key == "prune" && std::all_of(given.begin(), given.end(), [](const Json& v) {
                            return v.is_number();
                          });
      // What changes nothing goes first, so that index 0 of every dimension is the baseline.
      std::stable_sort(values.begin(), values.end(), [&](const Json& a, const Json& b) {
        if (ratios) return a[key].get<double>() < b[key].get<double>();
        return changes_nothing(key, a[key]) && !changes_nothing(key, b[key]);
      });
      if (values.size() == 1) {
        space_.fixed_global_.update(values.front());
        continue;
      }
      Dimension dimension;
      dimension.kind = DimensionKind::kGlobal;
      dimension.spec.name = "global." + key;
      dimension.spec.choices = static_cast<std::int64_t>(values.size());
      dimension.spec.ordered = ratios;
      dimension.values = std::move(values);
      space_.dimensions_.push_back(std::move(dimension));
    }
    return {};
  }

  /// Takes away what the model can't be recovered by.
  ///
  /// Errors:   invalid_argument: nothing is left.
  Result<void> drop_recoveries(std::vector<Json>& values) const {
    if (model_.distill_refused_because.empty()) return {};
    std::erase_if(values, [](const Json& value) {
      const Json& steps = value["recovery"];
      return steps == "distill" ||
             (steps.is_array() && std::find(steps.begin(), steps.end(), "distill") != steps.end());
    });
    if (!values.empty()) return {};
    return invalid_argument("study.space.global.recovery: the model can't be distilled: " +
                            model_.distill_refused_because);
  }

  static bool changes_nothing(const std::string& key, const Json& value) {
    const auto plan = CompressionPlan::parse({{"global", {{key, value}}}});
    if (!plan.has_value()) return false;
    return plan->is_baseline();
  }

  const SpaceDefinition& definition_;
  const ModelInfo& model_;
  std::map<std::string, std::size_t> index_;
  std::vector<LayerChoices> choices_;
  Unions ties_;
  SearchSpace space_;
};

Result<SearchSpace> SearchSpace::build(const SpaceDefinition& definition, const ModelInfo& model) {
  return SpaceBuilder(definition, model).build();
}

}  // namespace kerf::search
