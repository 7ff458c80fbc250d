#include "workers/compress/codebook.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace kerf::compress {
namespace {

using graph::Tensor;

constexpr int kRounds = 200;
constexpr std::uint32_t kSeed = 20160502;

/// Weights in ascending order with the sums up to each, so that a run's mean costs one step.
class Sorted {
 public:
  explicit Sorted(std::vector<float> values)
      : values_(std::move(values)), sums_(values_.size() + 1) {
    std::sort(values_.begin(), values_.end());
    for (std::size_t i = 0; i < values_.size(); ++i) {
      sums_[i + 1] = sums_[i] + static_cast<long double>(values_[i]);
    }
  }

  [[nodiscard]] std::size_t size() const { return values_.size(); }
  [[nodiscard]] float at(std::size_t rank) const { return values_[rank]; }
  [[nodiscard]] double mean(std::size_t begin, std::size_t end) const {
    const auto mean = static_cast<double>((sums_[end] - sums_[begin]) /
                                          static_cast<long double>(end - begin));
    // Sums of many weights may leave the run that they are the mean of by a rounding.
    return std::clamp<double>(mean, values_[begin], values_[end - 1]);
  }
  /// Number of weights up to and with `value`.
  [[nodiscard]] std::size_t up_to(double value) const {
    return static_cast<std::size_t>(
        std::upper_bound(values_.begin(), values_.end(), value,
                         [](double v, float w) { return v < static_cast<double>(w); }) -
        values_.begin());
  }
  [[nodiscard]] std::vector<double> distinct(std::size_t most) const {
    std::vector<double> out;
    for (const float value : values_) {
      if (!out.empty() && out.back() == static_cast<double>(value)) continue;
      if (out.size() == most + 1) break;
      out.push_back(value);
    }
    return out;
  }

 private:
  std::vector<float> values_;
  std::vector<long double> sums_;
};

std::vector<double> start(const Sorted& sorted, std::size_t count, const std::string& init) {
  std::vector<double> out;
  const auto last = static_cast<double>(sorted.size() - 1);
  if (init == "random") {
    std::mt19937 engine(kSeed);
    std::vector<std::size_t> ranks;
    while (ranks.size() < count) {
      const std::size_t rank = engine() % sorted.size();
      if (std::find(ranks.begin(), ranks.end(), rank) == ranks.end()) ranks.push_back(rank);
    }
    for (const std::size_t rank : ranks) out.push_back(sorted.at(rank));
    std::sort(out.begin(), out.end());
    return out;
  }
  for (std::size_t i = 0; i < count; ++i) {
    if (init == "density") {
      const double rank = (static_cast<double>(i) + 0.5) / static_cast<double>(count) * (last + 1);
      out.push_back(sorted.at(static_cast<std::size_t>(std::min(last, std::floor(rank)))));
    } else {
      const auto low = static_cast<double>(sorted.at(0));
      const auto high = static_cast<double>(sorted.at(sorted.size() - 1));
      const double steps = static_cast<double>(count) - 1;
      const double share = count == 1 ? 0.5 : static_cast<double>(i) / steps;
      out.push_back(low + (high - low) * share);
    }
  }
  return out;
}

/// Where each cluster's run ends.
std::vector<std::size_t> borders(const Sorted& sorted, const std::vector<double>& centroids) {
  std::vector<std::size_t> out;
  for (std::size_t k = 0; k + 1 < centroids.size(); ++k) {
    out.push_back(sorted.up_to(centroids[k] + (centroids[k + 1] - centroids[k]) / 2));
  }
  out.push_back(sorted.size());
  return out;
}

/// The weight that is farthest from its centroid: one of the two ends of some run.
double farthest(const Sorted& sorted, const std::vector<double>& centroids,
                const std::vector<std::size_t>& ends) {
  double best = -1;
  double out = 0;
  for (std::size_t k = 0, begin = 0; k < ends.size(); begin = ends[k++]) {
    if (begin == ends[k]) continue;
    for (const std::size_t rank : {begin, ends[k] - 1}) {
      const double distance = std::fabs(static_cast<double>(sorted.at(rank)) - centroids[k]);
      if (distance > best) {
        best = distance;
        out = sorted.at(rank);
      }
    }
  }
  return out;
}

std::vector<double> cluster(const Sorted& sorted, std::size_t count, const std::string& init) {
  if (sorted.size() == 0 || count == 0) return {};
  std::vector<double> centroids = sorted.distinct(count);
  if (centroids.size() <= count) return centroids;
  centroids = start(sorted, count, init);
  std::vector<std::size_t> before;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<std::size_t> ends = borders(sorted, centroids);
    // One a time: where the next one is needed depends on the one before.
    for (std::size_t moved = 0; moved < count; ++moved) {
      std::size_t empty = 0;
      while (empty < count && ends[empty] > (empty == 0 ? 0 : ends[empty - 1])) ++empty;
      if (empty == count) break;
      centroids[empty] = farthest(sorted, centroids, ends);
      std::sort(centroids.begin(), centroids.end());
      ends = borders(sorted, centroids);
    }
    for (std::size_t k = 0, begin = 0; k < count; begin = ends[k++]) {
      if (begin < ends[k]) centroids[k] = sorted.mean(begin, ends[k]);
    }
    if (ends == before) break;
    before = std::move(ends);
  }
  return centroids;
}

}  // namespace

Result<SharedWeights> share_weights(const Tensor& weights, int entries, const std::string& init,
                                    bool keep_zeros) {
  const auto source = weights.as<float>();
  std::vector<float> values;
  values.reserve(source.size());
  bool zeros = false;
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (!std::isfinite(source[i])) {
      return invalid_argument("weight " + std::to_string(i) + " is not finite");
    }
    if (keep_zeros && source[i] == 0.0F) {
      zeros = true;
    } else {
      values.push_back(source[i]);
    }
  }
  const auto count = static_cast<std::size_t>(entries) - (zeros ? 1 : 0);
  const std::vector<double> centroids = cluster(Sorted(std::move(values)), count, init);
  SharedWeights out;
  out.weights = weights;
  std::vector<float> narrow;
  narrow.reserve(centroids.size());
  // A mean of f32 weights lies between two of them, so that it is finite as an f32 as well.
  for (const double value : centroids) narrow.push_back(static_cast<float>(value));
  narrow.erase(std::unique(narrow.begin(), narrow.end()), narrow.end());
  for (float& weight : out.weights.mutable_as<float>()) {
    if (keep_zeros && weight == 0.0F) {
      weight = 0.0F;
      continue;
    }
    const auto above = std::lower_bound(narrow.begin(), narrow.end(), weight);
    if (above == narrow.end()) {
      weight = narrow.back();
    } else if (above == narrow.begin()) {
      weight = *above;
    } else {
      const double low = *(above - 1);
      const double high = *above;
      const auto value = static_cast<double>(weight);
      weight = static_cast<float>(value - low <= high - value ? low : high);
    }
  }
  out.entries = std::move(narrow);
  if (zeros) {
    const auto place = std::lower_bound(out.entries.begin(), out.entries.end(), 0.0F);
    if (place == out.entries.end() || *place != 0.0F) out.entries.insert(place, 0.0F);
  }
  return out;
}

}  // namespace kerf::compress
