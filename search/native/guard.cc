#include "search/native/guard.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace kerf::search::native {
namespace {

std::vector<double> ranks_of(const std::vector<double>& values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return values[a] < values[b]; });
  std::vector<double> ranks(values.size());
  for (std::size_t i = 0; i < order.size();) {
    std::size_t end = i + 1;
    while (end < order.size() && values[order[end]] == values[order[i]]) ++end;
    for (std::size_t k = i; k < end; ++k) ranks[order[k]] = 0.5 * static_cast<double>(i + end - 1);
    i = end;
  }
  return ranks;
}

bool beats(const Individual& a, const Individual& b) {
  bool better = false;
  for (std::size_t m = 0; m < a.objectives.size(); ++m) {
    if (a.objectives[m] > b.objectives[m]) return false;
    better = better || a.objectives[m] < b.objectives[m];
  }
  return better;
}

/// Front number and room of each feasible individual; the rest after them, by violation.
struct Standing {
  double level = 0;
  double room = 0;
};

std::vector<Standing> standings(const std::vector<Individual>& all) {
  std::vector<Standing> out(all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i].violation > 0) {
      out[i].level = 1e6 + all[i].violation;
      continue;
    }
    // How many beat it: as good as the front's number to compare by, and one pass.
    for (const Individual& other : all) {
      out[i].level += other.violation <= 0 && beats(other, all[i]) ? 1 : 0;
    }
  }
  if (all.empty()) return out;
  for (std::size_t m = 0; m < all.front().objectives.size(); ++m) {
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (out[i].level == 0) order.push_back(i);
    }
    if (order.empty()) break;
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return all[a].objectives[m] < all[b].objectives[m];
    });
    const double range = std::max(
        1e-300, all[order.back()].objectives[m] - all[order.front()].objectives[m]);
    for (std::size_t k = 0; k < order.size(); ++k) {
      const bool end = k == 0 || k + 1 == order.size();
      out[order[k]].room += end ? 1
                                : (all[order[k + 1]].objectives[m] - all[order[k - 1]].objectives[m]) / range;
    }
  }
  return out;
}

const Individual& tournament(const std::vector<Individual>& population,
                             const std::vector<Standing>& standing, Rng& random) {
  const auto count = static_cast<std::int64_t>(population.size());
  const auto a = static_cast<std::size_t>(random.below(count));
  const auto b = static_cast<std::size_t>(random.below(count));
  const bool first = standing[a].level != standing[b].level ? standing[a].level < standing[b].level
                                                            : standing[a].room >= standing[b].room;
  return population[first ? a : b];
}

}  // namespace

double rank_correlation(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() < 3 || a.size() != b.size()) return 1;
  const std::vector<double> ra = ranks_of(a);
  const std::vector<double> rb = ranks_of(b);
  const double mean = 0.5 * static_cast<double>(a.size() - 1);
  double ab = 0;
  double aa = 0;
  double bb = 0;
  for (std::size_t i = 0; i < ra.size(); ++i) {
    ab += (ra[i] - mean) * (rb[i] - mean);
    aa += (ra[i] - mean) * (ra[i] - mean);
    bb += (rb[i] - mean) * (rb[i] - mean);
  }
  return aa == 0 || bb == 0 ? 0 : ab / std::sqrt(aa * bb);
}

Choices breed(const Layout& layout, const std::vector<DimensionSpec>& dimensions,
              const std::vector<Individual>& population, Rng& random) {
  const std::vector<Standing> standing = standings(population);
  const Individual& mother = tournament(population, standing, random);
  const Individual& father = tournament(population, standing, random);
  Choices x = mother.x;
  for (std::size_t d = 0; d < x.size(); ++d) {
    if (random.below(2) == 0) x[d] = father.x[d];
    if (random.below(static_cast<std::int64_t>(x.size())) != 0) continue;
    const auto count = static_cast<int>(layout.counts[d]);
    if (dimensions[d].ordered && count > 2) {
      x[d] += random.below(2) == 0 ? 1 : -1;
      if (x[d] < 0) x[d] = 1;
      if (x[d] >= count) x[d] = count - 2;
    } else {
      x[d] = static_cast<int>((x[d] + 1 + random.below(count - 1)) % count);
    }
  }
  return x;
}

Choices probe_group(const Layout& layout, const std::vector<Individual>& population, Rng& random) {
  const std::vector<Standing> standing = standings(population);
  Choices x = tournament(population, standing, random).x;
  const auto n = static_cast<std::int64_t>(x.size());
  const std::int64_t length = std::max<std::int64_t>(1, n / 5);
  const std::int64_t start = random.below(n - length + 1);
  const std::int64_t shift = random.below(1 << 16);
  for (std::int64_t d = start; d < start + length; ++d) {
    const auto at = static_cast<std::size_t>(d);
    const auto count = static_cast<std::int64_t>(layout.counts[at]);
    x[at] = static_cast<int>((x[at] + 1 + shift % (count - 1)) % count);
  }
  return x;
}

}  // namespace kerf::search::native
