#include "workers/compress/activation_ranges.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace kerf::compress {
namespace {

constexpr double kPercentile = 0.99999;
constexpr double kSignedSteps = 127;
constexpr double kUnsignedSteps = 255;

/// Counts of one sign, or of magnitudes, without the empty bins at the end.
struct Bins {
  double width = 0;
  std::vector<double> counts;

  [[nodiscard]] double edge(std::size_t bin) const { return width * static_cast<double>(bin); }
};

void drop_empty_tail(Bins& bins) {
  while (!bins.counts.empty() && bins.counts.back() == 0) bins.counts.pop_back();
}

Bins one_sign(const ValueStatistics& statistics, bool positive) {
  const auto& source = positive ? statistics.positive : statistics.negative;
  Bins out{statistics.bin_width, std::vector<double>(source.begin(), source.end())};
  drop_empty_tail(out);
  return out;
}

Bins magnitudes(const ValueStatistics& statistics) {
  Bins out{statistics.bin_width,
           std::vector<double>(statistics.positive.begin(), statistics.positive.end())};
  for (std::size_t i = 0; i < statistics.negative.size(); ++i) {
    out.counts[i] += static_cast<double>(statistics.negative[i]);
  }
  drop_empty_tail(out);
  return out;
}

double total(const Bins& bins) {
  double sum = 0;
  for (const double count : bins.counts) sum += count;
  return sum;
}

/// The T with `share` of `all` elements at or below it, `below` of them being under the first bin.
double quantile(const Bins& bins, double below, double all, double share) {
  double seen = below;
  const double wanted = share * all;
  for (std::size_t i = 0; i < bins.counts.size(); ++i) {
    if (seen + bins.counts[i] >= wanted && bins.counts[i] > 0) {
      const double inside = std::clamp((wanted - seen) / bins.counts[i], 0.0, 1.0);
      return bins.edge(i) + bins.width * inside;
    }
    seen += bins.counts[i];
  }
  return bins.edge(bins.counts.size());
}

double x_log_x(double x) { return x > 0 ? x * std::log(x) : 0.0; }

/// Σ over bins beyond each edge of n·(x − edge)², with x the middle of the bin.
struct ClippingCost {
  std::vector<double> inside;  // elements below edge i
  std::vector<double> beyond;  // squared error of clipping at edge i

  explicit ClippingCost(const Bins& bins)
      : inside(bins.counts.size() + 1, 0.0), beyond(bins.counts.size() + 1, 0.0) {
    for (std::size_t i = 0; i < bins.counts.size(); ++i) inside[i + 1] = inside[i] + bins.counts[i];
    double n = 0;
    double first = 0;
    double second = 0;
    for (std::size_t i = bins.counts.size(); i-- > 0;) {
      const double x = bins.edge(i) + bins.width / 2;
      n += bins.counts[i];
      first += bins.counts[i] * x;
      second += bins.counts[i] * x * x;
      const double t = bins.edge(i);
      beyond[i] = std::max(0.0, second - 2 * t * first + t * t * n);
    }
  }

  /// Of a threshold at edge i: rounding errors as uniform, and what is clipped.
  [[nodiscard]] double of(const Bins& bins, std::size_t i, double steps) const {
    const double step = bins.edge(i) / steps;
    return inside[i] * step * step / 12 + beyond[i];
  }
};

/// Sums up to each bin, so that a candidate costs one step a level.
struct EntropySums {
  std::vector<double> counts, filled, log_counts;

