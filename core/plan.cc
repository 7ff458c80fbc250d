#include "core/plan.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

namespace kerf {
namespace {

std::string at(std::string_view where, std::string_view key) {
  return std::string(where) + "." + std::string(key);
}

Error expected(std::string_view where, const Json& value, std::string_view expectation) {
  return invalid_argument(std::string(where) + ": " + canonical_text(value).substr(0, 80) +
                          "; expected " + std::string(expectation));
}

Result<std::string> one_of(const Json& value, std::string_view where,
                           std::initializer_list<std::string_view> words) {
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    if (std::find(words.begin(), words.end(), text) != words.end()) return text;
  }
  std::string list;
  for (const std::string_view word : words) {
    list += (list.empty() ? "\"" : ", \"") + std::string(word) + "\"";
  }
  return expected(where, value, "one of " + list);
}

Result<int> integer_in(const Json& value, std::string_view where, int low, int high) {
  if (value.is_number_integer()) {
    const auto number = value.get<std::int64_t>();
    if (number >= low && number <= high) return static_cast<int>(number);
  }
  return expected(where, value,
                  "an integer from " + std::to_string(low) + " to " + std::to_string(high));
}

bool is_n_of_m(const std::string& text) {
  const auto colon = text.find(':');
  if (colon == std::string::npos || colon == 0 || colon > 2 || text.size() - colon - 1 > 3 ||
      colon + 1 == text.size()) {
    return false;
  }
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (i != colon && (text[i] < '0' || text[i] > '9')) return false;
  }
  const int n = std::stoi(text.substr(0, colon));
  const int m = std::stoi(text.substr(colon + 1));
  return n >= 1 && n < m;
}

Result<PruneSpec> parse_prune(const Json& value, std::string_view where) {
  PruneSpec prune;
  KERF_TRY(check_keys(value, where, {"structure", "ratio", "score"}));
  if (value.contains("structure")) {
    const Json& structure = value["structure"];
    const bool known = structure.is_string() &&
                       (structure == "channel" || structure == "unstructured" ||
                        is_n_of_m(structure.get_ref<const std::string&>()));
    if (!known) {
      return expected(at(where, "structure"), structure,
                      "\"channel\", \"unstructured\" or n:m such as \"2:4\"");
    }
    prune.structure = structure.get<std::string>();
  }
  if (prune.structure.find(':') != std::string::npos) {
    const auto colon = prune.structure.find(':');
    prune.ratio = 1.0 - std::stod(prune.structure.substr(0, colon)) /
                            std::stod(prune.structure.substr(colon + 1));
  }
  if (value.contains("ratio")) {
    const Json& ratio = value["ratio"];
    if (!ratio.is_number() || !(ratio.get<double>() >= 0) || !(ratio.get<double>() < 1)) {
      return expected(at(where, "ratio"), ratio, "a number from 0 to below 1");
    }
    prune.ratio = ratio.get<double>();
  } else if (prune.structure == "channel" || prune.structure == "unstructured") {
    return invalid_argument(std::string(where) + ": no \"ratio\"; expected a number from 0 to below 1");
  }
  if (value.contains("score")) {
    KERF_ASSIGN(prune.score, one_of(value["score"], at(where, "score"),
                                    {"l1", "l2", "bn", "apoz", "mean_output", "taylor", "wanda"}));
  }
  return prune;
}

