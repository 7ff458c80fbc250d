#include "bench/search_limits.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "search/hypervolume.h"
#include "search/random.h"

namespace kerf::search {
namespace {

using Point = std::array<double, 2>;  // loss, latency

constexpr std::size_t kEnumerable = 100'000;
constexpr std::size_t kFront = 300;
constexpr int kRounds = 60;

/// The table with its terms where indices find them.
class OpenTable {
 public:
  explicit OpenTable(const Json& table) {
    std::map<std::string, std::size_t> at;
    for (const Json& layer : table["layers"]) {
      at[layer["name"].get<std::string>()] = alone_.size();
      auto& values = alone_.emplace_back();
      for (const Json& choice : layer["choices"]) values.push_back(point_of(choice));
    }
    std::map<std::vector<std::size_t>, std::size_t> known;
    for (const Json& entry : table["pairs"]) {
      std::vector<std::size_t> layers;
      for (const Json& name : entry["layers"]) layers.push_back(at.at(name.get<std::string>()));
      const auto [place, added] = known.emplace(layers, together_.size());
      if (added) {
        std::size_t count = 1;
        for (const std::size_t layer : layers) count *= alone_[layer].size();
        together_.push_back({layers, std::vector<Point>(count, Point{0, 0})});
      }
      Group& group = together_[place->second];
      std::size_t index = 0;
      for (std::size_t k = 0; k < layers.size(); ++k) {
        index = index * alone_[layers[k]].size() + entry["choices"][k].get<std::size_t>();
      }
      const Point adds = point_of(entry);
      for (std::size_t m = 0; m < 2; ++m) group.adds[index][m] += adds[m];
    }
    constant_ = point_of(table["constants"]);
    reference_ = point_of(table["reference"]);
  }

  [[nodiscard]] std::size_t layers() const { return alone_.size(); }
  [[nodiscard]] std::size_t choices(std::size_t layer) const { return alone_[layer].size(); }
  [[nodiscard]] const Point& alone(std::size_t layer, int value) const {
    return alone_[layer][static_cast<std::size_t>(value)];
  }

  [[nodiscard]] Point at(const std::vector<int>& x) const {
    Point out = constant_;
    const auto add = [&](const Point& p) {
      out[0] += p[0];
      out[1] += p[1];
    };
    for (std::size_t d = 0; d < x.size(); ++d) add(alone(d, x[d]));
    for (const Group& group : together_) {
      std::size_t index = 0;
      for (const std::size_t layer : group.layers) {
        index = index * alone_[layer].size() + static_cast<std::size_t>(x[layer]);
      }
      add(group.adds[index]);
    }
    return out;
  }

  [[nodiscard]] bool inside(const Point& p) const { return p[0] < reference_[0] && p[1] < reference_[1]; }

  [[nodiscard]] double volume(const std::vector<Point>& points) const {
    std::vector<ObjectiveVector> all;
    for (const Point& p : points) all.push_back({p[0], p[1]});
    const Direction directions[] = {Direction::kMinimize, Direction::kMinimize};
    return hypervolume(all, directions, reference_);
  }

 private:
  struct Group {
    std::vector<std::size_t> layers;
    std::vector<Point> adds;  // by the values of the layers, the last one fastest
  };

  static Point point_of(const Json& entry) { return {entry.value("loss", 0.0), entry.value("latency", 0.0)}; }