  explicit EntropySums(const std::vector<double>& bins)
      : counts(bins.size() + 1, 0.0), filled(counts), log_counts(counts) {
    for (std::size_t i = 0; i < bins.size(); ++i) {
      counts[i + 1] = counts[i] + bins[i];
      filled[i + 1] = filled[i] + (bins[i] > 0 ? 1 : 0);
      log_counts[i + 1] = log_counts[i] + x_log_x(bins[i]);
    }
  }
};

/// KL(P ‖ Q) for a threshold at the upper edge of bin `end − 1`. Within a level Q is constant over
/// the filled bins, so that its part of the sum needs one logarithm a level.
double divergence(const std::vector<double>& bins, const EntropySums& sums, std::size_t end,
                  std::size_t levels) {
  constexpr double kNothing = 1e-9;
  const double all = sums.counts.back();
  const double inside = sums.counts[end];
  if (inside <= 0) return std::numeric_limits<double>::infinity();
  const double beyond = all - inside;
  const double last = bins[end - 1];
  double cross = 0;  // Σ p·all · log q
  for (std::size_t level = 0; level < levels; ++level) {
    const std::size_t a = level * end / levels;
    const std::size_t b = (level + 1) * end / levels;
    const double mass = sums.counts[b] - sums.counts[a];
    const double filled = sums.filled[b] - sums.filled[a];
    if (mass <= 0) continue;
    const double extra = b == end && last > 0 ? beyond : 0.0;
    cross += (mass + extra) * std::log(mass / (filled * inside));
  }
  if (last <= 0) cross += beyond * std::log(kNothing);
  const double own = sums.log_counts[end - 1] + x_log_x(last + beyond);  // Σ p·all · log(p·all)
  return (own - cross) / all - std::log(all);
}

double entropy_threshold(Bins bins, std::size_t levels) {
  if (bins.counts.size() > 2048) {  // neighbours merge: the method is defined on 2048 bins
    for (std::size_t i = 0; i < (bins.counts.size() + 1) / 2; ++i) {
      bins.counts[i] =
          bins.counts[2 * i] + (2 * i + 1 < bins.counts.size() ? bins.counts[2 * i + 1] : 0.0);
    }
    bins.counts.resize((bins.counts.size() + 1) / 2);
    bins.width *= 2;
  }
  const std::size_t size = bins.counts.size();
  if (size <= levels) return bins.edge(size);
  const EntropySums sums(bins.counts);
  // The divergence doesn't see how far values move: where many elements are equal (a picture's
  // background behind a bias), it pays for wide levels there by clipping what is far away.
  const ClippingCost cost(bins);
  const double steps = static_cast<double>(levels) - 1;
  const double most = cost.of(bins, size, steps);
  std::size_t best = size;
  double least = divergence(bins.counts, sums, size, levels);
  const auto try_range = [&](std::size_t begin, std::size_t end, std::size_t stride) {
    for (std::size_t i = begin; i < end; i += stride) {
      if (cost.of(bins, i, steps) > most) continue;
      const double kl = divergence(bins.counts, sums, i, levels);
      if (kl < least) {
        least = kl;
        best = i;
      }
    }
  };
  constexpr std::size_t kStride = 8;
  try_range(levels, size, kStride);
  const std::size_t centre = best;
  try_range(std::max(levels, centre - std::min(centre, kStride - 1)),
            std::min(size, centre + kStride), 1);
  return bins.edge(best);
}

double mse_threshold(const Bins& bins, double steps) {
  const ClippingCost cost(bins);
  std::size_t best = bins.counts.size();
  double least = std::numeric_limits<double>::infinity();
  for (std::size_t i = bins.counts.size(); i > 0; --i) {
    const double error = cost.of(bins, i, steps);
    if (error < least) {
      least = error;
      best = i;
    }
  }
  return bins.edge(best);
}

/// Both ends of an asymmetric range, as distances from zero.
struct Ends {
  double low;
  double high;
};

Ends mse_ends(const Bins& negative, const Bins& positive) {
  const ClippingCost below(negative);
  const ClippingCost above(positive);
  constexpr std::size_t kGrid = 128;
  Ends best{negative.edge(negative.counts.size()), positive.edge(positive.counts.size())};
  double least = std::numeric_limits<double>::infinity();
  for (std::size_t i = kGrid + 1; i-- > 0;) {
    const std::size_t low = negative.counts.size() * i / kGrid;
    for (std::size_t k = kGrid + 1; k-- > 0;) {
      const std::size_t high = positive.counts.size() * k / kGrid;
      const double span = negative.edge(low) + positive.edge(high);
      if (span <= 0) continue;
      const double step = span / kUnsignedSteps;
      const double error = (below.inside[low] + above.inside[high]) * step * step / 12 +
                           below.beyond[low] + above.beyond[high];
      if (error < least) {
        least = error;
        best = {negative.edge(low), positive.edge(high)};
      }
    }
  }
  return best;
}

float safe_scale(double scale) {
  const auto narrow = static_cast<float>(scale);
  return std::max(narrow, std::numeric_limits<float>::min());
}

double threshold_of(const ValueStatistics& statistics, const Bins& bins, const std::string& range,
                    double steps, double largest) {
  double threshold = largest;
  if (range == "moving_average") {
    threshold = std::max(-statistics.moving.min, statistics.moving.max);
  } else if (range == "percentile") {
    threshold = quantile(bins, static_cast<double>(statistics.zeros),
                         static_cast<double>(statistics.count), kPercentile);
  } else if (range == "entropy") {
    threshold = entropy_threshold(bins, static_cast<std::size_t>(steps) + 1);
  } else if (range == "mse") {
    threshold = mse_threshold(bins, steps);
  }
  return threshold > 0 ? std::min(threshold, largest) : largest;
}

ActivationRange asymmetric(const ValueStatistics& statistics, const std::string& range) {
  const Bins negative = one_sign(statistics, false);
  const Bins positive = one_sign(statistics, true);
  Ends ends{-statistics.min, std::max(0.0, statistics.max)};
  if (range == "moving_average") {
    ends = {std::max(0.0, -statistics.moving.min), std::max(0.0, statistics.moving.max)};
  } else if (range == "percentile") {
    const auto all = static_cast<double>(statistics.count);
    ends.low = std::min(ends.low, quantile(negative, all - total(negative), all, kPercentile));
    ends.high = std::min(ends.high, quantile(positive, all - total(positive), all, kPercentile));
  } else if (range == "entropy") {
    const double threshold =
        entropy_threshold(magnitudes(statistics), static_cast<std::size_t>(kSignedSteps) + 1);
    ends = {std::min(ends.low, threshold), std::min(ends.high, threshold)};
  } else if (range == "mse") {
    const Ends found = mse_ends(negative, positive);
    ends = {std::min(ends.low, found.low), std::min(ends.high, found.high)};
  }
  ActivationRange out;
  if (!(ends.low + ends.high > 0)) ends = {-statistics.min, std::max(0.0, statistics.max)};
  out.scale = safe_scale((ends.low + ends.high) / kUnsignedSteps);
  out.zero_point = static_cast<int>(
      std::clamp(std::nearbyint(ends.low / static_cast<double>(out.scale)), 0.0, kUnsignedSteps));
  return out;
}

}  // namespace

ActivationRange choose_range(const ValueStatistics& statistics, const std::string& range,
                             bool symmetric) {
  const double largest = std::max(-statistics.min, statistics.max);
  if (statistics.count == 0 || !(largest > 0)) return {};
  ActivationRange out;
  if (statistics.min >= 0) {
    out.scale = safe_scale(
        threshold_of(statistics, magnitudes(statistics), range, kUnsignedSteps, largest) /
        kUnsignedSteps);
    return out;
  }
  if (!symmetric) return asymmetric(statistics, range);
  out.dtype = graph::DType::kS8;
  out.scale =
      safe_scale(threshold_of(statistics, magnitudes(statistics), range, kSignedSteps, largest) /
                 kSignedSteps);
  return out;
}

}  // namespace kerf::compress
