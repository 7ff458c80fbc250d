#include "search/native/pool.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <utility>

#include "search/native/acquisition.h"
#include "search/native/solver.h"

namespace kerf::search::native {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::size_t kMostBases = 96;  // solutions whose neighbours are looked at
constexpr std::size_t kMostLabels = 128;

/// What minimises the models, for many weights, and by sets of labels between them.
std::vector<Choices> solutions(const Outlook& outlook, std::span<const Told> told) {
  const Layout& layout = *outlook.layout;
  const std::vector<AdditiveModel>& all = outlook.models;
  std::vector<const AdditiveModel*> models;
  for (std::size_t m = 0; m < all.size(); ++m) {
    if (!outlook.linked(m)) models.push_back(&all[m]);
  }
  // In units in which what the corners reach is 1.
  std::vector<Choices> corners;
  for (const AdditiveModel* model : models) {
    const AdditiveModel* one[] = {model};
    corners.push_back(solve_chain(layout, one, {1.0}));
  }
  std::vector<double> ranges;
  for (const AdditiveModel* model : models) {
    double low = kInfinity;
    double high = -kInfinity;
    const auto see = [&](const Choices& x) {
      const double value = model->latent(layout, x);
      low = std::min(low, value);
      high = std::max(high, value);
    };
    for (const Choices& x : corners) see(x);
    if (models.size() == 1 && !told.empty()) see(told.front().x);
    ranges.push_back(std::max(high - low, 1e-12 * std::max(1e-30, std::abs(high))));
  }
  std::vector<Choices> out = corners;
  for (Multipliers multipliers : sweep_multipliers(models.size())) {
    for (std::size_t m = 0; m < models.size(); ++m) multipliers[m] /= ranges[m];
    out.push_back(solve_chain(layout, models, multipliers));
  }
  const std::size_t middle = out.size();
  if (outlook.objectives == 2) {
    for (const std::size_t around : {middle - 1 - kMostBases / 8, middle - kMostBases / 3}) {
      const Choices centre = out[around];
      auto labels = label_front(layout, all[0], all[1], centre, kMostLabels);
      out.insert(out.end(), labels.begin(), labels.end());
      // Without pairs every centre gives the same.
      if (all[0].weight.empty() && all[1].weight.empty()) break;
    }
  } else if (outlook.objectives > 2) {
    for (std::size_t m = 1; m < outlook.objectives; ++m) {
      auto labels = label_front(layout, all[0], all[m], out[corners.size()], kMostLabels / 4);
      out.insert(out.end(), labels.begin(), labels.end());
    }
  }
  return out;
}

/// The front, thinned out evenly to `most`.
std::vector<std::size_t> thinned_front(const std::vector<ObjectiveVector>& values, std::size_t objectives,
                                       std::size_t most) {
  const std::vector<Direction> directions(objectives, Direction::kMinimize);
  std::vector<std::size_t> front = non_dominated(values, directions);
  std::sort(front.begin(), front.end(), [&](std::size_t a, std::size_t b) { return values[a] < values[b]; });
  if (front.size() <= most) return front;
  std::vector<std::size_t> out;
  for (std::size_t k = 0; k < most; ++k) out.push_back(front[k * (front.size() - 1) / (most - 1)]);
  return out;
}

class PoolMaker {
 public:
  explicit PoolMaker(const PoolInput& input)
      : input_(input), outlook_(input.outlook), layout_(*input.outlook.layout), objectives_(input.outlook.objectives) {}

  Pool make();

 private:
  void add_bases();
  void add_base(const Choices& x);
  void add_neighbours(std::size_t first_base, std::size_t end_base, const GainOracle& oracle);