  std::vector<std::vector<Point>> alone_;
  std::vector<Group> together_;
  Point constant_{};
  Point reference_{};
};

struct Solution {
  Point values;
  std::vector<int> x;
};

/// Leaves the front, thinned out evenly to `most`.
void keep_front(std::vector<Solution>& all, std::size_t most) {
  std::sort(all.begin(), all.end(), [](const Solution& a, const Solution& b) {
    return a.values != b.values ? a.values < b.values : a.x < b.x;
  });
  std::vector<Solution> front;
  for (Solution& one : all) {
    if (front.empty() || one.values[1] < front.back().values[1]) front.push_back(std::move(one));
  }
  all.clear();
  if (front.size() <= most) {
    all = std::move(front);
    return;
  }
  for (std::size_t k = 0; k < most; ++k) all.push_back(front[k * (front.size() - 1) / (most - 1)]);
}

std::vector<Solution> every_point(const OpenTable& table) {
  std::vector<Solution> out;
  std::vector<int> x(table.layers(), 0);
  for (;;) {
    const Point values = table.at(x);
    if (table.inside(values)) out.push_back({values, x});
    std::size_t d = 0;
    while (d < x.size() && ++x[d] == static_cast<int>(table.choices(d))) x[d++] = 0;
    if (d == x.size()) break;
  }
  keep_front(out, out.size() + 1);
  return out;
}

std::vector<Solution> searched_front(const OpenTable& table) {
  const std::size_t n = table.layers();
  Rng random({5, static_cast<std::int64_t>(n)});
  const auto any = [&](std::size_t count) {
    return static_cast<std::size_t>(random.below(static_cast<std::int64_t>(count)));
  };
  std::vector<Solution> front;
  const auto add = [&](std::vector<Solution>& to, std::vector<int> x) {
    const Point values = table.at(x);
    if (table.inside(values)) to.push_back({values, std::move(x)});
  };
  add(front, std::vector<int>(n, 0));
  for (int k = 0; k < 80; ++k) {
    const double ratio = std::exp(-4 + 8.0 * k / 79);
    std::vector<int> x(n, 0);
    for (std::size_t d = 0; d < n; ++d) {
      const auto cost = [&](int v) { return ratio * table.alone(d, v)[0] + table.alone(d, v)[1]; };
      for (int v = 1; v < static_cast<int>(table.choices(d)); ++v) x[d] = cost(v) < cost(x[d]) ? v : x[d];
    }
    add(front, x);
  }
  keep_front(front, kFront);
  double before = 0;
  int idle = 0;
  for (int round = 0; round < kRounds && idle < 3; ++round) {
    std::vector<Solution> next = front;
    for (const Solution& one : front) {
      for (std::size_t d = 0; d < n; ++d) {
        for (std::size_t v = 0; v < table.choices(d); ++v) {
          std::vector<int> x = one.x;
          x[d] = static_cast<int>(v);
          add(next, std::move(x));
        }
      }
      for (int child = 0; child < 60; ++child) {
        std::vector<int> x = one.x;
        std::size_t changes = 2 + static_cast<std::size_t>(round % 2);
        if (child % 2 == 1) {
          const std::vector<int>& other = front[any(front.size())].x;
          for (std::size_t d = 0; d < n; ++d) x[d] = random.below(2) == 0 ? x[d] : other[d];
          changes = any(2);
        }
        for (std::size_t k = 0; k < changes; ++k) {
          const std::size_t d = any(n);
          x[d] = static_cast<int>(any(table.choices(d)));
        }
        add(next, std::move(x));
      }
    }
    keep_front(next, kFront);
    front = std::move(next);
    std::vector<Point> points;
    for (const Solution& one : front) points.push_back(one.values);
    const double volume = table.volume(points);
    idle = volume - before < 1e-6 * volume ? idle + 1 : 0;
    before = volume;
  }
  return front;
}

/// Hypervolume of the best few of these points: chosen greedily, then exchanged while that gains.
double best_few(const OpenTable& table, const std::vector<Point>& points, std::size_t count) {
  std::vector<Point> chosen;
  double most = 0;
  const auto best_of_all = [&](std::size_t place) {
    for (const Point& p : points) {
      std::vector<Point> with = chosen;
      with[place] = p;
      const double volume = table.volume(with);
      if (volume <= most + 1e-12) continue;
      most = volume;
      chosen = std::move(with);
    }
  };
  for (std::size_t k = 0; k < std::min(count, points.size()); ++k) {
    chosen.push_back(points.front());
    best_of_all(k);
  }
  for (double before = -1; before < most;) {
    before = most;
    for (std::size_t k = 0; k < chosen.size(); ++k) best_of_all(k);
  }
  return most;
}

}  // namespace

TableLimits limits_of(const Json& document, std::size_t trials) {
  const OpenTable table(document);
  std::size_t size = 1;
  for (std::size_t d = 0; d < table.layers() && size <= kEnumerable; ++d) size *= table.choices(d);
  TableLimits out;
  out.exact = size <= kEnumerable;
  std::vector<Point> points;
  for (const Solution& one : out.exact ? every_point(table) : searched_front(table)) points.push_back(one.values);
  out.whole = table.volume(points);
  out.few = best_few(table, points, trials);
  return out;
}

double one_shot_of(const Json& document, std::size_t trials) {
  constexpr int kRatios = 400;
  const OpenTable table(document);
  std::set<std::vector<int>> solutions;
  for (std::size_t v = 0; v < table.choices(0); ++v) {
    solutions.insert(std::vector<int>(table.layers(), static_cast<int>(v)));
  }
  for (int k = 0; k < kRatios; ++k) {
    const double ratio = std::exp(-8 + 16.0 * k / (kRatios - 1));
    std::vector<int> x;
    for (const Json& layer : document["layers"]) {
      std::vector<double> costs;
      for (const Json& choice : layer["choices"]) {
        const Json& seen = choice["profile"];
        costs.push_back(ratio * seen["loss"].get<double>() + seen["latency"].get<double>());
      }
      x.push_back(static_cast<int>(std::min_element(costs.begin(), costs.end()) - costs.begin()));
    }
    solutions.insert(std::move(x));
  }
  std::vector<Point> points;
  for (const std::vector<int>& x : solutions) points.push_back(table.at(x));
  return best_few(table, points, trials);
}

}  // namespace kerf::search
