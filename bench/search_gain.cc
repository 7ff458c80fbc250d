// What the native sampler gains in 20 trials, its profile paid, beside Optuna's samplers with anchors
// and constraints in 200: bench_search_gain [--seeds N] [--layers 10,20,50] [--only SAMPLER,…]
// [--keep FILE] [--trials N] [--reorders 0]. `--keep` remembers what Optuna found between runs.
//
// A gain is hypervolume over that of the baseline and the uniform candidates alone, without the noise.
// Optuna's best is the sampler with the best median on that kind of table. `look` is the rank
// correlation of the profile's losses with the true ones. `most` is the ratio of somebody who knows the
// table and measures the best as many points that the native sampler has left: what no sampler can pass.
// `one` is the ratio of a knapsack over the profile, which learns nothing from what it measures (one_shot_of).
// `--reorders 0` takes the reorders between neighbours out of the profile.
//
// At the end, tables small enough that all points are looked at: the share of the whole front's
// hypervolume that the sampler has.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <functional>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "bench/search_limits.h"
#include "bench/search_tables.h"
#include "core/json.h"
#include "search/simulate.h"

namespace kerf::search {
namespace {

constexpr std::int64_t kOptunaTrials = 200;
const std::vector<std::string> kOptunaSamplers = {"optuna-tpe", "optuna-nsga2", "optuna-nsga3"};
constexpr double kCorrelations[] = {1, 0.83, 0.64, 0.45};
constexpr std::int64_t kSmall = 6;  // layers, of which all points are looked at

struct Arguments {
  std::int64_t seeds = 5;
  std::int64_t trials = 20;
  std::vector<std::int64_t> layers = {10, 20, 50};
  std::vector<std::string> samplers = {"profile"};
  std::string keep;
  bool reorders_seen = true;
};

std::vector<std::string> words(const std::string& text) {
  std::vector<std::string> out;
  std::stringstream stream(text);
  for (std::string word; std::getline(stream, word, ',');) out.push_back(word);
  return out;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  return n == 0 ? 0 : n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

Table table_of(const MadeUpTable& what) {
  auto parsed = Table::parse(made_up_table(what));
  if (!parsed.has_value()) {
    std::fprintf(stderr, "%s\n", parsed.error().message.c_str());
    std::exit(1);
  }
  return *parsed;
}

double volume_after(const Table& table, const SimulationOptions& options) {
  auto result = simulate(table, options);
  if (!result.has_value()) {
    std::fprintf(stderr, "%s\n", result.error().message.c_str());
    std::exit(1);
  }
  return result->exact_hypervolume.empty() ? 0 : result->exact_hypervolume.back();
}

/// Runs jobs on as many threads as there are cores.
void run_all(std::vector<std::function<void()>> jobs) {
  std::mutex mutex;
  std::size_t next = 0;
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < std::max(1U, std::thread::hardware_concurrency()); ++t) {
    threads.emplace_back([&] {
      for (;;) {
        std::size_t mine = 0;
        {
          const std::lock_guard lock(mutex);
          if (next == jobs.size()) return;
          mine = next++;
        }
        jobs[mine]();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

std::string key_of(const MadeUpTable& what, const std::string& sampler) {
  return sampler + "/" + std::to_string(what.layers) + (what.three_way ? "/three/" : "/pairs/") +
         std::to_string(what.seed);
}

/// Shares of the exhaustive front's hypervolume in small spaces.
void print_small(const Arguments& arguments, const std::string& sampler) {
  std::printf("%s: share of the exhaustive front's hypervolume, %lld layers, %lld trials\n%-9s %8s %8s %8s\n",
              sampler.c_str(), static_cast<long long>(kSmall), static_cast<long long>(arguments.trials), "terms",
              "look", "median", "worst");
  for (const bool three_way : {false, true}) {
    for (const double correlation : kCorrelations) {
      std::vector<double> shares;
      for (std::int64_t seed = 0; seed < arguments.seeds; ++seed) {
        const MadeUpTable what{kSmall, correlation, three_way, seed, arguments.reorders_seen};
        const double value = volume_after(table_of(what), {.sampler = sampler, .trials = arguments.trials,
                                                           .look = uses_profile(sampler), .seed = seed});
        shares.push_back(value / limits_of(made_up_table(what), 1).whole);
      }
      std::printf("%-9s %8.2f %8.3f %8.3f\n", three_way ? "three-way" : "pairs", correlation, median(shares),
                  *std::min_element(shares.begin(), shares.end()));
    }
  }
  std::printf("\n");
}

int run(const Arguments& arguments) {
  std::map<std::string, double> found;
  std::map<std::string, double> kept;
  if (!arguments.keep.empty()) {
    std::ifstream file(arguments.keep);
    std::string key;
    double value = 0;
    while (file >> key >> value) kept[key] = value;
  }
  const auto points_left = [&](const Json& made) {
    return static_cast<std::size_t>(std::floor(static_cast<double>(arguments.trials) - made["profile_cost"].get<double>()));
  };
  std::mutex mutex;
  std::vector<std::function<void()>> jobs;
  std::vector<MadeUpTable> problems;
  for (const std::int64_t layers : arguments.layers) {
    for (const bool three_way : {false, true}) {
      for (std::int64_t seed = 0; seed < arguments.seeds; ++seed) problems.push_back({layers, 1, three_way, seed});
    }
  }
  for (const MadeUpTable& what : problems) {
    const auto job = [&](const std::string& key, auto&& compute) {
      if (const auto old = kept.find(key); old != kept.end()) {
        found[key] = old->second;
        return;
      }
      jobs.emplace_back([&, key, compute] {
        const double value = compute();
        const std::lock_guard lock(mutex);
        found[key] = kept[key] = value;
        if (arguments.keep.empty()) return;
        std::ofstream file(arguments.keep);
        file.precision(17);
        for (const auto& [name, number] : kept) file << name << " " << number << "\n";
      });
    };
    job(key_of(what, "anchors"), [what] {
      const Table table = table_of(what);
      const auto anchors = static_cast<std::int64_t>(table.problem(1, false).anchors.size());
      return volume_after(table, {.sampler = "random", .trials = anchors, .seed = what.seed});
    });
    job(key_of(what, "most" + std::to_string(arguments.trials)), [what, &points_left] {
      const Json made = made_up_table(what);
      return limits_of(made, points_left(made)).few;
    });
    for (const std::string& sampler : kOptunaSamplers) {
      job(key_of(what, sampler), [what, sampler] {
        return volume_after(table_of(what), {.sampler = sampler, .trials = kOptunaTrials, .seed = what.seed});
      });
    }
  }
  std::map<std::string, double> native;
  for (const MadeUpTable& shared : problems) {
    for (const double correlation : kCorrelations) {
      jobs.emplace_back([&, shared, correlation] {
        MadeUpTable what = shared;
        what.rank_correlation = correlation;
        const Json made = made_up_table(what);
        const double value = one_shot_of(made, points_left(made));
        const std::lock_guard lock(mutex);
        native[key_of(what, "one-shot") + "/" + std::to_string(correlation)] = value;
      });
      for (const std::string& sampler : arguments.samplers) {
        MadeUpTable what = shared;
        what.rank_correlation = correlation;
        what.reorders_seen = arguments.reorders_seen;
        jobs.emplace_back([&, what, sampler] {
          const double value = volume_after(table_of(what), {.sampler = sampler, .trials = arguments.trials,
                                                             .look = uses_profile(sampler), .seed = what.seed});
          const std::lock_guard lock(mutex);
          native[key_of(what, sampler) + "/" + std::to_string(what.rank_correlation)] = value;
        });
      }
    }
  }
  run_all(std::move(jobs));

  std::printf("gain of %lld trials (profile paid) over Optuna's best at %lld; medians of %lld seeds\n\n",
              static_cast<long long>(arguments.trials), static_cast<long long>(kOptunaTrials),
              static_cast<long long>(arguments.seeds));
  std::printf("%-9s %6s %-9s %8s %8s %8s %-12s %6s %6s %6s %6s %6s\n", "sampler", "layers", "terms", "look", "gain",
              "optuna", "", "ratio", "worst", "best", "one", "most");
  for (const std::string& sampler : arguments.samplers) {
    double logs = 0;
    double asked_logs = 0;
    double most_logs = 0;
    double one_logs = 0;
    int rows = 0;
    int asked_rows = 0;
    double least_row = 1e9;
    for (const std::int64_t layers : arguments.layers) {
      for (const bool three_way : {false, true}) {
        for (const double correlation : kCorrelations) {
          std::vector<double> gains;
          std::vector<double> knowing;
          std::vector<double> at_once;
          std::map<std::string, std::vector<double>> others;
          for (std::int64_t seed = 0; seed < arguments.seeds; ++seed) {
            const MadeUpTable what{layers, correlation, three_way, seed};
            const double start = found.at(key_of(what, "anchors"));
            gains.push_back(native.at(key_of(what, sampler) + "/" + std::to_string(correlation)) - start);
            knowing.push_back(found.at(key_of(what, "most" + std::to_string(arguments.trials))) - start);
            at_once.push_back(native.at(key_of(what, "one-shot") + "/" + std::to_string(correlation)) - start);
            for (const std::string& other : kOptunaSamplers) {
              others[other].push_back(found.at(key_of(what, other)) - start);
            }
          }
          // The one of Optuna's samplers that is best on this kind of table.
          const auto best = std::max_element(others.begin(), others.end(), [](const auto& a, const auto& b) {
            return median(a.second) < median(b.second);
          });
          std::vector<double> ratios;
          for (std::size_t i = 0; i < gains.size(); ++i) ratios.push_back(gains[i] / best->second[i]);
          const double ratio = median(ratios);
          for (std::size_t i = 0; i < gains.size(); ++i) {
            knowing[i] /= best->second[i];
            at_once[i] /= best->second[i];
          }
          const double most = median(knowing);
          const double one = median(at_once);
          std::printf("%-9s %6lld %-9s %8.2f %8.4f %8.4f %-12s %6.2f %6.2f %6.2f %6.2f %6.2f\n", sampler.c_str(),
                      static_cast<long long>(layers), three_way ? "three-way" : "pairs", correlation,
                      median(gains), median(best->second), best->first.c_str(), ratio,
                      *std::min_element(ratios.begin(), ratios.end()),
                      *std::max_element(ratios.begin(), ratios.end()), one, most);
          logs += std::log(std::max(ratio, 1e-3));
          ++rows;
          if (correlation >= 0.6) {
            asked_logs += std::log(std::max(ratio, 1e-3));
            most_logs += std::log(most);
            one_logs += std::log(std::max(one, 1e-3));
            ++asked_rows;
          }
          least_row = std::min(least_row, ratio);
        }
      }
    }
    const int asked = std::max(1, asked_rows);
    std::printf("\n%s: geometric mean of ratios %.2f (looks of 0.64 and better: %.2f, of %.2f that are possible; "
                "a knapsack over the profile %.2f), least %.2f\n\n",
                sampler.c_str(), std::exp(logs / rows), std::exp(asked_logs / asked), std::exp(most_logs / asked),
                std::exp(one_logs / asked), least_row);
    print_small(arguments, sampler);
  }
  return 0;
}

}  // namespace
}  // namespace kerf::search

int main(int argc, char** argv) {
  kerf::search::Arguments arguments;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const std::string value = argv[i + 1];
    if (name == "--seeds") arguments.seeds = std::stoll(value);
    if (name == "--trials") arguments.trials = std::stoll(value);
    if (name == "--keep") arguments.keep = value;
    if (name == "--reorders") arguments.reorders_seen = value != "0";
    if (name == "--only") arguments.samplers = kerf::search::words(value);
    if (name == "--layers") {
      arguments.layers.clear();
      for (const std::string& word : kerf::search::words(value)) arguments.layers.push_back(std::stoll(word));
    }
  }
  return kerf::search::run(arguments);
}
