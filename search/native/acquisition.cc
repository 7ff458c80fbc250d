#include "search/native/acquisition.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "search/hypervolume.h"
#include "search/native/halton.h"

namespace kerf::search::native {
namespace {

constexpr std::size_t kSamples = 4096;
constexpr double kTellingSamples = 24;     // fewer open points in the best gain say too little
constexpr std::size_t kExactOfThree = 160; // candidates whose exact gain is computed
constexpr std::size_t kExactOfFour = 24;

bool covers(const ObjectiveVector& a, const ObjectiveVector& b) {
  for (std::size_t d = 0; d < a.size(); ++d) {
    if (a[d] > b[d]) return false;
  }
  return true;
}

/// How many samples a point of M values covers. Their first values ascend, so that it covers none before its own.
template <std::size_t M>
std::size_t count_covered(const ObjectiveVector& point, const std::vector<std::vector<double>>& samples) {
  const auto first = static_cast<std::size_t>(
      std::lower_bound(samples[0].begin(), samples[0].end(), point[0]) - samples[0].begin());
  std::size_t count = 0;
  for (std::size_t i = first; i < samples[0].size(); ++i) {
    bool all = true;
    for (std::size_t d = 1; d < M; ++d) all &= point[d] <= samples[d][i];
    count += all ? 1 : 0;
  }
  return count;
}

/// By dimension, points of a Halton sequence in the unit cube, by the first, ascending.
std::vector<std::vector<double>> unit_samples(std::size_t dimensions) {
  constexpr std::size_t kPrimes[] = {2, 3, 5, 7};
  std::vector<std::size_t> order(kSamples);
  std::iota(order.begin(), order.end(), std::size_t{1});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return halton(a, kPrimes[0]) < halton(b, kPrimes[0]); });
  std::vector<std::vector<double>> out(dimensions);
  for (std::size_t d = 0; d < dimensions; ++d) {
    for (const std::size_t i : order) out[d].push_back(halton(i, kPrimes[d]));
  }
  return out;
}

std::vector<Direction> all_minimised(std::size_t count) {
  return std::vector<Direction>(count, Direction::kMinimize);
}

}  // namespace

GainOracle::GainOracle(std::vector<double> reference, const std::vector<ObjectiveVector>& front,
                       std::vector<double> best)
    : reference_(std::move(reference)), best_(std::move(best)) {
  const std::size_t m = reference_.size();
  if (m > 2) {
    static const auto three = unit_samples(3);
    static const auto four = unit_samples(4);
    open_ = m == 3 ? three : four;
    sample_volume_ = 1.0 / static_cast<double>(kSamples);
    for (std::size_t d = 0; d < m; ++d) {
      best_[d] = std::min(best_[d], reference_[d]);
      sample_volume_ *= reference_[d] - best_[d];
      for (double& value : open_[d]) value = best_[d] + (reference_[d] - best_[d]) * value;
    }
  }
  for (const ObjectiveVector& point : front) add(point);
}

bool GainOracle::inside(const ObjectiveVector& point) const {
  for (std::size_t d = 0; d < point.size(); ++d) {
    if (!(point[d] < reference_[d])) return false;
  }
  return true;
}

void GainOracle::add(const ObjectiveVector& point) {
  if (!inside(point)) return;
  for (const ObjectiveVector& member : front_) {
    if (covers(member, point)) return;
  }
  std::erase_if(front_, [&](const ObjectiveVector& member) { return covers(point, member); });
  front_.insert(std::lower_bound(front_.begin(), front_.end(), point), point);
  close_covered_by(point);
}

std::size_t GainOracle::covered_by(const ObjectiveVector& point) const {
  return point.size() == 3 ? count_covered<3>(point, open_) : count_covered<4>(point, open_);
}

void GainOracle::close_covered_by(const ObjectiveVector& point) {
  if (open_.empty()) return;
  std::size_t left = 0;
  for (std::size_t i = 0; i < open_[0].size(); ++i) {
    bool covered = true;
    for (std::size_t d = 0; d < point.size(); ++d) covered = covered && point[d] <= open_[d][i];
    if (covered) continue;
    for (std::vector<double>& values : open_) values[left] = values[i];
    ++left;
  }
  for (std::vector<double>& values : open_) values.resize(left);
}

double GainOracle::gain_2d(const ObjectiveVector& point) const {
  if (!inside(point)) return 0;
  auto next = std::upper_bound(front_.begin(), front_.end(), point[0],
                               [](double x, const ObjectiveVector& p) { return x < p[0]; });
  // Between neighbouring steps the height that stands is that of the step on the left.
  double height = next == front_.begin() ? reference_[1] : (*std::prev(next))[1];
  double left = point[0];
  double gain = 0;
  while (height > point[1]) {
    const double right = next == front_.end() ? reference_[0] : (*next)[0];
    gain += (right - left) * (height - point[1]);
    if (next == front_.end()) break;
    left = right;
    height = (*next)[1];
    ++next;
  }
  return gain;
}

double GainOracle::exact_gain(const ObjectiveVector& point) const {
  double own = 1;
  for (std::size_t d = 0; d < point.size(); ++d) own *= reference_[d] - point[d];
  std::vector<ObjectiveVector> limited;
  for (const ObjectiveVector& member : front_) {
    ObjectiveVector one(point.size());
    for (std::size_t d = 0; d < point.size(); ++d) one[d] = std::max(member[d], point[d]);
    limited.push_back(std::move(one));
  }
  return std::max(0.0, own - hypervolume(limited, all_minimised(point.size()), reference_));
}

double GainOracle::gain(const ObjectiveVector& candidate) const {
  if (reference_.size() == 2) return gain_2d(candidate);
  return std::max(0.0, (front_.empty() ? reference_[0] : front_[0][0]) - candidate[0]);
}

std::vector<double> GainOracle::gains(std::span<const ObjectiveVector> candidates) const {
  std::vector<double> out(candidates.size(), 0.0);
  const std::size_t m = reference_.size();
  if (m <= 2) {
    for (std::size_t i = 0; i < candidates.size(); ++i) out[i] = gain(candidates[i]);
    return out;
  }
  double most = 0;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (!inside(candidates[i])) continue;
    const auto count = static_cast<double>(covered_by(candidates[i]));
    out[i] = count * sample_volume_;
    most = std::max(most, count);
  }
  if (most >= kTellingSamples) return out;
  std::vector<std::size_t> left;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    out[i] = 0;
    const bool covered = !inside(candidates[i]) ||
                         std::any_of(front_.begin(), front_.end(), [&](const ObjectiveVector& p) {
                           return covers(p, candidates[i]);
                         });
    if (!covered) left.push_back(i);
  }
  const std::size_t limit = m == 3 ? kExactOfThree : kExactOfFour;
  const std::size_t count = std::min(limit, left.size());
  for (std::size_t k = 0; k < count; ++k) {
    const std::size_t i = left[k * left.size() / count];
    out[i] = exact_gain(candidates[i]);
  }
  return out;
}

double GainOracle::volume() const {
  return hypervolume(front_, all_minimised(reference_.size()), reference_);
}

}  // namespace kerf::search::native
