#include "core/look.h"

#include <cmath>
#include <nlohmann/json.hpp>

namespace kerf {
namespace {

// JSON has no NaN: what isn't known isn't there.
void put(Json& out, const char* key, double value) {
  if (std::isfinite(value)) out[key] = value;
}

template <class Body>
auto parsed(const char* what, Body body) -> Result<decltype(body())> {
  try {
    return body();
  } catch (const Json::exception& e) {
    return invalid_argument(std::string(what) + ": " + e.what());
  }
}

template <class Look>
Json list_json(const std::vector<LookResult::One<Look>>& list) {
  Json out = Json::array();
  for (const auto& one : list) {
    if (one.look) {
      out.push_back(one.look->to_json());
    } else if (!one.error.empty()) {
      out.push_back({{"error", one.error}});
    } else {
      out.push_back(nullptr);
    }
  }
  return out;
}

template <class Look>
Result<std::vector<LookResult::One<Look>>> parse_list(const Json& list, const char* what) {
  if (!list.is_array()) return invalid_argument(std::string(what) + ": expected an array");
  std::vector<LookResult::One<Look>> out(list.size());
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (list[i].is_null()) continue;
    if (list[i].is_object() && list[i].contains("error")) {
      out[i].error = list[i].value("error", Json()).dump();
      if (list[i]["error"].is_string()) out[i].error = list[i]["error"].get<std::string>();
      continue;
    }
    KERF_ASSIGN(out[i].look, Look::parse(list[i]));
  }
  return out;
}

}  // namespace

Json DamageLook::to_json() const {
  Json out = {{"storage_bytes", storage_bytes}, {"macs", macs}};
  put(out, "kl", kl);
  put(out, "scores", scores);
  put(out, "noise", noise);
  put(out, "flips", flips);
  return out;
}

Result<DamageLook> DamageLook::parse(const Json& document) {
  return parsed("look at damage", [&] {
    DamageLook out;
    out.kl = document.value("kl", kUnknown);
    out.scores = document.value("scores", kUnknown);
    out.noise = document.value("noise", kUnknown);
    out.flips = document.value("flips", kUnknown);
    out.storage_bytes = document.at("storage_bytes").get<std::int64_t>();
    out.macs = document.at("macs").get<std::int64_t>();
    return out;
  });
}

// Not "error": that is what a look has that couldn't be taken.
Json LabelLook::to_json() const { return {{"kl", kl}, {"lean", lean}, {"standard_error", error}, {"samples", samples}}; }

Result<LabelLook> LabelLook::parse(const Json& document) {
  return parsed("look at labels", [&] {
    return LabelLook{document.at("kl").get<double>(), document.at("lean").get<double>(),
                     document.at("standard_error").get<double>(), document.at("samples").get<std::int64_t>()};
  });
}

double CostLook::total_us() const {
  double sum = rest_us;
  for (const auto& [name, layer] : layers) sum += layer.us + layer.before_us;
  return sum;
}

Json CostLook::to_json() const {
  Json list = Json::object();
  for (const auto& [name, layer] : layers) list[name] = {layer.us, layer.before_us, layer.weight_bytes};
  return {{"layers", list},
          {"rest_us", rest_us},
          {"weight_bytes", weight_bytes},
          {"storage_bytes", storage_bytes},
          {"macs", macs}};
}

Result<CostLook> CostLook::parse(const Json& document) {
  return parsed("look at cost", [&] {
    CostLook out;
    for (const auto& [name, layer] : document.at("layers").items()) {
      out.layers[name] = {layer.at(0).get<double>(), layer.at(1).get<double>(),
                          layer.at(2).get<std::int64_t>()};
    }
    out.rest_us = document.at("rest_us").get<double>();
    out.weight_bytes = document.at("weight_bytes").get<std::int64_t>();
    out.storage_bytes = document.at("storage_bytes").get<std::int64_t>();
    out.macs = document.at("macs").get<std::int64_t>();
    return out;
  });
}

Json LookRequest::to_json() const {
  Json out = {{"damage", damage}, {"cost", cost}, {"samples", samples}, {"timed", timed}, {"seconds", seconds}};
  if (!labels.empty()) {
    out["labels"] = labels;
    out["beside"] = beside;
    out["label_samples"] = label_samples;
    out["if_overconfident"] = if_overconfident;
  }
  return out;
}

Result<LookRequest> LookRequest::parse(const Json& document) {
  return parsed("looks", [&] {
    LookRequest out;
    out.damage = document.at("damage").get<std::vector<Json>>();
    out.cost = document.at("cost").get<std::vector<Json>>();
    out.labels = document.value("labels", Json::array()).get<std::vector<Json>>();
    out.beside = document.value("beside", Json::object());
    out.label_samples = document.value("label_samples", out.label_samples);
    out.if_overconfident = document.value("if_overconfident", false);
    out.samples = document.at("samples").get<std::int64_t>();
    out.timed = document.value("timed", true);
    out.seconds = document.value("seconds", 0.0);
    return out;
  });
}

Json LookResult::to_json() const {
  return {{"damage", list_json(damage)}, {"cost", list_json(cost)}, {"labels", list_json(labels)},
          {"seconds", seconds}, {"statistics_seconds", statistics_seconds}};
}

Result<LookResult> LookResult::parse(const Json& document) {
  LookResult out;
  if (!document.is_object()) return invalid_argument("looks: expected an object");
  KERF_ASSIGN(out.damage, parse_list<DamageLook>(document.value("damage", Json()), "looks.damage"));
  KERF_ASSIGN(out.cost, parse_list<CostLook>(document.value("cost", Json()), "looks.cost"));
  if (document.contains("labels")) {
    KERF_ASSIGN(out.labels, parse_list<LabelLook>(document["labels"], "looks.labels"));
  }
  const Json seconds = document.value("seconds", Json());
  if (!seconds.is_number()) return invalid_argument("looks.seconds: expected a number");
  out.seconds = seconds.get<double>();
  if (const Json more = document.value("statistics_seconds", Json(0)); more.is_number()) out.statistics_seconds = more.get<double>();
  return out;
}

}  // namespace kerf