  const PoolInput& input_;
  const Outlook& outlook_;
  const Layout& layout_;
  std::size_t objectives_;
  Pool pool_;
};

void PoolMaker::add_base(const Choices& x) {
  std::vector<double> metrics = outlook_.metrics(x);
  pool_.entries.push_back({static_cast<std::uint32_t>(pool_.bases.size()), -1, 0});
  pool_.violations.push_back(outlook_.violation(metrics));
  metrics.resize(objectives_);
  pool_.values.push_back(std::move(metrics));
  pool_.bases.push_back(x);
}

void PoolMaker::add_bases() {
  std::set<Choices> bases;
  for (Choices& x : solutions(outlook_, input_.told)) bases.insert(std::move(x));
  for (const Told& told : input_.told) {
    if (told.violation <= 0) bases.insert(told.x);
  }
  const std::vector<Choices> all(bases.begin(), bases.end());
  std::vector<ObjectiveVector> values;
  for (const Choices& x : all) {
    std::vector<double> metrics = outlook_.metrics(x);
    // What isn't feasible, or outside of the box, is a base only where nothing else is.
    if (outlook_.violation(metrics) > 0) {
      values.emplace_back();
      continue;
    }
    metrics.resize(objectives_);
    values.push_back(std::move(metrics));
  }
  std::vector<std::size_t> chosen = thinned_front(values, objectives_, kMostBases);
  if (chosen.empty()) {
    for (std::size_t i = 0; i < all.size() && i < kMostBases; ++i) chosen.push_back(i);
  }
  for (const std::size_t i : chosen) add_base(all[i]);
}

// All points that differ in one dimension from a base and could gain, were the models a little off.
void PoolMaker::add_neighbours(std::size_t first_base, std::size_t end_base, const GainOracle& oracle) {
  const std::vector<AdditiveModel>& models = outlook_.models;
  std::vector<double> latents(models.size());
  std::vector<std::vector<double>> fields(models.size());
  std::vector<double> metrics(models.size(), 0.0);
  for (std::size_t b = first_base; b < end_base; ++b) {
    const Choices x = pool_.bases[b];
    for (std::size_t m = 0; m < models.size(); ++m) {
      if (outlook_.linked(m)) continue;
      fields[m] = models[m].field(layout_, x);
      latents[m] = models[m].latent(layout_, x);
    }
    for (std::size_t d = 0; d < layout_.size(); ++d) {
      for (int v = 0; v < static_cast<int>(layout_.counts[d]); ++v) {
        if (v == x[d]) continue;
        bool inside = true;
        for (std::size_t m = 0; m < models.size() && inside; ++m) {
          if (outlook_.linked(m)) continue;
          metrics[m] = models[m].link.metric(latents[m] + models[m].swap(layout_, x, fields[m], d, v));
          if (m < objectives_) inside = metrics[m] < input_.reference[m] + kNeighbourShift * input_.spans[m];
        }
        if (!inside) continue;
        ObjectiveVector values(metrics.begin(), metrics.begin() + static_cast<std::ptrdiff_t>(objectives_));
        if (objectives_ <= 2) {
          ObjectiveVector hopeful = values;
          for (std::size_t m = 0; m < objectives_; ++m) hopeful[m] -= kNeighbourShift * input_.spans[m];
          if (!(oracle.gain(hopeful) > 0)) continue;
        }
        pool_.violations.push_back(outlook_.violation(metrics));
        pool_.values.push_back(std::move(values));
        pool_.entries.push_back({static_cast<std::uint32_t>(b), static_cast<std::int32_t>(d), v});
      }
    }
  }
}

Pool PoolMaker::make() {
  add_bases();
  const GainOracle oracle(input_.reference,
                          objectives_ <= 2 ? input_.reached : std::vector<ObjectiveVector>(),
                          std::vector<double>(objectives_, 0.0));
  std::size_t first = 0;
  const int rounds = objectives_ <= 2 ? 2 : 1;
  for (int round = 0; round < rounds; ++round) {
    const std::size_t end = pool_.bases.size();
    const std::size_t before = pool_.entries.size();
    add_neighbours(first, end, oracle);
    first = end;
    if (round + 1 == rounds) break;
    std::vector<ObjectiveVector> feasible_values;
    for (std::size_t i = 0; i < pool_.values.size(); ++i) {
      feasible_values.push_back(pool_.violations[i] > 0 ? ObjectiveVector() : pool_.values[i]);
    }
    for (const std::size_t i : thinned_front(feasible_values, objectives_, kMostBases)) {
      if (i >= before) add_base(pool_.at(pool_.entries[i]));
    }
  }
  return std::move(pool_);
}

}  // namespace

Choices Pool::at(const Entry& entry) const {
  Choices x = bases[entry.base];
  if (entry.dimension >= 0) x[static_cast<std::size_t>(entry.dimension)] = entry.value;
  return x;
}

Pool make_pool(const PoolInput& input) { return PoolMaker(input).make(); }

}  // namespace kerf::search::native
