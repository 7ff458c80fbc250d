#include "search/native/solver.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "search/native/halton.h"

namespace kerf::search::native {
namespace {

constexpr int kRounds = 4;           // of the field of far pairs
constexpr std::size_t kRatios = 48;  // of two models
constexpr std::size_t kDraws = 144;  // of more

/// The weighted sum of models as one chain, for a field that far pairs exert.
class Chain {
 public:
  Chain(const Layout& layout, std::span<const AdditiveModel* const> models,
        const Multipliers& multipliers)
      : layout_(layout), models_(models), multipliers_(multipliers) {
    for (const AdditiveModel* model : models) far_ = far_ || !model->weight.empty();
    pair_.assign(layout.chain_values, 0.0);
    for (std::size_t m = 0; m < models.size(); ++m) add_pairs(*models[m], multipliers[m]);
  }

  [[nodiscard]] bool far() const { return far_; }

  /// Minimises; without a solution to start from, far pairs are left out.
  [[nodiscard]] Choices minimise(const Choices* from) const {
    const std::size_t n = layout_.size();
    std::vector<double> unary(layout_.values, 0.0);
    for (std::size_t m = 0; m < models_.size(); ++m) {
      const AdditiveModel& model = *models_[m];
      for (std::size_t at = 0; at < layout_.values; ++at) {
        unary[at] += multipliers_[m] * model.unary[at];
      }
      if (from == nullptr || model.weight.empty()) continue;
      std::vector<double> pull = model.field(layout_, *from);
      for (std::size_t d = 0; d < n; ++d) {
        // Neighbours stand in the chain already.
        if (d > 0) pull[d] -= near_pull(model, d, d - 1, *from);
        if (d + 1 < n) pull[d] -= near_pull(model, d, d + 1, *from);
        for (std::size_t v = 0; v < layout_.counts[d]; ++v) {
          const std::size_t at = layout_.offsets[d] + v;
          unary[at] += multipliers_[m] * pull[d] * model.root[at];
        }
      }
    }
    return walk(unary);
  }

  [[nodiscard]] double cost(const Choices& x) const {
    double sum = 0;
    for (std::size_t m = 0; m < models_.size(); ++m) {
      sum += multipliers_[m] * models_[m]->latent(layout_, x);
    }
    return sum;
  }

 private:
  void add_pairs(const AdditiveModel& model, double multiplier) {
    const std::size_t n = layout_.size();
    for (std::size_t d = 0; d + 1 < n; ++d) {
      const double weight = model.weight.empty() ? 0 : model.weight[d * n + d + 1];
      for (int v = 0; v < static_cast<int>(layout_.counts[d]); ++v) {
        for (int w = 0; w < static_cast<int>(layout_.counts[d + 1]); ++w) {
          const std::size_t at = layout_.chain_at(d, v, w);
          double value = model.chain.empty() ? 0 : model.chain[at];
          if (weight != 0) value += weight * model.root[layout_.at(d, v)] * model.root[layout_.at(d + 1, w)];
          pair_[at] += multiplier * value;
        }
      }
    }
  }

  [[nodiscard]] double near_pull(const AdditiveModel& model, std::size_t d, std::size_t other,
                                 const Choices& x) const {
    return model.weight[d * layout_.size() + other] * model.root[layout_.at(other, x[other])];
  }

  /// Viterbi: the least cost of all that comes before, for each value of each dimension.
  [[nodiscard]] Choices walk(const std::vector<double>& unary) const {
    const std::size_t n = layout_.size();
    Choices x(n, 0);
    if (n == 0) return x;
    std::vector<int> back(layout_.values, 0);
    std::vector<double> cost(unary.begin(), unary.begin() + static_cast<std::ptrdiff_t>(layout_.counts[0]));
    std::vector<double> next;
    for (std::size_t d = 1; d < n; ++d) {
      const std::size_t count = layout_.counts[d];
      next.assign(count, std::numeric_limits<double>::infinity());
      const double* pair = pair_.data() + layout_.chains[d - 1];
      for (std::size_t v = 0; v < cost.size(); ++v) {
        for (std::size_t w = 0; w < count; ++w) {
          const double value = cost[v] + pair[v * count + w];
          if (value < next[w]) {
            next[w] = value;
            back[layout_.offsets[d] + w] = static_cast<int>(v);
          }
        }
      }
      for (std::size_t w = 0; w < count; ++w) next[w] += unary[layout_.offsets[d] + w];
      cost.swap(next);
    }
    x[n - 1] = static_cast<int>(std::min_element(cost.begin(), cost.end()) - cost.begin());
    for (std::size_t d = n - 1; d > 0; --d) x[d - 1] = back[layout_.at(d, x[d])];
    return x;
  }

