#include "workers/compress/plan_resolution.h"

#include <algorithm>
#include <stdexcept>

#include "workers/compress/round_layer.h"

namespace kerf::compress {
namespace {

/// Where a layer's value of a key stands in the plan's text.
class Where {
 public:
  explicit Where(const CompressionPlan& plan) : plan_(plan) {
    const Json document = plan.to_json();
    if (document.contains("layers")) star_ = document["layers"].value("*", Json::object());
  }

  [[nodiscard]] std::string operator()(const std::string& layer, const std::string& key) const {
    if (plan_.names_key(layer, key)) return "plan.layers." + layer + "." + key;
    if (!plan_.names(layer) && star_.contains(key)) return "plan.layers.*." + key;
    return "plan.global." + key;
  }

 private:
  const CompressionPlan& plan_;
  Json star_ = Json::object();
};

Error not_available(const std::string& where, const std::string& value,
                    const std::string& available) {
  return unimplemented(where + ": " + value +
                       " is not available in this build; available: " + available);
}

std::string quoted(const std::string& text) { return "\"" + text + "\""; }

bool offers(const std::vector<Json>& choices, int value) {
  return std::find(choices.begin(), choices.end(), Json(value)) != choices.end();
}

std::string list(const std::vector<Json>& choices) {
  std::string out;
  for (const Json& choice : choices) out += (out.empty() ? "" : ", ") + canonical_text(choice);
  return out;
}

Result<void> check_names(const ModelInfo& info, const CompressionPlan& plan) {
  for (const std::string& name : plan.named_layers()) {
    std::string_view best;
    bool known = false;
    for (const LayerInfo& layer : info.layers) {
      known = known || layer.name == name;
      best = nearest_word(name, {best, layer.name});
    }
    if (known) continue;
    std::string message = "plan.layers." + name + ": the model has no such layer";
    if (!best.empty()) {
      message += "; nearest: " + std::string(best);
    } else if (!info.layers.empty()) {
      message += "; its first layer is " + info.layers.front().name;
    }
    return invalid_argument(message);
  }
  return {};
}

Result<void> check_precision(const std::string& name, const LayerPlan& layer, const Where& where) {
  if (layer.weight_bits == kTernaryBits) {
    return not_available(where(name, "weight_bits"), "\"ternary\"", "32, 16, 8…2");
  }
  if (layer.weight_bits == 1) return not_available(where(name, "weight_bits"), "1", "32, 16, 8…2");
  if (layer.activation_bits == 1)
    return not_available(where(name, "activation_bits"), "1", "32, 16, 8");
  if (layer.weight_bits > 8) return {};
  if (layer.activation_bits == 16) {
    return not_available(where(name, "activation_bits"), "16 with integer weights", "32, 8");
  }
  if (layer.activation_bits == 8 && layer.activation_range != "static") {
    return not_available(where(name, "activation_range"), quoted(layer.activation_range),
                         "\"static\"");
  }
  if (layer.granularity != "channel" && layer.granularity != "tensor") {
    return not_available(where(name, "granularity"), quoted(layer.granularity),
                         "\"channel\", \"tensor\"");
  }
  if (!layer.symmetric && layer.activation_bits == 32) {
    return not_available(where(name, "symmetric"), "false for weights (activation_bits is 32)",
                         "true");
  }
  return {};
}

Result<void> check_techniques(const std::string& name, const LayerPlan& layer, const Where& where) {
  if (layer.rank.share < 1) {
    return not_available(where(name, "rank"), canonical_text(Json(layer.rank.share)), "1");
  }
  if (layer.codebook.entries > 0) {
    return not_available(where(name, "codebook"), std::to_string(layer.codebook.entries),
                         "no codebook");
  }
  if (layer.prune.ratio > 0 && layer.prune.score != "l1" && layer.prune.score != "l2") {
    return not_available(where(name, "prune") + ".score", quoted(layer.prune.score),
                         "\"l1\", \"l2\"");
  }
  return {};
}

/// Takes away what the layer can't do where only "*" or `global` asked for it.
Result<void> fit_to_layer(const LayerInfo& info, const CompressionPlan& plan, const Where& where,
                          LayerPlan& layer) {
  const bool weights_fit = offers(info.weight_bits, layer.weight_bits);
  const bool activations_fit = offers(info.activation_bits, layer.activation_bits);
  if (!weights_fit || !activations_fit) {
    const std::string key = weights_fit ? "activation_bits" : "weight_bits";
    if (plan.names_key(info.name, key)) {
      return invalid_argument(
          where(info.name, key) + ": " +
          std::to_string(weights_fit ? layer.activation_bits : layer.weight_bits) + "; layer '" +
          info.name + "' (" + info.op + ") takes " +
          list(weights_fit ? info.activation_bits : info.weight_bits));
    }
    layer.weight_bits = 32;
    layer.activation_bits = 32;
  }
  if (rounds_adaptively(layer) && !info.roundings.empty() &&
      std::find(info.roundings.begin(), info.roundings.end(), layer.rounding) ==
          info.roundings.end()) {
    if (plan.names_key(info.name, "rounding")) {
      return invalid_argument(where(info.name, "rounding") + ": \"adaptive\"; layer '" + info.name +
                              "' (" + info.op + ") is rounded to the nearest only");
    }
    layer.rounding = "nearest";
  }
  if (layer.prune.ratio > 0 && layer.prune.structure != "channel" &&
      std::find(info.prune_structures.begin(), info.prune_structures.end(), "unstructured") ==
          info.prune_structures.end()) {
    if (plan.names_key(info.name, "prune")) {
      return invalid_argument(where(info.name, "prune") + ": the weights of layer '" + info.name +
                              "' (" + info.op + ") can't be pruned");
    }
    layer.prune.ratio = 0;
  }
  return {};
}

}  // namespace

bool ResolvedPlan::prunes_single_weights(const LayerPlan& layer) const {
  return layer.prune.ratio > 0 && layer.prune.structure != "channel";
}

bool ResolvedPlan::needs_ranges() const {
  return std::any_of(layers.begin(), layers.end(),
                     [](const auto& layer) { return layer.second.runs_as_integers(); });
}

bool ResolvedPlan::rounds_adaptively() const {
  return std::any_of(layers.begin(), layers.end(),
                     [](const auto& layer) { return compress::rounds_adaptively(layer.second); });
}

bool ResolvedPlan::needs_calibration() const {
  return needs_ranges() || corrects_biases() || rounds_adaptively();
}

const LayerPlan& ResolvedPlan::at(const std::string& layer) const {
  const auto found = std::find_if(layers.begin(), layers.end(),
                                  [&](const auto& entry) { return entry.first == layer; });
  if (found == layers.end()) throw std::out_of_range("the plan has no layer '" + layer + "'");
  return found->second;
}

bool ResolvedPlan::prunes() const {
  return !channels.empty() || global_channels ||
         std::any_of(layers.begin(), layers.end(),
                     [&](const auto& layer) { return prunes_single_weights(layer.second); });
}

bool ResolvedPlan::corrects_biases() const {
  return bias_correction &&
         (prunes() || std::any_of(layers.begin(), layers.end(),
                                  [](const auto& layer) { return layer.second.weight_bits <= 8; }));
}

std::string ResolvedPlan::variant() const {
  if (!prunes()) return {};
  Json out = Json::object();
  for (const auto& [group, pruning] : channels) {
    out["channels"][group] = {pruning.ratio, pruning.score};
  }
  if (global_channels) out["global"] = *global_channels;
  for (const auto& [name, layer] : layers) {
    if (prunes_single_weights(layer)) {
      out["weights"][name] = {layer.prune.structure, layer.prune.ratio};
    }
  }
  out["bias_correction"] = bias_correction;
  return canonical_text(out);
}

Result<ResolvedPlan> resolve_plan(const PreparedModel& model, const CompressionPlan& plan) {
  KERF_TRY(check_names(model.info, plan));
  if (plan.equalize()) return not_available("plan.global.equalize", "true", "false");
  ResolvedPlan out;
  for (const std::string& step : plan.recovery()) {
    if (step != "bias_correction") {
      return not_available("plan.global.recovery", quoted(step), "\"none\", \"bias_correction\"");
    }
    out.bias_correction = true;
  }
  const Where where(plan);
  for (const LayerInfo& info : model.info.layers) {
    LayerPlan layer = plan.layer(info.name);
    // What this build doesn't do is said first: it holds for every layer.
    KERF_TRY(check_precision(info.name, layer, where));
    KERF_TRY(check_techniques(info.name, layer, where));
    KERF_TRY(fit_to_layer(info, plan, where, layer));
    out.layers.emplace_back(info.name, std::move(layer));
  }
  KERF_ASSIGN(out.channels, resolve_channel_pruning(model.channels, plan));
  out.global_channels = plan.global_prune_ratio();
  return out;
}

}  // namespace kerf::compress