Result<RankSpec> parse_rank(const Json& value, std::string_view where) {
  RankSpec rank;
  const Json* share = &value;
  if (value.is_object()) {
    KERF_TRY(check_keys(value, where, {"share", "energy", "form", "data_aware"}));
    if (value.contains("form")) {
      KERF_ASSIGN(rank.form, one_of(value["form"], at(where, "form"), {"svd", "spatial", "tucker"}));
    }
    if (value.contains("data_aware")) {
      if (!value["data_aware"].is_boolean()) {
        return expected(at(where, "data_aware"), value["data_aware"], "true or false");
      }
      rank.data_aware = value["data_aware"].get<bool>();
    }
    if (value.contains("energy")) {
      const Json& energy = value["energy"];
      if (value.contains("share")) {
        return invalid_argument(std::string(where) + ": both \"share\" and \"energy\"; expected one of them");
      }
      if (!energy.is_number() || !(energy.get<double>() > 0) || !(energy.get<double>() < 1)) {
        return expected(at(where, "energy"), energy, "a number above 0 and below 1");
      }
      rank.energy = energy.get<double>();
      return rank;
    }
    if (!value.contains("share")) return rank;
    share = &value["share"];
  }
  if (!share->is_number() || !(share->get<double>() > 0) || !(share->get<double>() <= 1)) {
    return expected(where, *share, "a share above 0 and at most 1");
  }
  rank.share = share->get<double>();
  return rank;
}

Result<CodebookSpec> parse_codebook(const Json& value, std::string_view where) {
  CodebookSpec codebook;
  const Json* entries = &value;
  if (value.is_object()) {
    KERF_TRY(check_keys(value, where, {"entries", "init"}));
    if (value.contains("init")) {
      KERF_ASSIGN(codebook.init,
                  one_of(value["init"], at(where, "init"), {"linear", "density", "random"}));
    }
    if (!value.contains("entries")) {
      return invalid_argument(std::string(where) + ": no \"entries\"; expected 2…256");
    }
    entries = &value["entries"];
  }
  if (*entries == 0) return codebook;  // none: how a study's space says "without"
  KERF_ASSIGN(codebook.entries, integer_in(*entries, where, 2, 256));
  return codebook;
}

Result<int> parse_weight_bits(const Json& value, std::string_view where) {
  if (value == "ternary") return kTernaryBits;
  if (value.is_number_integer()) {
    const auto bits = value.get<std::int64_t>();
    if (bits == 32 || bits == 16 || (bits >= 1 && bits <= 8)) return static_cast<int>(bits);
  }
  return expected(where, value, "32, 16, 8…1 or \"ternary\"");
}

Result<std::string> parse_granularity(const Json& value, std::string_view where) {
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    if (text == "channel" || text == "tensor") return text;
    if (text.starts_with("group:") && text.size() > 6 && text.size() < 12 && text[6] != '0' &&
        std::all_of(text.begin() + 6, text.end(), [](char c) { return c >= '0' && c <= '9'; })) {
      return text;
    }
  }
  return expected(where, value, "\"channel\", \"tensor\" or \"group:N\"");
}

Result<DistillSpec> parse_distill(const Json& value, std::string_view where) {
  DistillSpec distill;
  KERF_TRY(check_keys(value, where,
                      {"seconds", "epochs", "temperature", "optimizer", "learning_rate", "seed"}));
  const auto positive = [&](const char* key, double& target) -> Result<void> {
    if (!value.contains(key)) return {};
    if (!value[key].is_number() || !(value[key].get<double>() > 0)) {
      return expected(at(where, key), value[key], "a number above 0");
    }
    target = value[key].get<double>();
    return {};
  };
  KERF_TRY(positive("seconds", distill.seconds));
  KERF_TRY(positive("temperature", distill.temperature));
  KERF_TRY(positive("learning_rate", distill.learning_rate));
  if (value.contains("epochs")) {
    KERF_ASSIGN(distill.epochs, integer_in(value["epochs"], at(where, "epochs"), 1, 100000));
  }
  if (value.contains("seed")) {
    KERF_ASSIGN(distill.seed, integer_in(value["seed"], at(where, "seed"), 0, 2147483647));
  }
  if (value.contains("optimizer")) {
    KERF_ASSIGN(distill.optimizer,
                one_of(value["optimizer"], at(where, "optimizer"), {"adam", "sgd"}));
  }
  return distill;
}

