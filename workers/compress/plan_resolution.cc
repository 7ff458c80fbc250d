#include "workers/compress/plan_resolution.h"

#include <algorithm>
#include <stdexcept>

#include "workers/compress/activation_scores.h"
#include "workers/compress/represent_weights.h"
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

  /// Whether no entry of a layer gives the key: neither its own nor that of "*".
  [[nodiscard]] bool only_global(const std::string& layer, const std::string& key) const {
    return plan_.names(layer) ? !plan_.names_key(layer, key) : !star_.contains(key);
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

Json bits_json(int bits) { return bits == kTernaryBits ? Json("ternary") : Json(bits); }

bool offers(const std::vector<Json>& choices, int bits) {
  return std::find(choices.begin(), choices.end(), bits_json(bits)) != choices.end();
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

bool is_signs(const LayerPlan& layer) {
  return layer.weight_bits == 1 || layer.weight_bits == kTernaryBits;
}

/// Defaults of `global` that don't go with what the layer is to become aren't meant for it.
void drop_defaults(const std::string& name, const Where& where, LayerPlan& layer) {
  if (layer.weight_bits > 8) return;
  const LayerPlan base;
  const bool signs = is_signs(layer);
  if (signs && where.only_global(name, "codebook")) layer.codebook = base.codebook;
  const bool shared = layer.codebook.entries > 0;
  if (layer.activation_bits == 16 && !signs && where.only_global(name, "activation_bits")) {
    layer.activation_bits = base.activation_bits;
  }
  if (layer.activation_bits == 1 && where.only_global(name, "activation_range")) {
    layer.activation_range = base.activation_range;
  }
  const bool one_scale = layer.activation_bits <= 8 || signs || shared;
  if (one_scale && group_of(layer.granularity) > 0 && where.only_global(name, "granularity")) {
    layer.granularity = base.granularity;
  }
  if (signs && layer.activation_bits > 8 && where.only_global(name, "symmetric")) layer.symmetric = base.symmetric;
  if ((signs || shared) && where.only_global(name, "rounding")) layer.rounding = base.rounding;
}

Result<void> check_activations(const std::string& name, const LayerPlan& layer,
                               const Where& where) {
  if (layer.weight_bits > 8) return {};
  if (layer.activation_bits == 16 && !is_signs(layer)) {
    return not_available(where(name, "activation_bits"), "16 with integer weights", "32, 8, 1");
  }
  if (layer.activation_bits == 1 && layer.activation_range != "static") {
    return not_available(where(name, "activation_range"),
                         quoted(layer.activation_range) + " with activation_bits 1", "\"static\"");
  }
  return {};
}

Result<void> check_weights(const std::string& name, const LayerPlan& layer, const Where& where) {
  if (layer.weight_bits > 8) return {};
  const bool grouped = group_of(layer.granularity) > 0;
  if (grouped && layer.activation_bits <= 8) {
    return not_available(where(name, "granularity"),
                         quoted(layer.granularity) + " with activations of 8 bits or fewer (no "
                         "integer kernel has a scale within a sum)",
                         "\"channel\", \"tensor\"");
  }
  if (grouped && (is_signs(layer) || layer.codebook.entries > 0)) {
    return not_available(where(name, "granularity"),
                         quoted(layer.granularity) +
                             (is_signs(layer) ? " with signs" : " with a codebook"),
                         "\"channel\", \"tensor\"");
  }
  if (!layer.symmetric && is_signs(layer) && layer.activation_bits > 8) {
    return not_available(where(name, "symmetric"), "false for signs", "true");
  }
  if (layer.rounding != "nearest" && (is_signs(layer) || layer.codebook.entries > 0)) {
    return not_available(where(name, "rounding"),
                         quoted(layer.rounding) +
                             (is_signs(layer) ? " with signs" : " with a codebook"),
                         "\"nearest\"");
  }
  return {};
}

Result<void> check_techniques(const std::string& name, const LayerPlan& layer, const Where& where) {
  if (layer.codebook.entries > 0 && is_signs(layer)) {
    return not_available(where(name, "codebook"),
                         std::to_string(layer.codebook.entries) + " with signs", "no codebook");
  }
  const auto& scores = scores_for(layer.prune.structure);
  if (layer.prune.ratio > 0 &&
      std::find(scores.begin(), scores.end(), layer.prune.score) == scores.end()) {
    return invalid_argument(where(name, "prune") + ".score: " + quoted(layer.prune.score) +
                            " doesn't score what structure " + quoted(layer.prune.structure) +
                            " removes; expected " + list(std::vector<Json>(scores.begin(), scores.end())));
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
          canonical_text(bits_json(weights_fit ? layer.activation_bits : layer.weight_bits)) +
          "; layer '" + info.name + "' (" + info.op + ") takes " +
          list(weights_fit ? info.activation_bits : info.weight_bits));
    }
    layer.weight_bits = 32;
    layer.activation_bits = 32;
  }
  // Integers of groups are for matrices: a kernel's window has no one input axis to cut.
  if (layer.weight_bits <= 8 && group_of(layer.granularity) > 0 && info.op != "Gemm" &&
      info.op != "MatMul") {
    if (plan.names_key(info.name, "granularity")) {
      return invalid_argument(where(info.name, "granularity") + ": " + layer.granularity +
                              "; layer '" + info.name + "' (" + info.op +
                              ") takes \"channel\", \"tensor\"");
    }
    layer.weight_bits = 32;
    layer.activation_bits = 32;
  }
  const bool constant = std::find(info.prune_structures.begin(), info.prune_structures.end(),
                                  "unstructured") != info.prune_structures.end();
  if (layer.codebook.entries > 0 && !constant) {
    if (plan.names_key(info.name, "codebook")) {
      return invalid_argument(where(info.name, "codebook") + ": the weights of layer '" +
                              info.name + "' (" + info.op + ") can't be shared");
    }
    layer.codebook = {};
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

bool offers(const std::vector<std::string>& choices, const std::string& value) {
  return std::find(choices.begin(), choices.end(), value) != choices.end();
}

/// The same for rounding, rank and scores.
Result<void> fit_techniques(const LayerInfo& info, const CompressionPlan& plan, const Where& where,
                            LayerPlan& layer) {
  const std::string what = "; layer '" + info.name + "' (" + info.op + ") ";
  if (rounds_adaptively(layer) && !offers(info.roundings, layer.rounding)) {
    if (plan.names_key(info.name, "rounding")) {
      return invalid_argument(where(info.name, "rounding") + ": \"adaptive\"" + what +
                              "is rounded to the nearest only");
    }
    layer.rounding = "nearest";
  }
  const std::vector<std::string> forms = info.rank_forms.value_or(std::vector<std::string>());
  if (layer.rank.factorizes() && !offers(forms, layer.rank.form)) {
    if (plan.names_key(info.name, "rank")) {
      return invalid_argument(where(info.name, "rank") + ": form \"" + layer.rank.form + "\"" + what +
                              (forms.empty()
                                   ? "can't be factorized"
                                   : "takes " + list(std::vector<Json>(forms.begin(), forms.end()))));
    }
    layer.rank = {};
  }
  if (layer.prune.ratio > 0 && layer.prune.structure != "channel" &&
      !offers(info.prune_scores, layer.prune.score)) {
    if (plan.names_key(info.name, "prune")) {
      return invalid_argument(where(info.name, "prune") + ".score: \"" + layer.prune.score + "\"" + what +
                              "takes " + list(std::vector<Json>(info.prune_scores.begin(), info.prune_scores.end())));
    }
    layer.prune.ratio = 0;
  }
  return {};
}

/// Groups whose channels a score says nothing about: refused where a layer's own entry asks for it,
/// else they keep their channels.
Result<void> check_channel_scores(const PreparedModel& model, const CompressionPlan& plan,
                                  const Where& where, std::map<std::string, ChannelPruning>& channels) {
  for (const TiedGroup& group : model.channels.groups) {
    const auto pruning = channels.find(group.name);
    std::string why;
    if (pruning == channels.end() || can_score(model, group.layers, pruning->second.score, why))
      continue;
    for (const std::string& layer : group.layers) {
      if (!plan.names_key(layer, "prune")) continue;
      return invalid_argument(where(layer, "prune") + ".score: \"" + pruning->second.score +
                              "\" doesn't go with layer '" + layer + "': " + why);
    }
    channels.erase(pruning);
  }
  return {};
}

}  // namespace

bool changes_weights(const LayerPlan& layer) {
  return layer.weight_bits <= 16 || layer.codebook.entries > 0;
}

bool ResolvedPlan::any(bool (*wanted)(const LayerPlan&)) const {
  return std::any_of(layers.begin(), layers.end(),
                     [&](const auto& layer) { return wanted(layer.second); });
}

bool ResolvedPlan::prunes_single_weights(const LayerPlan& layer) const {
  return layer.prune.ratio > 0 && layer.prune.structure != "channel";
}

bool ResolvedPlan::factorizes(const LayerPlan& layer) const { return layer.rank.factorizes(); }

bool ResolvedPlan::needs_ranges() const {
  return any([](const LayerPlan& layer) {
    return layer.runs_as_integers() && layer.activation_range != "dynamic";
  });
}

const LayerPlan& ResolvedPlan::at(const std::string& layer) const {
  const auto found = std::find_if(layers.begin(), layers.end(),
                                  [&](const auto& entry) { return entry.first == layer; });
  if (found == layers.end()) throw std::out_of_range("the plan has no layer '" + layer + "'");
  return found->second;
}

void ResolvedPlan::split(const std::string& layer, const std::vector<std::string>& parts) {
  const auto found = std::find_if(layers.begin(), layers.end(),
                                  [&](const auto& entry) { return entry.first == layer; });
  if (found == layers.end()) throw std::out_of_range("the plan has no layer '" + layer + "'");
  const LayerPlan plan = found->second;
  auto at = layers.erase(found);
  for (const std::string& part : parts) at = std::next(layers.insert(at, {part, plan}));
}

bool ResolvedPlan::prunes() const {
  return !channels.empty() || global_channels ||
         std::any_of(layers.begin(), layers.end(),
                     [&](const auto& layer) { return prunes_single_weights(layer.second); });
}

bool ResolvedPlan::corrects_biases() const {
  return bias_correction && (prunes() || any([](const LayerPlan& layer) {
                               return layer.weight_bits <= 8 || layer.rank.factorizes() ||
                                      layer.codebook.entries > 0;
                             }));
}

bool ResolvedPlan::reconstructs() const {
  return std::find(recovery.begin(), recovery.end(), "reconstruct") != recovery.end() &&
         (prunes() || any([](const LayerPlan& layer) {
            return changes_weights(layer) || layer.rank.factorizes();
          }));
}

bool ResolvedPlan::reestimates() const {
  return std::find(recovery.begin(), recovery.end(), "batch_norm") != recovery.end() &&
         (prunes() || any([](const LayerPlan& layer) {
            return changes_weights(layer) || layer.rank.factorizes();
          }));
}

bool ResolvedPlan::distills() const {
  return distill && (prunes() || any([](const LayerPlan& layer) {
                       return layer.weight_bits < 32 || layer.codebook.entries > 0 || layer.rank.factorizes();
                     }));
}

std::string ResolvedPlan::why_calibration() const {
  if (needs_ranges()) return "a plan with 8-bit activations";
  if (any(compress::rounds_adaptively)) return "a plan with rounding \"adaptive\"";
  if (any([](const LayerPlan& layer) { return layer.rank.factorizes() && layer.rank.data_aware; }))
    return "a plan with a data-aware rank";
  for (const auto& [group, pruning] : channels) {
    if (score_needs_data(pruning.score)) return "a plan that prunes by \"" + pruning.score + "\"";
  }
  for (const auto& [name, layer] : layers) {
    if (prunes_single_weights(layer) && score_needs_data(layer.prune.score))
      return "a plan that prunes by \"" + layer.prune.score + "\"";
  }
  if (corrects_biases()) return "plan.global.recovery: \"bias_correction\"";
  if (reconstructs()) return "plan.global.recovery: \"reconstruct\"";
  if (reestimates()) return "plan.global.recovery: \"batch_norm\"";
  if (distills()) return "plan.global.recovery: \"distill\"";
  return {};
}

Json ResolvedPlan::structure(bool with_ranks) const {
  Json out = Json::object();
  for (const auto& [group, pruning] : channels) {
    out["channels"][group] = {pruning.ratio, pruning.score};
  }
  if (global_channels) out["global"] = *global_channels;
  for (const auto& [name, layer] : layers) {
    if (!with_ranks || !factorizes(layer)) continue;
    out["ranks"][name] = {layer.rank.share, layer.rank.energy, layer.rank.form, layer.rank.data_aware};
    // The bias of a factorized layer is corrected where that is wanted.
    out["bias_correction"] = bias_correction;
  }
  if (equalize) out["equalize"] = true;
  return out;
}

std::string ResolvedPlan::base_variant() const { return equalize ? "equalized" : ""; }

std::string ResolvedPlan::channel_variant() const {
  const bool cut = !channels.empty() || global_channels;
  return cut ? "channels " + canonical_text(structure(false)) : base_variant();
}

std::string ResolvedPlan::structure_variant() const {
  const bool split = any([](const LayerPlan& layer) { return layer.rank.factorizes(); });
  return split ? "structure " + canonical_text(structure(true)) : channel_variant();
}

std::string ResolvedPlan::variant() const {
  const bool factorized = any([](const LayerPlan& layer) { return layer.rank.factorizes(); });
  const bool fitted = reconstructs() || reestimates();
  if (!prunes() && !factorized && !fitted) return base_variant();
  Json out = structure(true);
  for (const auto& [name, layer] : layers) {
    if (prunes_single_weights(layer)) {
      out["weights"][name] = {layer.prune.structure, layer.prune.ratio, layer.prune.score};
    }
    // What comes after a layer is fitted to its rounded weights.
    if (fitted && changes_weights(layer)) {
      out["rounded"][name] = {layer.weight_bits,      layer.activation_bits, layer.symmetric,
                              layer.granularity,      layer.weight_range,    layer.rounding,
                              layer.codebook.entries, layer.codebook.init};
    }
  }
  out["recovery"] = recovery;
  return canonical_text(out);
}

Result<ResolvedPlan> resolve_plan(const PreparedModel& model, const CompressionPlan& plan) {
  KERF_TRY(check_names(model.info, plan));
  ResolvedPlan out;
  out.equalize = plan.equalize();
  out.recovery = plan.recovery();
  for (const std::string& step : out.recovery) {
    if (step == "distill") {
      out.distill = plan.distill();
    } else if (step == "bias_correction") {
      out.bias_correction = true;
    } else if (step != "reconstruct" && step != "batch_norm") {
      return not_available("plan.global.recovery", quoted(step),
                           "\"none\", \"bias_correction\", \"reconstruct\", \"batch_norm\", \"distill\"");
    }
  }
  const Where where(plan);
  for (const LayerInfo& info : model.info.layers) {
    LayerPlan layer = plan.layer(info.name);
    drop_defaults(info.name, where, layer);
    // What this build doesn't do is said first: it holds for every layer.
    KERF_TRY(check_activations(info.name, layer, where));
    KERF_TRY(check_weights(info.name, layer, where));
    KERF_TRY(check_techniques(info.name, layer, where));
    KERF_TRY(fit_to_layer(info, plan, where, layer));
    KERF_TRY(fit_techniques(info, plan, where, layer));
    if (layer.rank.factorizes() && plan.names_key(info.name, "rank")) out.named_ranks.insert(info.name);
    out.layers.emplace_back(info.name, std::move(layer));
  }
  KERF_ASSIGN(out.channels, resolve_channel_pruning(model.channels, plan));
  KERF_TRY(check_channel_scores(model, plan, where, out.channels));
  out.global_channels = plan.global_prune_ratio();
  return out;
}

}  // namespace kerf::compress
