#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/racing.h"
#include "workers/measure/mean_test.h"

namespace kerf::measure {

/// What one sample says.
struct SampleVerdict {
  bool labelled = false;
  bool compared = false;       ///< There is a baseline.
  bool right = false;
  bool baseline_right = false;
  bool among_top5 = false;
  double agreement = 0;        ///< Share of its places, 0…1.
};

/// What a candidate is known to have, or surely not to beat, before its samples are seen.
struct KnownCosts {
  std::map<std::string, double> metrics;      ///< Known exactly: bytes, multiply-adds.
  std::optional<double> least_latency_us;     ///< A bound below its latencies.
  std::int64_t batch = 1;                     ///< Samples of a timed run.
};

/// Follows a candidate through its samples until it is sure that it keeps no place: a limit of the
/// study is broken, or a rival is better in everything.
///
/// A rival counts where it is at least as good as the candidate in everything but quality; of those the
/// best sets the bar. All bars of one metric are one test, and alpha is split among the metrics that are
/// tested, so that a candidate that would keep all bars on the whole set is stopped with at most
/// probability alpha (search: MeanTest).
class Race {
 public:
  Race(const RacingTerms& terms, const KnownCosts& costs, std::int64_t samples);

  void add(const SampleVerdict& sample);

  /// Why it is over, in a sentence; empty as long as it isn't.
  [[nodiscard]] const std::string& lost() const { return lost_; }

 private:
  struct Bar {
    std::string metric;
    double limit = 0;        ///< In the metric.
    std::string whose;       ///< "the study's limit", "trial 12 of the front".
    MeanTest test;
    double sum = 0;          ///< Of losses.
  };
  void set_bar(std::map<std::string, std::pair<double, std::string>>& bars, const std::string& metric,
               double limit, const std::string& whose) const;

  std::int64_t samples_;
  std::vector<Bar> bars_;
  std::int64_t seen_ = 0;
  std::string lost_;
};

}  // namespace kerf::measure