Result<std::vector<std::string>> parse_recovery(const Json& value, std::string_view where) {
  std::vector<std::string> steps;
  const Json list = value.is_array() ? value : Json::array({value});
  for (const Json& item : list) {
    KERF_ASSIGN(std::string step,
                one_of(item, where, {"none", "bias_correction", "reconstruct", "batch_norm", "distill"}));
    if (step == "none") continue;
    if (!steps.empty() && steps.back() == "distill") {
      return invalid_argument(std::string(where) + ": \"" + step +
                              "\" after \"distill\"; expected \"distill\" last: it trains the "
                              "rounded model, what is corrected later would be taken off twice");
    }
    steps.push_back(std::move(step));
  }
  return steps;
}

Json prune_json(const PruneSpec& prune) {
  Json out = {{"structure", prune.structure}, {"ratio", prune.ratio}};
  if (prune.score != PruneSpec{}.score) out["score"] = prune.score;
  return out;
}

/// The keys of a layer plan that differ from the defaults.
Json reduced_json(const LayerPlan& plan) {
  const LayerPlan base;
  Json out = Json::object();
  if (plan.weight_bits != base.weight_bits) {
    out["weight_bits"] = plan.weight_bits == kTernaryBits ? Json("ternary") : Json(plan.weight_bits);
  }
  if (plan.activation_bits != base.activation_bits) out["activation_bits"] = plan.activation_bits;
  if (plan.weight_bits != 32 && plan.weight_bits != 16) {
    if (plan.granularity != base.granularity) out["granularity"] = plan.granularity;
    if (plan.symmetric != base.symmetric) out["symmetric"] = plan.symmetric;
    if (plan.range != base.range) out["range"] = plan.range;
    if (plan.weight_range != weight_range_of(plan.range)) out["weight_range"] = plan.weight_range;
    if (plan.rounding != base.rounding) out["rounding"] = plan.rounding;
    if (plan.activation_bits <= 8 && plan.activation_range != base.activation_range) {
      out["activation_range"] = plan.activation_range;
    }
  }
  if (plan.prune.ratio > 0) out["prune"] = prune_json(plan.prune);
  if (plan.rank.factorizes()) {
    out["rank"] = {{"form", plan.rank.form}, {"data_aware", plan.rank.data_aware}};
    if (plan.rank.energy > 0) {
      out["rank"]["energy"] = plan.rank.energy;
    } else {
      out["rank"]["share"] = plan.rank.share;
    }
  }
  if (plan.codebook.entries > 0) {
    out["codebook"] = {{"entries", plan.codebook.entries}, {"init", plan.codebook.init}};
  }
  return out;
}

}  // namespace

CompressionPlan::CompressionPlan() = default;
CompressionPlan::~CompressionPlan() = default;
CompressionPlan::CompressionPlan(const CompressionPlan&) = default;
CompressionPlan::CompressionPlan(CompressionPlan&&) noexcept = default;
CompressionPlan& CompressionPlan::operator=(const CompressionPlan&) = default;
CompressionPlan& CompressionPlan::operator=(CompressionPlan&&) noexcept = default;

const std::vector<std::string>& layer_keys() {
  static const std::vector<std::string> keys = {
      "weight_bits", "activation_bits", "activation_range", "granularity", "symmetric", "range",
      "weight_range", "rounding", "prune", "rank", "codebook"};
  return keys;
}

std::string weight_range_of(const std::string& range) {
  return range == "moving_average" ? "minmax" : range;
}

