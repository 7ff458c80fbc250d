#include "core/racing.h"

#include <nlohmann/json.hpp>

namespace kerf {

bool can_be_raced(const std::string& metric) {
  return metric == "accuracy_drop" || metric == "agreement" || metric == "top5";
}

Json RacingTerms::to_json() const {
  Json out = {{"alpha", alpha}};
  if (!limits.empty()) out["limits"] = limits;
  if (!rivals.empty()) {
    out["quality"] = quality_metric;
    for (const Rival& rival : rivals) {
      out["rivals"].push_back({{"trial", rival.trial}, {"quality", rival.quality}, {"others", rival.others}});
    }
  }
  return out;
}

Result<RacingTerms> RacingTerms::parse(const Json& document) {
  try {
    RacingTerms out;
    out.alpha = document.at("alpha").get<double>();
    if (!(out.alpha > 0 && out.alpha < 1)) return invalid_argument("racing.alpha: expected a number between 0 and 1");
    out.limits = document.value("limits", std::map<std::string, double>{});
    for (const auto& [metric, limit] : out.limits) {
      if (!can_be_raced(metric)) return invalid_argument("racing.limits: \"" + metric + "\" can't be raced");
    }
    if (document.contains("rivals")) {
      out.quality_metric = document.at("quality").get<std::string>();
      if (!can_be_raced(out.quality_metric)) {
        return invalid_argument("racing.quality: \"" + out.quality_metric + "\" can't be raced");
      }
      for (const Json& rival : document["rivals"]) {
        out.rivals.push_back({rival.at("trial").get<std::int64_t>(), rival.at("quality").get<double>(),
                              rival.at("others").get<std::map<std::string, double>>()});
      }
    }
    return out;
  } catch (const Json::exception& e) {
    return invalid_argument(std::string("racing: ") + e.what());
  }
}

}  // namespace kerf
