#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/result.h"

namespace kerf {

/// When measuring a candidate may stop early: what a trial's payload says under "racing".
///
/// Quality here is accuracy_drop (at most), agreement or top5 (at least): shares of samples, which part
/// of the samples can show. Everything else that an objective wants is either known before the samples
/// (bytes) or bounded (times).
struct RacingTerms {
  /// A member of the front, in values that it surely has: the bad ends of their intervals.
  struct Rival {
    std::int64_t trial = 0;
    double quality = 0;                   ///< In `quality_metric`.
    std::map<std::string, double> others; ///< The other objectives, by metric; better = as the metric says.

    friend bool operator==(const Rival&, const Rival&) = default;
  };

  double alpha = 0.001;                  ///< Most probability of stopping a candidate that shouldn't be.
  std::map<std::string, double> limits;  ///< What a candidate has to keep, by quality metric.
  std::string quality_metric;            ///< Of the rivals; empty where there are none.
  std::vector<Rival> rivals;

  friend bool operator==(const RacingTerms&, const RacingTerms&) = default;

  [[nodiscard]] bool empty() const { return limits.empty() && rivals.empty(); }

  [[nodiscard]] Json to_json() const;
  /// Errors:   invalid_argument: a metric that can't be raced, an alpha outside of (0, 1).
  [[nodiscard]] static Result<RacingTerms> parse(const Json& document);
};

/// Whether part of the samples can show that a candidate loses in this metric.
[[nodiscard]] bool can_be_raced(const std::string& metric);

}  // namespace kerf