Result<void> apply_layer_key(const std::string& key, const Json& value, std::string_view where,
                             LayerPlan& plan) {
  const std::string here = at(where, key);
  if (key == "weight_bits") {
    KERF_ASSIGN(plan.weight_bits, parse_weight_bits(value, here));
  } else if (key == "activation_bits") {
    if (value != 32 && value != 16 && value != 8 && value != 1) {
      return expected(here, value, "32, 16, 8 or 1");
    }
    plan.activation_bits = value.get<int>();
  } else if (key == "activation_range") {
    KERF_ASSIGN(plan.activation_range, one_of(value, here, {"static", "dynamic"}));
  } else if (key == "granularity") {
    KERF_ASSIGN(plan.granularity, parse_granularity(value, here));
  } else if (key == "symmetric") {
    if (!value.is_boolean()) return expected(here, value, "true or false");
    plan.symmetric = value.get<bool>();
  } else if (key == "range") {
    KERF_ASSIGN(plan.range,
                one_of(value, here, {"minmax", "moving_average", "percentile", "entropy", "mse"}));
  } else if (key == "weight_range") {
    KERF_ASSIGN(plan.weight_range, one_of(value, here, {"minmax", "percentile", "entropy", "mse"}));
  } else if (key == "rounding") {
    KERF_ASSIGN(plan.rounding, one_of(value, here, {"nearest", "adaptive"}));
  } else if (key == "prune") {
    KERF_ASSIGN(plan.prune, parse_prune(value, here));
  } else if (key == "rank") {
    KERF_ASSIGN(plan.rank, parse_rank(value, here));
  } else if (key == "codebook") {
    KERF_ASSIGN(plan.codebook, parse_codebook(value, here));
  } else {
    return check_keys(Json{{key, value}}, where,
                      {"weight_bits", "activation_bits", "activation_range", "granularity",
                       "symmetric", "range", "weight_range", "rounding", "prune", "rank",
                       "codebook"});
  }
  return {};
}

Result<CompressionPlan> CompressionPlan::parse(const Json& document) {
  CompressionPlan plan;
  KERF_TRY(check_keys(document, "plan", {"global", "layers"}));
  if (document.contains("global")) {
    const Json& global = document["global"];
    KERF_TRY(check_keys(global, "plan.global",
                        {"equalize", "recovery", "distill", "prune", "weight_bits",
                         "activation_bits", "activation_range", "granularity", "symmetric",
                         "range", "weight_range", "rounding", "rank", "codebook"}));
    for (const auto& [key, value] : global.items()) {
      if (key == "equalize") {
        if (!value.is_boolean()) return expected("plan.global.equalize", value, "true or false");
        plan.equalize_ = value.get<bool>();
      } else if (key == "recovery") {
        KERF_ASSIGN(plan.recovery_, parse_recovery(value, "plan.global.recovery"));
      } else if (key == "distill") {
        KERF_ASSIGN(plan.distill_, parse_distill(value, "plan.global.distill"));
      } else if (key == "prune" && value.is_number()) {
        if (!(value.get<double>() >= 0) || !(value.get<double>() < 1)) {
          return expected("plan.global.prune", value, "a number from 0 to below 1");
        }
        if (value.get<double>() > 0) plan.global_prune_ratio_ = value.get<double>();
      } else {
        LayerPlan checked;
        KERF_TRY(apply_layer_key(key, value, "plan.global", checked));
        plan.defaults_[key] = value;
      }
    }
  }
  if (document.contains("layers")) {
    const Json& layers = document["layers"];
    if (!layers.is_object()) return expected("plan.layers", layers, "an object of layers by name");
    for (const auto& [name, keys] : layers.items()) {
      const std::string where = "plan.layers." + name;
      if (!keys.is_object()) return expected(where, keys, "an object");
      LayerPlan checked;
      for (const auto& [key, value] : keys.items()) {
        KERF_TRY(apply_layer_key(key, value, where, checked));
        plan.layers_[name][key] = value;
      }
      if (keys.empty()) plan.layers_[name];
    }
  }
  // What no kernel stands for is refused here, whatever the model. Only where the entry itself asks
  // for 8-bit activations: as a default in `global` they mean the layers that have integer weights.
  for (const auto& [name, keys] : plan.layers_) {
    const auto bits = keys.find("activation_bits");
    if (bits != keys.end() && (bits->second == 8 || bits->second == 1) &&
        plan.layer(name).weight_bits == 32) {
      return invalid_argument("plan.layers." + name + ": activation_bits " + bits->second.dump() +
                              " with weight_bits 32; expected 8 or fewer weight "
                              "bits, or activation_bits 32");
    }
  }
  return plan;
}