  const Layout& layout_;
  std::span<const AdditiveModel* const> models_;
  const Multipliers& multipliers_;
  std::vector<double> pair_;
  bool far_ = false;
};

struct Label {
  double first = 0;
  double second = 0;
  std::size_t parent = 0;
  int value = 0;
};

/// A model's terms with its pairs linearised around a solution.
std::vector<double> linearised(const Layout& layout, const AdditiveModel& model, const Choices& x) {
  const std::vector<double> field = model.field(layout, x);
  std::vector<double> out(layout.values);
  for (std::size_t d = 0; d < layout.size(); ++d) {
    for (int v = 0; v < static_cast<int>(layout.counts[d]); ++v) {
      out[layout.at(d, v)] = model.swap(layout, x, field, d, v);
    }
  }
  return out;
}

/// Leaves the non-dominated labels, best in the first first, at most so many.
void thin(std::vector<Label>& labels, std::size_t most) {
  std::sort(labels.begin(), labels.end(), [](const Label& a, const Label& b) {
    return a.first != b.first ? a.first < b.first : a.second < b.second;
  });
  std::size_t kept = 0;
  double least = std::numeric_limits<double>::infinity();
  for (const Label& label : labels) {
    if (!(label.second < least)) continue;
    least = label.second;
    labels[kept++] = label;
  }
  labels.resize(kept);
  if (kept <= most) return;
  std::vector<Label> out;
  for (std::size_t k = 0; k < most; ++k) out.push_back(labels[k * (kept - 1) / (most - 1)]);
  labels = std::move(out);
}

}  // namespace

Choices solve_chain(const Layout& layout, std::span<const AdditiveModel* const> models,
                    const Multipliers& multipliers) {
  const Chain chain(layout, models, multipliers);
  Choices x = chain.minimise(nullptr);
  if (!chain.far()) return x;
  Choices best = x;
  double least = chain.cost(x);
  for (int round = 0; round < kRounds; ++round) {
    Choices next = chain.minimise(&x);
    if (next == x) break;
    x = std::move(next);
    const double cost = chain.cost(x);
    if (cost < least) {
      least = cost;
      best = x;
    }
  }
  return best;
}

std::vector<Multipliers> sweep_multipliers(std::size_t count) {
  std::vector<Multipliers> out;
  if (count == 1) return {{1.0}};
  for (std::size_t corner = 0; corner < count; ++corner) {
    Multipliers one(count, 1e-6);
    one[corner] = 1;
    out.push_back(std::move(one));
  }
  if (count == 2) {
    for (std::size_t k = 0; k < kRatios; ++k) {
      const double t = static_cast<double>(k) / static_cast<double>(kRatios - 1);
      out.push_back({std::pow(10.0, 6 * t - 3), 1.0});
    }
    return out;
  }
  constexpr std::size_t kPrimes[] = {2, 3, 5, 7, 11, 13, 17, 19};
  for (std::size_t k = 1; k <= kDraws; ++k) {
    Multipliers one(count);
    for (std::size_t m = 0; m < count; ++m) {
      one[m] = std::pow(10.0, 4 * halton(k, kPrimes[m % std::size(kPrimes)]) - 2);
    }
    out.push_back(std::move(one));
  }
  return out;
}

std::vector<Choices> label_front(const Layout& layout, const AdditiveModel& first,
                                 const AdditiveModel& second, const Choices& around,
                                 std::size_t most_labels) {
  const std::vector<double> one = linearised(layout, first, around);
  const std::vector<double> two = linearised(layout, second, around);
  std::vector<std::vector<Label>> stages;
  std::vector<Label> before = {{}};
  for (std::size_t d = 0; d < layout.size(); ++d) {
    std::vector<Label> labels;
    labels.reserve(before.size() * layout.counts[d]);
    for (std::size_t p = 0; p < before.size(); ++p) {
      for (int v = 0; v < static_cast<int>(layout.counts[d]); ++v) {
        const std::size_t at = layout.at(d, v);
        labels.push_back({before[p].first + one[at], before[p].second + two[at], p, v});
      }
    }
    thin(labels, most_labels);
    stages.push_back(labels);
    before = std::move(labels);
  }
  std::vector<Choices> out;
  for (const Label& end : before) {
    Choices x(layout.size(), 0);
    const Label* label = &end;
    for (std::size_t d = layout.size(); d-- > 0;) {
      x[d] = label->value;
      if (d > 0) label = &stages[d - 1][label->parent];
    }
    out.push_back(std::move(x));
  }
  return out;
}

}  // namespace kerf::search::native
