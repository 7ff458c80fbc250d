#include "core/study.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/sha256.h"

namespace kerf {
namespace {

Error expected(std::string_view where, const Json& value, std::string_view expectation) {
  return invalid_argument(std::string(where) + ": " + canonical_text(value).substr(0, 80) +
                          "; expected " + std::string(expectation));
}

Result<std::string> text_of(const Json& value, std::string_view where) {
  if (value.is_string() && !value.get_ref<const std::string&>().empty()) {
    return value.get<std::string>();
  }
  return expected(where, value, "a text that is not empty");
}

Result<std::int64_t> count_of(const Json& value, std::string_view where, std::int64_t low,
                              std::int64_t high) {
  if (value.is_number_integer()) {
    const auto number = value.get<std::int64_t>();
    if (number >= low && number <= high) return number;
  }
  return expected(where, value,
                  "an integer from " + std::to_string(low) + " to " + std::to_string(high));
}

Result<double> number_of(const Json& value, std::string_view where) {
  if (value.is_number() && std::isfinite(value.get<double>())) return value.get<double>();
  return expected(where, value, "a finite number");
}

Result<std::vector<double>> numbers_of(const Json& value, std::string_view where) {
  std::vector<double> out;
  if (!value.is_array()) return expected(where, value, "an array of numbers");
  for (const Json& item : value) {
    KERF_ASSIGN(const double number, number_of(item, where));
    out.push_back(number);
  }
  return out;
}

const MetricInfo* known_metric(const Json& value) {
  return value.is_string() ? find_metric(value.get_ref<const std::string&>()) : nullptr;
}

std::string metric_names() {
  std::string list;
  for (const MetricInfo& metric : metrics()) list += " " + std::string(metric.name);
  return list;
}

Result<std::vector<Objective>> parse_objectives(const Json& value) {
  std::vector<Objective> objectives;
  if (!value.is_array() || value.empty() || value.size() > 4) {
    return expected("study.objectives", value, "an array of one to four objectives");
  }
  for (std::size_t i = 0; i < value.size(); ++i) {
    const std::string where = "study.objectives[" + std::to_string(i) + "]";
    KERF_TRY(check_keys(value[i], where, {"metric", "direction"}));
    const Json metric = value[i].value("metric", Json());
    const MetricInfo* info = known_metric(metric);
    if (info == nullptr) return expected(where + ".metric", metric, "one of" + metric_names());
    Objective objective{std::string(info->name), info->better};
    if (value[i].contains("direction")) {
      const Json& direction = value[i]["direction"];
      const auto parsed = direction.is_string()
                              ? direction_from_string(direction.get_ref<const std::string&>())
                              : std::nullopt;
      if (!parsed) return expected(where + ".direction", direction, "\"minimize\" or \"maximize\"");
      objective.direction = *parsed;
    }
    for (const Objective& other : objectives) {
      if (other.metric == objective.metric) {
        return expected(where + ".metric", metric, "a metric that is not an objective already");
      }
    }
    objectives.push_back(std::move(objective));
  }
  return objectives;
}

Result<std::vector<Constraint>> parse_constraints(const Json& value) {
  std::vector<Constraint> constraints;
  if (!value.is_array() || value.size() > 16) {
    return expected("study.constraints", value, "an array of at most 16 constraints");
  }
  for (std::size_t i = 0; i < value.size(); ++i) {
    const std::string where = "study.constraints[" + std::to_string(i) + "]";
    KERF_TRY(check_keys(value[i], where, {"metric", "max", "min"}));
    const Json metric = value[i].value("metric", Json());
    const MetricInfo* info = known_metric(metric);
    if (info == nullptr) return expected(where + ".metric", metric, "one of" + metric_names());
    KERF_ASSIGN(Constraint constraint, constraint_of(std::string(info->name), value[i], where));
    constraints.push_back(std::move(constraint));
  }
  return constraints;
}

Result<std::vector<Json>> prune_choices(const Json& value, std::string_view where) {
  KERF_TRY(check_keys(value, where, {"structure", "ratios", "ratio", "score"}));
  if (value.contains("ratio")) return std::vector<Json>{value};
  if (!value.contains("ratios")) return std::vector<Json>{value};  // n:m has its ratio in its name
  const Json& ratios = value["ratios"];
  if (!ratios.is_array() || ratios.empty()) {
    return expected(std::string(where) + ".ratios", ratios, "an array of ratios");
  }
  std::vector<Json> out;
  for (const Json& ratio : ratios) {
    Json one = value;
    one.erase("ratios");
    one["ratio"] = ratio;
    out.push_back(std::move(one));
  }
  return out;
}

Result<LayerChoices> parse_choices(const Json& value, const std::string& where, bool is_rule) {
  LayerChoices choices;
  if (!value.is_object()) return expected(where, value, "an object");
  for (const auto& [key, list] : value.items()) {
    if (is_rule && key == "match") continue;
    const std::string here = where + "." + key;
    std::vector<Json> values;
    if (key == "prune") {
      const Json specs = list.is_array() ? list : Json::array({list});
      for (const Json& spec : specs) {
        KERF_ASSIGN(const std::vector<Json> expanded, prune_choices(spec, here));
        values.insert(values.end(), expanded.begin(), expanded.end());
      }
    } else if (list.is_array()) {
      values.assign(list.begin(), list.end());
    } else {
      values.push_back(list);
    }
    if (values.empty() || values.size() > 64) {
      return expected(here, list, "a list of one to 64 values");
    }
    for (const Json& one : values) {
      LayerPlan checked;
      KERF_TRY(apply_layer_key(key, one, where, checked));
    }
    choices[key] = std::move(values);
  }
  return choices;
}

Result<SpaceDefinition> parse_space(const Json& value) {
  SpaceDefinition space;
  KERF_TRY(check_keys(value, "study.space", {"default", "layers", "ties", "global", "snap_channels"}));
  if (value.contains("snap_channels")) {
    if (!value["snap_channels"].is_boolean()) {
      return expected("study.space.snap_channels", value["snap_channels"], "true or false");
    }
    space.snap_channels = value["snap_channels"].get<bool>();
  }
  if (value.contains("default")) {
    KERF_ASSIGN(space.all_layers, parse_choices(value["default"], "study.space.default", false));
  }
  if (value.contains("layers")) {
    if (!value["layers"].is_array()) {
      return expected("study.space.layers", value["layers"], "an array of rules with \"match\"");
    }
    for (std::size_t i = 0; i < value["layers"].size(); ++i) {
      const std::string where = "study.space.layers[" + std::to_string(i) + "]";
      const Json& rule = value["layers"][i];
      LayerRule parsed;
      if (!rule.is_object() || !rule.contains("match")) {
        return expected(where, rule, "an object with \"match\"");
      }
      KERF_ASSIGN(parsed.match, text_of(rule["match"], where + ".match"));
      KERF_ASSIGN(parsed.choices, parse_choices(rule, where, true));
      space.layers.push_back(std::move(parsed));
    }
  }
  if (value.contains("ties")) {
    if (!value["ties"].is_array()) {
      return expected("study.space.ties", value["ties"], "an array of arrays of layer names");
    }
    for (const Json& tie : value["ties"]) {
      std::vector<std::string> names;
      if (!tie.is_array() || tie.size() < 2) {
        return expected("study.space.ties", tie, "an array of two or more layer names");
      }
      for (const Json& name : tie) {
        KERF_ASSIGN(std::string text, text_of(name, "study.space.ties"));
        names.push_back(std::move(text));
      }
      space.ties.push_back(std::move(names));
    }
  }
  if (value.contains("global")) {
    const Json& global = value["global"];
    if (!global.is_object()) return expected("study.space.global", global, "an object");
    for (const auto& [key, list] : global.items()) {
      const Json values = list.is_array() ? list : Json::array({list});
      if (values.empty()) return expected("study.space.global." + key, list, "one value or more");
      for (const Json& one : values) {
        const auto checked = CompressionPlan::parse({{"global", {{key, one}}}});
        if (!checked.has_value()) return with_context("study.space.global", checked.error());
      }
      space.global[key].assign(values.begin(), values.end());
    }
  }
  return space;
}

// Without a calibration set nothing that has to see activations.
SpaceDefinition default_space(bool calibrated) {
  SpaceDefinition space;
  space.all_layers["weight_bits"] = {4, 8, 32};
  if (calibrated) space.all_layers["activation_bits"] = {8, 32};
  for (const double ratio : {0.0, 0.25, 0.5}) {
    space.all_layers["prune"].push_back({{"structure", "channel"}, {"ratio", ratio}});
  }
  space.global["range"] = {"minmax", "percentile", "entropy", "mse"};
  if (calibrated) space.global["recovery"] = {"none", "bias_correction"};
  space.snap_channels = true;
  return space;
}

Result<RacingSettings> parse_racing(const Json& value) {
  RacingSettings racing;
  const std::string where = "study.search.racing";
  if (value.is_boolean()) {
    racing.on = value.get<bool>();
    return racing;
  }
  if (!value.is_object()) return expected(where, value, "true, false, or {\"confidence\": 0.999, \"front\": false}");
  KERF_TRY(check_keys(value, where, {"confidence", "front"}));
  if (value.contains("confidence")) {
    KERF_ASSIGN(racing.confidence, number_of(value["confidence"], where + ".confidence"));
    if (!(racing.confidence >= 0.5 && racing.confidence < 1)) {
      return expected(where + ".confidence", value["confidence"], "0.5 to below 1");
    }
  }
  if (value.contains("front")) {
    if (!value["front"].is_boolean()) return expected(where + ".front", value["front"], "true or false");
    racing.front = value["front"].get<bool>();
  }
  return racing;
}

Result<Window> parse_window(const Json& value) {
  Window window;
  KERF_TRY(check_keys(value, "study.window", {"start", "stop", "timezone"}));
  const auto time = [&](const char* key) -> Result<std::string> {
    const Json text = value.value(key, Json());
    const std::string where = std::string("study.window.") + key;
    if (!text.is_string()) return expected(where, text, "a time such as \"22:00\"");
    const auto& t = text.get_ref<const std::string&>();
    const bool shaped = t.size() == 5 && t[2] == ':' &&
                        std::all_of(t.begin(), t.end(),
                                    [&](const char& c) { return &c == &t[2] || (c >= '0' && c <= '9'); });
    if (!shaped || t.substr(0, 2) > "23" || t.substr(3) > "59") {
      return expected(where, text, "a time such as \"22:00\"");
    }
    return t;
  };
  KERF_ASSIGN(window.start, time("start"));
  KERF_ASSIGN(window.stop, time("stop"));
  if (value.contains("timezone")) {
    KERF_ASSIGN(window.timezone, text_of(value["timezone"], "study.window.timezone"));
  }
  return window;
}

Json choices_json(const LayerChoices& choices) {
  Json out = Json::object();
  for (const auto& [key, values] : choices) out[key] = values;
  return out;
}

}  // namespace

Result<Constraint> constraint_of(const std::string& metric, const Json& bounds, const std::string& where) {
  Constraint constraint{metric, std::nullopt, std::nullopt};
  if (bounds.contains("max")) {
    KERF_ASSIGN(constraint.max, number_of(bounds["max"], where + ".max"));
  }
  if (bounds.contains("min")) {
    KERF_ASSIGN(constraint.min, number_of(bounds["min"], where + ".min"));
  }
  if (!constraint.max && !constraint.min) {
    return invalid_argument(where + ": neither \"max\" nor \"min\"; expected one of them");
  }
  if (constraint.max && constraint.min && *constraint.max < *constraint.min) {
    return expected(where + ".max", bounds["max"], "at least \"min\", " + canonical_text(bounds["min"]));
  }
  return constraint;
}

Result<Preprocess> Preprocess::parse(const Json& document) {
  Preprocess preprocess;
  KERF_TRY(check_keys(document, "preprocess", {"scale", "mean", "std", "layout"}));
  if (document.contains("scale")) {
    KERF_ASSIGN(preprocess.scale, number_of(document["scale"], "preprocess.scale"));
  }
  if (document.contains("mean")) {
    KERF_ASSIGN(preprocess.mean, numbers_of(document["mean"], "preprocess.mean"));
  }
  if (document.contains("std")) {
    KERF_ASSIGN(preprocess.std, numbers_of(document["std"], "preprocess.std"));
    for (const double value : preprocess.std) {
      if (value == 0) return expected("preprocess.std", document["std"], "values other than 0");
    }
  }
  if (document.contains("layout")) {
    if (document["layout"] != "NCHW" && document["layout"] != "NHWC") {
      return expected("preprocess.layout", document["layout"], "\"NCHW\" or \"NHWC\"");
    }
    preprocess.layout = document["layout"].get<std::string>();
  }
  return preprocess;
}

Json Preprocess::to_json() const {
  Json out = {{"scale", scale}, {"layout", layout}};
  if (!mean.empty()) out["mean"] = mean;
  if (!std.empty()) out["std"] = std;
  return out;
}

Result<StudyDefinition> StudyDefinition::parse(const Json& document) {
  StudyDefinition study;
  KERF_TRY(check_keys(document, "study",
                      {"name", "model", "data", "preprocess", "objectives", "constraints", "space",
                       "search", "budget", "measure", "hardware", "window"}));
  if (!document.contains("model")) return invalid_argument("study: no \"model\"; expected its path");
  if (!document.contains("data")) {
    return invalid_argument("study: no \"data\"; expected a path, or calibration, evaluation, test");
  }
  KERF_ASSIGN(study.model, text_of(document["model"], "study.model"));
  if (document.contains("name")) {
    KERF_ASSIGN(study.name, text_of(document["name"], "study.name"));
    if (study.name.size() > 200) return invalid_argument("study.name: longer than 200 bytes");
  } else {
    study.name = study.model.substr(study.model.find_last_of('/') + 1);
  }

  const Json& data = document["data"];
  if (data.is_string()) {
    KERF_ASSIGN(study.data.single, text_of(data, "study.data"));
  } else {
    KERF_TRY(check_keys(data, "study.data", {"calibration", "evaluation", "test"}));
    if (!data.contains("evaluation")) {
      return invalid_argument("study.data: no \"evaluation\"; expected its path");
    }
    KERF_ASSIGN(study.data.evaluation, text_of(data["evaluation"], "study.data.evaluation"));
    if (data.contains("calibration")) {
      KERF_ASSIGN(study.data.calibration, text_of(data["calibration"], "study.data.calibration"));
    }
    if (data.contains("test")) {
      KERF_ASSIGN(study.data.test, text_of(data["test"], "study.data.test"));
    }
  }
  if (document.contains("preprocess")) {
    KERF_ASSIGN(study.preprocess, Preprocess::parse(document["preprocess"]));
  }

  study.objectives = {{"accuracy", Direction::kMaximize},
                      {"latency_p50_us", Direction::kMinimize},
                      {"storage_bytes", Direction::kMinimize}};
  if (document.contains("objectives")) {
    KERF_ASSIGN(study.objectives, parse_objectives(document["objectives"]));
    study.objectives_given = true;
  }
  if (document.contains("constraints")) {
    KERF_ASSIGN(study.constraints, parse_constraints(document["constraints"]));
  }
  study.space = default_space(!study.data.single.empty() || !study.data.calibration.empty());
  if (document.contains("space")) {
    KERF_ASSIGN(study.space, parse_space(document["space"]));
  }

  if (document.contains("search")) {
    const Json& search = document["search"];
    KERF_TRY(check_keys(search, "study.search", {"sampler", "seed", "racing"}));
    if (search.contains("sampler")) {
      KERF_ASSIGN(study.search.sampler, text_of(search["sampler"], "study.search.sampler"));
    }
    if (search.contains("seed")) {
      KERF_ASSIGN(study.search.seed, count_of(search["seed"], "study.search.seed", 0, 1LL << 31U));
    }
    if (search.contains("racing")) {
      KERF_ASSIGN(study.search.racing, parse_racing(search["racing"]));
    }
  }
  if (document.contains("budget")) {
    const Json& budget = document["budget"];
    KERF_TRY(check_keys(budget, "study.budget", {"trials", "seconds", "stagnation", "gain"}));
    if (budget.contains("trials")) {
      KERF_ASSIGN(study.budget.trials,
                  count_of(budget["trials"], "study.budget.trials", 1, 1'000'000));
    }
    if (budget.contains("seconds")) {
      KERF_ASSIGN(study.budget.seconds, number_of(budget["seconds"], "study.budget.seconds"));
      if (!(study.budget.seconds > 0)) {
        return expected("study.budget.seconds", budget["seconds"], "a number above 0");
      }
    }
    if (budget.contains("stagnation")) {
      KERF_ASSIGN(study.budget.stagnation,
                  count_of(budget["stagnation"], "study.budget.stagnation", 1, 1'000'000));
    }
    if (budget.contains("gain")) {
      KERF_ASSIGN(study.budget.gain, number_of(budget["gain"], "study.budget.gain"));
      if (!(study.budget.gain > 0 && study.budget.gain < 1)) {
        return expected("study.budget.gain", budget["gain"], "a share above 0 and below 1");
      }
    }
  }
  if (document.contains("measure")) {
    const Json& measure = document["measure"];
    KERF_TRY(check_keys(measure, "study.measure", {"threads", "batch"}));
    if (measure.contains("threads")) {
      KERF_ASSIGN(const auto threads, count_of(measure["threads"], "study.measure.threads", 1, 1024));
      study.measure.threads = static_cast<int>(threads);
    }
    if (measure.contains("batch")) {
      KERF_ASSIGN(study.measure.batch, count_of(measure["batch"], "study.measure.batch", 1, 65536));
    }
  }
  if (document.contains("hardware")) {
    const Json& hardware = document["hardware"];
    KERF_TRY(check_keys(hardware, "study.hardware", {"labels"}));
    const Json labels = hardware.value("labels", Json::object());
    if (!labels.is_object()) return expected("study.hardware.labels", labels, "an object of texts");
    for (const auto& [key, value] : labels.items()) {
      KERF_ASSIGN(study.hardware_labels[key], text_of(value, "study.hardware.labels." + key));
    }
  }
  if (document.contains("window")) {
    KERF_ASSIGN(study.window, parse_window(document["window"]));
  }
  return study;
}

Json StudyDefinition::to_json() const {
  Json out = {{"name", name}, {"model", model}};
  if (!data.single.empty()) {
    out["data"] = data.single;
  } else {
    Json files = {{"evaluation", data.evaluation}};
    if (!data.calibration.empty()) files["calibration"] = data.calibration;
    if (!data.test.empty()) files["test"] = data.test;
    out["data"] = files;
  }
  if (preprocess) out["preprocess"] = preprocess->to_json();
  if (objectives_given) {
    for (const Objective& objective : objectives) {
      out["objectives"].push_back({{"metric", objective.metric},
                                   {"direction", std::string(to_string(objective.direction))}});
    }
  }
  if (!constraints.empty()) {
    for (const Constraint& constraint : constraints) {
      Json one = {{"metric", constraint.metric}};
      if (constraint.max) one["max"] = *constraint.max;
      if (constraint.min) one["min"] = *constraint.min;
      out["constraints"].push_back(one);
    }
  }
  Json space_json = {{"default", choices_json(space.all_layers)}, {"global", Json::object()}};
  for (const LayerRule& rule : space.layers) {
    Json one = choices_json(rule.choices);
    one["match"] = rule.match;
    space_json["layers"].push_back(one);
  }
  if (!space.ties.empty()) space_json["ties"] = space.ties;
  if (space.snap_channels) space_json["snap_channels"] = true;
  for (const auto& [key, values] : space.global) space_json["global"][key] = values;
  out["space"] = space_json;
  out["search"] = {{"sampler", search.sampler}, {"seed", search.seed}};
  // The default stays unsaid, so that studies of before keep their identity.
  if (!search.racing.on) {
    out["search"]["racing"] = false;
  } else if (search.racing != RacingSettings()) {
    out["search"]["racing"] = {{"confidence", search.racing.confidence}, {"front", search.racing.front}};
  }
  out["budget"] = {{"trials", budget.trials}};
  if (budget.seconds > 0) out["budget"]["seconds"] = budget.seconds;
  if (budget.stagnation > 0) out["budget"]["stagnation"] = budget.stagnation;
  if (budget.gain > 0) out["budget"]["gain"] = budget.gain;
  out["measure"] = {{"threads", measure.threads}, {"batch", measure.batch}};
  if (!hardware_labels.empty()) out["hardware"] = {{"labels", hardware_labels}};
  if (window) {
    out["window"] = {
        {"start", window->start}, {"stop", window->stop}, {"timezone", window->timezone}};
  }
  return out;
}

std::string StudyDefinition::identity() const {
  Json document = to_json();
  for (const char* key : {"name", "budget", "window", "hardware"}) document.erase(key);
  return sha256_hex(canonical_text(document));
}

bool matches(std::string_view pattern, std::string_view name) {
  std::size_t p = 0;
  std::size_t n = 0;
  std::size_t star = std::string_view::npos;
  std::size_t resume = 0;
  while (n < name.size()) {
    if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n]) && pattern[p] != '*') {
      ++p;
      ++n;
    } else if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace kerf
