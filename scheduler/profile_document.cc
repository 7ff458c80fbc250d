#include "scheduler/profile_document.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

namespace kerf::scheduler {
namespace {

Json number(double value) { return std::isfinite(value) ? Json(value) : Json(); }

double number_of(const Json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

using Table = std::vector<std::vector<std::vector<double>>>;  // [dimension][value][metric]

Json table_json(const Table& table) {
  Json out = Json::array();
  for (const auto& dimension : table) {
    Json values = Json::array();
    for (const auto& metrics : dimension) {
      Json list = Json::array();
      for (const double metric : metrics) list.push_back(number(metric));
      values.push_back(std::move(list));
    }
    out.push_back(std::move(values));
  }
  return out;
}

Table table_of(const Json& document) {
  Table out;
  for (const Json& dimension : document) {
    auto& values = out.emplace_back();
    for (const Json& metrics : dimension) {
      auto& list = values.emplace_back();
      for (const Json& metric : metrics) list.push_back(number_of(metric));
    }
  }
  return out;
}

}  // namespace

Json profile_json(const search::Profile& profile) {
  Json neighbours = Json::array();
  for (const auto& pair : profile.neighbours) {
    Json adds = Json::array();
    for (const auto& row : pair.adds) {
      Json list = Json::array();
      for (const double value : row) list.push_back(number(value));
      adds.push_back(std::move(list));
    }
    neighbours.push_back(
        {{"first", pair.first}, {"second", pair.other()}, {"metric", pair.metric}, {"adds", std::move(adds)}});
  }
  Json exact = Json::array();
  for (const bool one : profile.exact) exact.push_back(one);
  Json out = {{"alone", table_json(profile.alone)}, {"neighbours", std::move(neighbours)}, {"exact", std::move(exact)}};
  if (!profile.leans.empty()) {
    Json& leans = out["leans"] = Json::array();
    for (const auto& one : profile.leans) leans.push_back({number(one.kl), number(one.lean), number(one.error)});
    out["lean_of"] = profile.lean_of;
    out["about_labels"] = profile.about_labels;
  }
  return out;
}

search::Profile profile_of(const Json& document) {
  try {
    search::Profile out;
    out.alone = table_of(document.at("alone"));
    if (document.contains("leans")) {
      for (const Json& one : document["leans"]) {
        out.leans.push_back({number_of(one.at(0)), number_of(one.at(1)), number_of(one.at(2))});
      }
      document.at("lean_of").get_to(out.lean_of);
      document.at("about_labels").get_to(out.about_labels);
    }
    for (const Json& pair : document.at("neighbours")) {
      search::Profile::Neighbours one{pair.at("first").get<std::int64_t>(),
                                      pair.at("metric").get<std::int64_t>(), {}, pair.value("second", std::int64_t{-1})};
      for (const Json& row : pair.at("adds")) {
        auto& list = one.adds.emplace_back();
        for (const Json& value : row) list.push_back(number_of(value));
      }
      out.neighbours.push_back(std::move(one));
    }
    for (const Json& exact : document.at("exact")) out.exact.push_back(exact.get<bool>());
    return out;
  } catch (const Json::exception&) {
    return {};
  }
}

}  // namespace kerf::scheduler
