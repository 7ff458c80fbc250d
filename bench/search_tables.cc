#include "bench/search_tables.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "search/native/guard.h"
#include "search/random.h"

namespace kerf::search {
namespace {

constexpr int kChoices = 6;
constexpr double kDamage[kChoices] = {0, .02, .08, .25, .35, .8};
constexpr double kTime[kChoices] = {1, .42, .36, .40, .27, .25};
constexpr bool kInteger[kChoices] = {false, true, true, false, true, false};
constexpr double kBits[kChoices] = {32, 8, 7, 6, 5, 4};  // only the order counts
// Measured on networks of 10, 12 and 20 layers (docs/search.md): 62, 72 and 112 looks.
constexpr double kTrialsALook = 0.0105;
constexpr double kSharedLooks = 12;  // that serve all layers at once: costs of precisions and reorders

using Grid = std::vector<std::vector<double>>;

double gauss(Rng& random) {
  return std::sqrt(-2 * std::log(1 - random.unit())) * std::cos(6.283185307179586 * random.unit());
}

/// What a look says of the damage, with errors of this size.
Grid looked_at(const Grid& damage, double error, double unit, double power, const Grid& layer_errors,
               const Grid& choice_errors) {
  Grid out = damage;
  for (std::size_t i = 0; i < damage.size(); ++i) {
    for (std::size_t k = 0; k < damage[i].size(); ++k) {
      if (k == 0) continue;
      out[i][k] = unit * std::pow(damage[i][k], power) *
                  std::exp(error * (layer_errors[i][0] + choice_errors[i][k]));
    }
  }
  return out;
}

double correlation(const Grid& a, const Grid& b) {
  std::vector<double> x;
  std::vector<double> y;
  for (std::size_t i = 0; i < a.size(); ++i) {
    for (std::size_t k = 1; k < a[i].size(); ++k) {
      x.push_back(a[i][k]);
      y.push_back(b[i][k]);
    }
  }
  return native::rank_correlation(x, y);
}

}  // namespace

Json made_up_table(const MadeUpTable& what) {
  const auto n = static_cast<std::size_t>(what.layers);
  Rng random({2024, what.seed, what.layers});
  Json table = {{"objectives", {{{"metric", "loss"}, {"direction", "minimize"}},
                                {{"metric", "latency"}, {"direction", "minimize"}}}},
                {"constraints", {{{"metric", "loss"}, {"max", 0.35}}}},
                {"constants", {{"latency", 0.04}}},
                {"noise", {{"loss", 0.03}, {"latency", 0.015}}},
                {"reference", {{"loss", 0.35}, {"latency", 1.1}}},
                {"profile_cost", kTrialsALook * (kSharedLooks + static_cast<double>(n * (kChoices - 1)))}};
  std::vector<double> times;
  double total = 0;
  for (std::size_t i = 0; i < n; ++i) total += times.emplace_back(std::exp(0.7 * gauss(random)));
  Grid damage(n);
  double most = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double sensitivity = std::exp(1.2 * gauss(random));
    for (const double base : kDamage) damage[i].push_back(sensitivity * base * std::exp(.3 * gauss(random)));
    most += damage[i].back();
  }
  Grid latency(n);
  for (std::size_t i = 0; i < n; ++i) {
    for (int k = 0; k < kChoices; ++k) {
      damage[i][static_cast<std::size_t>(k)] *= 2.2 / most;
      latency[i].push_back(times[i] / total * kTime[k] * std::exp(k == 0 ? 0 : .12 * gauss(random)));
    }
  }
  const double unit = std::exp(std::log(3.0) * (2 * random.unit() - 1));
  const double power = 0.75 + 0.5 * random.unit();
  Grid layer_errors(n);
  Grid choice_errors(n);
  for (std::size_t i = 0; i < n; ++i) {
    layer_errors[i].push_back(gauss(random));
    for (int k = 0; k < kChoices; ++k) choice_errors[i].push_back(gauss(random));
  }
  // The size of the errors that gives the wanted correlation, by bisection.
  double low = 0;
  double high = what.rank_correlation >= 1 ? 0 : 8;
  for (int step = 0; step < 40; ++step) {
    const double middle = (low + high) / 2;
    const Grid look = looked_at(damage, middle, unit, power, layer_errors, choice_errors);
    (correlation(look, damage) > what.rank_correlation ? low : high) = middle;
  }
  const Grid look = looked_at(damage, low, unit, power, layer_errors, choice_errors);
  for (std::size_t i = 0; i < n; ++i) {
    Json choices = Json::array();
    const double slant = 1 + .04 * gauss(random);
    for (std::size_t k = 0; k < kChoices; ++k) {
      choices.push_back({{"weight_bits", kBits[k]},
                         {"loss", damage[i][k]},
                         {"latency", latency[i][k]},
                         {"profile", {{"loss", look[i][k]},
                                      {"latency", latency[i][k] * slant * (1 + .03 * gauss(random))}}}});
    }
    table["layers"].push_back({{"name", "layer" + std::to_string(i)}, {"choices", choices}});
  }
  const auto name = [](std::size_t i) { return "layer" + std::to_string(i); };
  const auto interact = [&](std::size_t a, std::size_t b, double weight) {
    for (std::size_t i = 1; i < kChoices; ++i) {
      for (std::size_t k = 1; k < kChoices; ++k) {
        table["pairs"].push_back({{"layers", {name(a), name(b)}},
                                  {"choices", {i, k}},
                                  {"loss", weight * std::sqrt(damage[a][i] * damage[b][k])}});
      }
    }
  };
  Rng look_random({2025, what.seed, what.layers});  // of its own: the truth is the same without it
  for (std::size_t i = 0; i + 1 < n; ++i) {
    interact(i, i + 1, .3 * gauss(random));
    const double reorder = (.02 + .08 * random.unit()) * (times[i] + times[i + 1]) / total / 2;
    const double seen = reorder * std::exp(.3 * gauss(look_random));
    for (std::size_t a = 0; a < kChoices; ++a) {
      for (std::size_t b = 0; b < kChoices; ++b) {
        if (kInteger[a] == kInteger[b]) continue;
        table["pairs"].push_back({{"layers", {name(i), name(i + 1)}}, {"choices", {a, b}}, {"latency", reorder}});
        if (what.reorders_seen) table["pairs"].back()["profile"] = {{"latency", seen}};
      }
    }
  }
  const auto any = [&] { return static_cast<std::size_t>(random.below(what.layers)); };
  for (std::size_t p = 0; p < 3 * n / 2; ++p) {
    const std::size_t a = any();
    const std::size_t b = any();
    const double weight = .15 * gauss(random);
    if (a != b) interact(a, b, weight);
  }
  for (std::size_t t = 0; what.three_way && t < 5 * n / 4; ++t) {
    const std::size_t a = any();
    const std::size_t b = any();
    const std::size_t c = any();
    const double weight = .35 * gauss(random);
    if (a == b || b == c || a == c) continue;
    for (std::size_t i = 1; i < kChoices; ++i) {
      for (std::size_t j = 1; j < kChoices; ++j) {
        for (std::size_t k = 1; k < kChoices; ++k) {
          table["pairs"].push_back(
              {{"layers", {name(a), name(b), name(c)}},
               {"choices", {i, j, k}},
               {"loss", weight * std::cbrt(damage[a][i] * damage[b][j] * damage[c][k])},
               {"latency", .12 / static_cast<double>(n) * gauss(random)}});
        }
      }
    }
  }
  return table;
}

}  // namespace kerf::search
