#include "workers/measure/accuracy.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

namespace kerf::measure {

using graph::Tensor;

namespace {

constexpr double kMostDecibel = 200;

}  // namespace

double score_noise(const Tensor& baseline, const Tensor& candidate, OutputKind kind) {
  constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
  if (kind == OutputKind::kClasses || baseline.rank() == 0 || baseline.shape() != candidate.shape()) return kUnknown;
  const View view = view_of(baseline.shape());
  if (view.classes < 2) return kUnknown;
  const Tensor theirs = baseline.to_f32();
  const Tensor own = candidate.to_f32();
  double signal = 0;
  double noise = 0;
  for (std::int64_t n = 0; n < baseline.dim(0); ++n) {
    for (std::int64_t at = 0; at < view.places(); ++at) {
      const Place a = place_at(theirs.as<float>().data() + n * view.elements(), view, at);
      const Place b = place_at(own.as<float>().data() + n * view.elements(), view, at);
      // Sums of squares less those of the means.
      double sum = 0, squares = 0, difference = 0, differences = 0;
      for (std::int64_t c = 0; c < view.classes; ++c) {
        const double reference = a.log_probability(c, kind, 0);  // a norm would fall out with the mean
        const double off = reference - b.log_probability(c, kind, 0);
        sum += reference;
        squares += reference * reference;
        difference += off;
        differences += off * off;
      }
      const auto classes = static_cast<double>(view.classes);
      signal += squares - sum * sum / classes;
      noise += differences - difference * difference / classes;
    }
  }
  return signal > 0 && std::isfinite(noise) ? std::max(noise, 0.0) / signal : kUnknown;
}

QualityMeter::QualityMeter(OutputKind kind) : kind_(kind) {}

Result<void> QualityMeter::add(const Tensor& candidate, const Tensor* baseline,
                               const data::BoundData& labels, Race* race) {
  if (candidate.rank() == 0 || candidate.dim(0) != labels.samples) {
    return invalid_argument("the model's first output has shape " +
                            graph::to_string(candidate.shape()) + " for " +
                            std::to_string(labels.samples) + " samples; expected one entry a sample");
  }
  if (baseline != nullptr && (baseline->shape() != candidate.shape() ||
                              holds_classes(baseline->dtype()) != holds_classes(candidate.dtype()))) {
    return invalid_argument("the candidate's output has shape " +
                            graph::to_string(candidate.shape()) + "; expected the baseline's " +
                            graph::to_string(baseline->shape()));
  }
  const View view = view_of(candidate.shape());
  const bool classes = kind_ == OutputKind::kClasses || view.classes > 1;
  // An integer output is the class itself: every element is a place.
  const std::int64_t places = kind_ == OutputKind::kClasses ? view.elements() : view.places();
  if (!labels.classes.empty() && places != 1) {
    return invalid_argument("the model's first output has shape " +
                            graph::to_string(candidate.shape()) +
                            "; expected one class a sample, as the labels are");
  }
  const std::int64_t each = labels.targets_per_sample();
  if (each != 0 && (each != view.elements() || kind_ == OutputKind::kClasses)) {
    return invalid_argument("the model's first output has shape " +
                            graph::to_string(candidate.shape()) + "; expected " +
                            std::to_string(each) + " floats a sample, as the labels are");
  }
  single_places_ = single_places_ && places == 1;

  const Tensor own = candidate.to_f32();
  const Tensor reference = baseline != nullptr ? baseline->to_f32() : Tensor();
  for (std::int64_t n = 0; n < labels.samples; ++n, ++samples_) {
    const auto at = static_cast<std::size_t>(n);
    const float* mine = own.as<float>().data() + n * view.elements();
    const float* theirs =
        baseline != nullptr ? reference.as<float>().data() + n * view.elements() : nullptr;
    const auto top = [&](const float* sample, std::int64_t place) {
      if (kind_ == OutputKind::kClasses) return static_cast<std::int64_t>(sample[place]);
      return place_at(sample, view, place).top();
    };
    if (!std::all_of(mine, mine + view.elements(), [](float v) { return std::isfinite(v); })) {
      ++not_finite_;
    }
    SampleVerdict verdict;
    verdict.compared = theirs != nullptr;
    const bool scored = kind_ != OutputKind::kClasses && view.classes > 1;
    const bool one_label = !labels.classes.empty() && scored && labels.classes[at] >= 0 && labels.classes[at] < view.classes;
    double own_norm = 0;  // both where there is one label
    double own_loss = 0;  // −log p(label)
    if (one_label) {
      const Place place = place_at(mine, view, 0);
      own_norm = place.norm(kind_);
      own_loss = -place.log_probability(labels.classes[at], kind_, own_norm);
      cross_entropy_.add(own_loss);
    }
    if (!labels.classes.empty()) {
      const std::int64_t label = labels.classes[at];
      const bool right = top(mine, 0) == label;
      ++labelled_;
      right_ += right ? 1 : 0;
      verdict.labelled = true;
      verdict.right = right;
      if (kind_ != OutputKind::kClasses && label < view.classes) {
        constexpr int kFive = 5;
        verdict.among_top5 = place_at(mine, view, 0).among_top(label, kFive);
        top5_right_ += verdict.among_top5 ? 1 : 0;
      }
      if (theirs != nullptr) {
        const bool baseline_right = top(theirs, 0) == label;
        verdict.baseline_right = baseline_right;
        ++compared_labels_;
        baseline_only_ += baseline_right && !right ? 1 : 0;
        candidate_only_ += right && !baseline_right ? 1 : 0;
      }
    }
    if (each != 0) {
      double absolute = 0;
      double squared = 0;
      for (std::int64_t i = 0; i < each; ++i) {
        const double error = double{mine[i]} - labels.targets[at * static_cast<std::size_t>(each) +
                                                              static_cast<std::size_t>(i)];
        absolute += std::abs(error);
        squared += error * error;
      }
      absolute_error_.add(absolute / static_cast<double>(each));
      squared_error_.add(squared / static_cast<double>(each));
    }
    if (theirs == nullptr) {
      if (race != nullptr) race->add(verdict);
      continue;
    }
    if (classes) {
      std::int64_t equal = 0;
      double kl = 0;
      for (std::int64_t place = 0; place < places; ++place) {
        const std::int64_t mine_top = top(mine, place);
        equal += mine_top >= 0 && mine_top == top(theirs, place) ? 1 : 0;
        if (kind_ == OutputKind::kClasses) continue;
        const Place baseline_place = place_at(theirs, view, place);
        const Place candidate_place = place_at(mine, view, place);
        const double p_norm = baseline_place.norm(kind_);
        const double q_norm = one_label ? own_norm : candidate_place.norm(kind_);
        kl += divergence(baseline_place, candidate_place, kind_, p_norm, q_norm);
        if (one_label) {
          cross_entropy_rise_.add(own_loss + baseline_place.log_probability(labels.classes[at], kind_, p_norm));
        }
      }
      verdict.agreement = static_cast<double>(equal) / static_cast<double>(places);
      agreement_.add(verdict.agreement);
      if (kind_ != OutputKind::kClasses) kl_.add(kl / static_cast<double>(places));
    }
    if (kind_ != OutputKind::kClasses) {
      double signal = 0;
      double noise = 0;
      for (std::int64_t i = 0; i < view.elements(); ++i) {
        const double difference = double{theirs[i]} - mine[i];
        signal += double{theirs[i]} * theirs[i];
        noise += difference * difference;
      }
      signal_.add(signal);
      noise_.add(noise);
      signal_noise_ += signal * noise;
    }
    if (race != nullptr) race->add(verdict);
  }
  return {};
}

void QualityMeter::report(Measurement& measurement) const {
  auto& metrics = measurement.metrics;
  auto& ci95 = measurement.ci95;
  measurement.samples = samples_;
  const auto share = [&](const std::string& name, std::int64_t count, std::int64_t of) {
    metrics[name] = static_cast<double>(count) / static_cast<double>(of);
    ci95[name] = wilson_interval(count, of);
  };
  if (labelled_ > 0) {
    share("accuracy", right_, labelled_);
    if (kind_ != OutputKind::kClasses) share("top5", top5_right_, labelled_);
  }
  if (compared_labels_ > 0) {
    metrics["accuracy_drop"] = static_cast<double>(baseline_only_ - candidate_only_) /
                               static_cast<double>(compared_labels_);
    ci95["accuracy_drop"] =
        paired_difference_interval(baseline_only_, candidate_only_, compared_labels_);
  }
  const auto mean = [&](const std::string& name, const Moments& moments, double least) {
    if (moments.count == 0 || !std::isfinite(moments.mean)) return;
    metrics[name] = moments.mean;
    const Interval around = mean_interval(moments.mean, moments.variance(), moments.count);
    ci95[name] = {std::max(least, around[0]), around[1]};
  };
  mean("cross_entropy", cross_entropy_, 0);
  mean("cross_entropy_rise", cross_entropy_rise_, -std::numeric_limits<double>::infinity());
  if (absolute_error_.count > 0 && std::isfinite(absolute_error_.mean) &&
      std::isfinite(squared_error_.mean)) {
    metrics["mae"] = absolute_error_.mean;
    const Interval mae = mean_interval(absolute_error_.mean, absolute_error_.variance(),
                                       absolute_error_.count);
    ci95["mae"] = {std::max(0.0, mae[0]), mae[1]};
    metrics["rmse"] = std::sqrt(squared_error_.mean);
    const Interval square = mean_interval(squared_error_.mean, squared_error_.variance(),
                                          squared_error_.count);
    ci95["rmse"] = {std::sqrt(std::max(0.0, square[0])), std::sqrt(square[1])};
  }
  if (agreement_.count > 0) {
    if (single_places_) {
      const auto count = static_cast<std::int64_t>(
          std::llround(agreement_.mean * static_cast<double>(agreement_.count)));
      share("agreement", count, agreement_.count);
    } else {
      metrics["agreement"] = agreement_.mean;
      const Interval around =
          mean_interval(agreement_.mean, agreement_.variance(), agreement_.count);
      ci95["agreement"] = {std::max(0.0, around[0]), std::min(1.0, around[1])};
    }
  }
  mean("kl", kl_, 0);
  if (signal_.count > 0 && std::isfinite(signal_.mean) && std::isfinite(noise_.mean) &&
      signal_.mean > 0) {
    const double ratio = noise_.mean > 0 ? 10 * std::log10(signal_.mean / noise_.mean) : kMostDecibel;
    const double decibel = std::min(ratio, kMostDecibel);
    metrics["sqnr_db"] = decibel;
    double half = 0;
    if (noise_.mean > 0 && signal_.count > 1) {
      const auto n = static_cast<double>(signal_.count);
      const double covariance = (signal_noise_ - n * signal_.mean * noise_.mean) / (n - 1);
      const double variance = signal_.variance() / (signal_.mean * signal_.mean) +
                              noise_.variance() / (noise_.mean * noise_.mean) -
                              2 * covariance / (signal_.mean * noise_.mean);
      half = kZ95 * 10 / std::numbers::ln10 * std::sqrt(std::max(0.0, variance) / n);
    }
    ci95["sqnr_db"] = {decibel - half, std::min(decibel + half, kMostDecibel)};
  }
}

}  // namespace kerf::measure
