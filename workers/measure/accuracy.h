#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/measurement.h"
#include "core/result.h"
#include "workers/data/bind.h"
#include "workers/graph/graph.h"
#include "workers/measure/intervals.h"
#include "workers/measure/moments.h"
#include "workers/measure/race.h"
#include "workers/measure/scores.h"

namespace kerf::measure {

/// How far a candidate's log-scores are off: Σ (a − b)² / Σ a² over all places and classes, a and b less
/// their mean over the classes of their place (which a softmax doesn't see). Each sample counts about
/// as much as any other, so that few of them say it; of a mean KL a few uncertain samples make most.
///
/// Shapes:   as for QualityMeter; probabilities are floored at 1e-12.
/// NaN:      where there are no scores (integers, one class), shapes differ, or something isn't finite.
[[nodiscard]] double score_noise(const graph::Tensor& baseline, const graph::Tensor& candidate, OutputKind kind);

/// Gathers the quality metrics of a candidate's first output, shard by shard.
///
/// Classes lie on the output's last dimension that isn't 1; on axis 1 where the output has four
/// dimensions or more after dropping trailing ones (a map of classes). Every place of a map counts
/// for agreement and kl; labels need one place a sample.
///
/// Metrics:  accuracy, top5 (share; Wilson intervals), accuracy_drop (baseline − candidate, Tango's
///           paired interval), agreement (share of equal top-1; Wilson), mae and rmse (normal
///           interval of the mean over samples; rmse: of the mean square, then the root),
///           cross_entropy (mean −log p(label), nats, normal interval), cross_entropy_rise (candidate −
///           baseline, normal interval of the paired differences),
///           kl (mean KL(softmax(baseline) || softmax(candidate)), nats, normal interval;
///           probabilities are taken as they are, floored at 1e-12), sqnr_db
///           (10·log10(Σ baseline² / Σ (baseline − candidate)²), delta-method interval, at most
///           200 dB, which stands for equal outputs). Maps: agreement has the normal interval of
///           the mean over samples, because places of a sample depend on each other.
/// Ties:     the lowest class wins; NaN never wins; a row of NaN has no class and is wrong.
/// Absent:   what can't be had: no labels, no baseline, integers as outputs (kl, sqnr_db, cross_entropy), a
///           kl, sqnr_db or cross_entropy that isn't finite.
class QualityMeter {
 public:
  explicit QualityMeter(OutputKind kind);

  /// One shard. `baseline` may be null. `labels` is the shard's slice (its inputs aren't read). A race
  /// is told of each sample.
  ///
  /// Errors:   invalid_argument where shapes don't fit each other or the labels.
  [[nodiscard]] Result<void> add(const graph::Tensor& candidate, const graph::Tensor* baseline,
                                 const data::BoundData& labels, Race* race = nullptr);

  [[nodiscard]] std::int64_t samples() const { return samples_; }
  [[nodiscard]] std::int64_t not_finite() const { return not_finite_; }  ///< Samples with NaN or Inf.

  /// Puts what has been gathered so far into metrics, ci95 and samples.
  void report(Measurement& measurement) const;

 private:
  OutputKind kind_;
  std::int64_t samples_ = 0;
  std::int64_t not_finite_ = 0;
  // Classification.
  std::int64_t labelled_ = 0;
  std::int64_t right_ = 0;
  std::int64_t top5_right_ = 0;
  std::int64_t compared_labels_ = 0;   // samples with a label and a baseline
  std::int64_t baseline_only_ = 0;     // right in the baseline alone
  std::int64_t candidate_only_ = 0;    // right in the candidate alone
  Moments cross_entropy_;
  Moments cross_entropy_rise_;
  // Against the baseline.
  bool single_places_ = true;  // one place a sample
  Moments agreement_;          // of samples: the share of its places
  Moments kl_;
  Moments signal_;
  Moments noise_;
  double signal_noise_ = 0;  // sum of products, for their covariance
  // Regression.
  Moments absolute_error_;
  Moments squared_error_;
};

}  // namespace kerf::measure