LayerPlan CompressionPlan::layer(const std::string& name) const {
  LayerPlan plan;
  bool weight_range_given = false;
  const auto apply = [&](const LayerKeys& keys) {
    for (const auto& [key, value] : keys) {
      // Checked by parse(); a value that was accepted there is accepted here.
      (void)apply_layer_key(key, value, "plan", plan).has_value();
      weight_range_given = weight_range_given || key == "weight_range";
    }
  };
  apply(defaults_);
  if (const auto own = layers_.find(name); own != layers_.end() && name != "*") {
    apply(own->second);
  } else if (const auto star = layers_.find("*"); star != layers_.end()) {
    apply(star->second);
  }
  if (!weight_range_given) plan.weight_range = weight_range_of(plan.range);
  // 16 means bf16 on both sides.
  if (plan.weight_bits == 16) plan.activation_bits = 16;
  if (plan.weight_bits == 32) plan.activation_bits = 32;
  return plan;
}

bool CompressionPlan::names(const std::string& layer) const {
  return layer != "*" && layers_.contains(layer);
}

bool CompressionPlan::names_key(const std::string& layer, const std::string& key) const {
  const auto own = layers_.find(layer);
  return layer != "*" && own != layers_.end() && own->second.contains(key);
}

std::vector<std::string> CompressionPlan::named_layers() const {
  std::vector<std::string> names;
  for (const auto& [name, keys] : layers_) {
    if (name != "*") names.push_back(name);
  }
  return names;
}

bool CompressionPlan::equalize() const { return equalize_; }
const std::vector<std::string>& CompressionPlan::recovery() const { return recovery_; }
const DistillSpec& CompressionPlan::distill() const { return distill_; }
std::optional<double> CompressionPlan::global_prune_ratio() const { return global_prune_ratio_; }

bool CompressionPlan::is_baseline() const {
  if (equalize_ || !recovery_.empty() || global_prune_ratio_.has_value()) return false;
  auto names = named_layers();
  names.emplace_back("*");
  return std::all_of(names.begin(), names.end(),
                     [&](const std::string& name) { return reduced_json(layer(name)).empty(); });
}

Json CompressionPlan::to_json() const {
  Json global = Json::object();
  for (const auto& [key, value] : defaults_) global[key] = value;
  if (equalize_) global["equalize"] = true;
  if (!recovery_.empty()) global["recovery"] = recovery_;
  if (distill_ != DistillSpec{}) {
    global["distill"] = {{"seconds", distill_.seconds},
                         {"epochs", distill_.epochs},
                         {"temperature", distill_.temperature},
                         {"optimizer", distill_.optimizer},
                         {"learning_rate", distill_.learning_rate}};
    // Left out where it is the default, so that texts of plans from before it keep their hashes.
    if (distill_.seed != DistillSpec{}.seed) global["distill"]["seed"] = distill_.seed;
  }
  if (global_prune_ratio_) global["prune"] = *global_prune_ratio_;
  Json layers = Json::object();
  for (const auto& [name, keys] : layers_) {
    Json entry = Json::object();
    for (const auto& [key, value] : keys) entry[key] = value;
    layers[name] = entry;
  }
  Json out = Json::object();
  if (!global.empty()) out["global"] = global;
  if (!layers.empty()) out["layers"] = layers;
  return out;
}

std::string CompressionPlan::canonical() const {
  Json layers = Json::object();
  auto names = named_layers();
  names.emplace_back("*");
  const Json star = reduced_json(layer("*"));
  for (const std::string& name : names) {
    const Json reduced = reduced_json(layer(name));
    if (name == "*" ? !reduced.empty() : reduced != star) layers[name] = reduced;
  }
  Json out = Json::object();
  if (!layers.empty()) out["layers"] = layers;
  if (!is_baseline()) {
    if (equalize_) out["equalize"] = true;
    if (!recovery_.empty()) out["recovery"] = recovery_;
    if (std::find(recovery_.begin(), recovery_.end(), "distill") != recovery_.end()) {
      out["distill"] = to_json()["global"].value("distill", Json());
    }
    if (global_prune_ratio_) out["prune"] = *global_prune_ratio_;
  }
  return canonical_text(out);
}

}  // namespace kerf
