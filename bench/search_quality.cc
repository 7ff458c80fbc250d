// How much hypervolume each sampler finds: bench_search_quality [--trials N] [--seeds N]
// [--batch N] [SAMPLER…] [TABLE.json…].
//
// Without a table, made-up problems: 20 layers of six choices, sensitivities that span two orders of
// magnitude, pairs of layers that interact, noisy latency, a bound on the loss. Numbers are shares
// of the hypervolume of all that any run found on the same table, without the noise, after 20, 50,
// 100 and 200 trials, means over the seeds.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "search/hypervolume.h"
#include "search/random.h"
#include "search/simulate.h"

namespace kerf::search {
namespace {

constexpr int kSteps[] = {20, 50, 100, 200};

double gauss(Rng& random) {
  return std::sqrt(-2 * std::log(1 - random.unit())) * std::cos(6.283185307 * random.unit());
}

/// A problem as a quantized and pruned network poses it.
Json made_up_table(std::int64_t seed) {
  constexpr int kLayers = 20;
  // f32, s8, s8 with a quarter of the channels gone, 4-bit weights, s8 with half, 4 bits with half.
  constexpr double kDamage[] = {0, .02, .08, .25, .35, .8};
  constexpr double kTime[] = {1, .42, .36, .40, .27, .25};
  constexpr double kBits[] = {32, 8, 7, 6, 5, 4};  // only the order counts
  Rng random({2024, seed});
  Json table = {{"objectives", {{{"metric", "loss"}, {"direction", "minimize"}},
                                {{"metric", "latency"}, {"direction", "minimize"}}}},
                {"constraints", {{{"metric", "loss"}, {"max", 0.5}}}},
                {"constants", {{"latency", 0.04}}},
                {"noise", {{"latency", 0.015}}},
                {"reference", {{"loss", 0.5}, {"latency", 1.1}}}};
  std::vector<double> times;
  double total = 0;
  for (int i = 0; i < kLayers; ++i) total += times.emplace_back(std::exp(0.7 * gauss(random)));
  std::vector<std::vector<double>> damage;
  double most = 0;
  for (int i = 0; i < kLayers; ++i) {
    const double sensitivity = std::exp(1.2 * gauss(random));
    damage.emplace_back();
    for (const double base : kDamage) damage[i].push_back(sensitivity * base * std::exp(.3 * gauss(random)));
    most += damage[i].back();
  }
  for (int i = 0; i < kLayers; ++i) {
    Json choices = Json::array();
    for (int k = 0; k < 6; ++k) {
      damage[i][k] *= 2.2 / most;
      choices.push_back({{"weight_bits", kBits[k]},
                         {"loss", damage[i][k]},
                         {"latency", times[i] / total * kTime[k] * std::exp(k == 0 ? 0 : .12 * gauss(random))}});
    }
    table["layers"].push_back({{"name", "layer" + std::to_string(i)}, {"choices", choices}});
  }
  for (int p = 0; p < 40; ++p) {
    const auto a = static_cast<int>(random.below(kLayers));
    const auto b = static_cast<int>(random.below(kLayers));
    if (a == b) continue;
    const double weight = .3 * gauss(random);
    for (int i = 1; i < 6; ++i) {
      for (int k = 1; k < 6; ++k) {
        table["pairs"].push_back({{"layers", {"layer" + std::to_string(a), "layer" + std::to_string(b)}},
                                  {"choices", {i, k}},
                                  {"loss", weight * std::sqrt(damage[a][i] * damage[b][k])}});
      }
    }
  }
  return table;
}

struct Run {
  std::string sampler;
  Simulation result;
};

int run(int argc, char** argv) {
  SimulationOptions options;
  std::int64_t seeds = 4;
  std::vector<std::string> samplers;
  std::vector<std::string> tables;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--trials" && i + 1 < argc) {
      options.trials = std::stoll(argv[++i]);
    } else if (word == "--seeds" && i + 1 < argc) {
      seeds = std::stoll(argv[++i]);
    } else if (word == "--batch" && i + 1 < argc) {
      options.batch = std::stoll(argv[++i]);
    } else if (word.ends_with(".json")) {
      tables.push_back(word);
    } else {
      samplers.push_back(word);
    }
  }
  if (samplers.empty()) samplers = {"profile", "optuna-tpe", "optuna-nsga2", "optuna-nsga3", "random"};
  std::vector<std::vector<double>> sums(samplers.size(), std::vector<double>(std::size(kSteps), 0));
  double runs = 0;
  const auto problems = tables.empty() ? seeds : static_cast<std::int64_t>(tables.size());
  for (std::int64_t p = 0; p < problems; ++p) {
    Json document = Json();
    if (tables.empty()) {
      document = made_up_table(p);
    } else {
      auto read = read_json_file(tables[static_cast<std::size_t>(p)]);
      if (!read.has_value()) return std::fprintf(stderr, "%s\n", read.error().message.c_str()), 2;
      document = *read;
    }
    const auto table = Table::parse(document);
    if (!table.has_value()) return std::fprintf(stderr, "%s\n", table.error().message.c_str()), 2;
    const std::int64_t first = tables.empty() ? p : 0;
    const std::int64_t last = tables.empty() ? p : seeds - 1;
    std::vector<Run> all;
    std::vector<ObjectiveVector> points;
    std::vector<Direction> directions;
    for (const Objective& objective : table->objectives()) directions.push_back(objective.direction);
    for (options.seed = first; options.seed <= last; ++options.seed) {
      runs += 1;
      for (const std::string& sampler : samplers) {
        options.sampler = sampler;
        auto result = simulate(*table, options);
        if (!result.has_value()) return std::fprintf(stderr, "%s\n", result.error().message.c_str()), 1;
        for (const SimulatedTrial& trial : result->trials) {
          if (!feasible(trial.observation.constraints)) continue;
          ObjectiveVector exact;
          const MetricValues values = table->exact(trial.choices);
          for (const Objective& objective : table->objectives()) exact.push_back(values.at(objective.metric));
          points.push_back(std::move(exact));
        }
        all.push_back({sampler, std::move(*result)});
      }
    }
    const double best = hypervolume(points, directions, table->reference());
    for (const Run& one : all) {
      const auto s = static_cast<std::size_t>(
          std::find(samplers.begin(), samplers.end(), one.sampler) - samplers.begin());
      const auto& history = one.result.exact_hypervolume;
      for (std::size_t k = 0; k < std::size(kSteps); ++k) {
        const auto at = std::min<std::size_t>(history.size(), static_cast<std::size_t>(kSteps[k]));
        sums[s][k] += at == 0 ? 0 : history[at - 1] / best;
      }
    }
  }
  std::printf("%-14s", "trials");
  for (const int step : kSteps) std::printf("%8d", step);
  std::printf("\n");
  for (std::size_t s = 0; s < samplers.size(); ++s) {
    std::printf("%-14s", samplers[s].c_str());
    for (const double sum : sums[s]) std::printf("%8.4f", sum / runs);
    std::printf("\n");
  }
  return 0;
}

}  // namespace
}  // namespace kerf::search

int main(int argc, char** argv) { return kerf::search::run(argc, argv); }
