#include "cli/front_pick.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/table.h"
#include "core/metric.h"
#include "search/pareto.h"

namespace kerf::cli {
namespace {

Result<const MetricInfo*> known_metric(const std::string& name, const std::string& where) {
  if (const MetricInfo* info = find_metric(name)) return info;
  return invalid_argument(where + ": \"" + name.substr(0, 80) + "\"; expected a metric (accuracy_drop, latency_p50_us, storage_bytes, …)");
}

std::optional<double> value_of(const Json& member, const std::string& metric) {
  const Json& metrics = member.at("metrics");
  if (!metrics.is_object()) return std::nullopt;
  const auto found = metrics.find(metric);
  if (found == metrics.end() || !found->is_number()) return std::nullopt;
  return found->get<double>();
}

/// By how much a member breaks a limit, as a share of it; 0 where it is kept.
double miss_of(const Json& member, const MetricLimit& limit) {
  const auto value = value_of(member, limit.metric);
  if (!value) return std::numeric_limits<double>::infinity();
  const double over = limit.upper ? *value - limit.value : limit.value - *value;
  return over <= 0 ? 0 : over / search::bound_scale(limit.value);
}

}  // namespace

Result<MetricLimit> parse_limit(const std::string& text, bool upper) {
  const std::string where = upper ? "--max" : "--min";
  const auto equals = text.find('=');
  if (equals == std::string::npos) {
    return invalid_argument(where + ": \"" + text.substr(0, 80) + "\"; expected METRIC=VALUE");
  }
  MetricLimit out{text.substr(0, equals), 0, upper};
  KERF_TRY(known_metric(out.metric, where));
  const std::string number = text.substr(equals + 1);
  char* end = nullptr;
  out.value = std::strtod(number.c_str(), &end);
  if (number.empty() || *end != '\0' || !std::isfinite(out.value)) {
    return invalid_argument(where + " " + out.metric + ": \"" + number.substr(0, 80) + "\"; expected a number");
  }
  return out;
}

Result<Json> pick_member(const Json& report, const std::vector<MetricLimit>& limits,
                         const std::string& best) {
  KERF_ASSIGN(const MetricInfo* info, known_metric(best, "--best"));
  const double sign = info->better == Direction::kMinimize ? 1 : -1;
  const Json* chosen = nullptr;
  double least = std::numeric_limits<double>::infinity();
  const Json* nearest = nullptr;
  double least_miss = std::numeric_limits<double>::infinity();
  bool kept = false;
  for (const Json& member : report.at("front")) {
    double miss = 0;
    for (const MetricLimit& limit : limits) miss += miss_of(member, limit);
    if (miss > 0) {
      if (miss < least_miss) {
        least_miss = miss;
        nearest = &member;
      }
      continue;
    }
    kept = true;
    const auto value = value_of(member, best);
    if (!value || !(sign * *value < least)) continue;
    least = sign * *value;
    chosen = &member;
  }
  if (chosen != nullptr) return *chosen;
  if (kept) return not_found("no member of the front has " + best);
  std::string message = "no member of the front keeps the limits";
  if (nearest != nullptr) {
    message += "; the nearest is trial " + std::to_string(nearest->at("trial").get<std::int64_t>());
    for (const MetricLimit& limit : limits) {
      if (!(miss_of(*nearest, limit) > 0)) continue;
      message += ", " + human_miss(limit.metric, *value_of(*nearest, limit.metric), limit.value, limit.upper);
    }
  }
  return not_found(std::move(message));
}

}  // namespace kerf::cli
