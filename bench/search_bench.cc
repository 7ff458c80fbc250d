// How long the search room's parts take. Bounds to hold on a laptop's core: a hypervolume of 10,000
// points in two dimensions below 10 ms, of 1,000 in four below 50 ms.

#include <benchmark/benchmark.h>

#include <cmath>
#include <memory>

#include "search/front.h"
#include "search/hypervolume.h"
#include "search/optuna/optuna_sampler.h"
#include "search/pareto.h"
#include "search/random.h"
#include "search/sampler.h"

namespace kerf::search {
namespace {

/// Points on the positive part of the unit sphere: none dominates another.
std::vector<ObjectiveVector> sphere(std::int64_t count, std::size_t dimensions) {
  Rng random({42, count, static_cast<std::int64_t>(dimensions)});
  std::vector<ObjectiveVector> points;
  for (std::int64_t i = 0; i < count; ++i) {
    ObjectiveVector point;
    double norm = 0;
    for (std::size_t d = 0; d < dimensions; ++d) {
      const double u = std::max(random.unit(), 1e-12);
      point.push_back(std::abs(std::sqrt(-2 * std::log(u)) * std::cos(6.283185307 * random.unit())));
      norm += point.back() * point.back();
    }
    for (double& x : point) x /= std::sqrt(norm);
    points.push_back(std::move(point));
  }
  return points;
}

void BM_Hypervolume(benchmark::State& state) {
  const auto dimensions = static_cast<std::size_t>(state.range(0));
  const auto points = sphere(state.range(1), dimensions);
  const std::vector<Direction> directions(dimensions, Direction::kMinimize);
  const std::vector<double> reference(dimensions, 1.1);
  for (auto _ : state) benchmark::DoNotOptimize(hypervolume(points, directions, reference));
}
BENCHMARK(BM_Hypervolume)
    ->Args({2, 10'000})
    ->Args({3, 10'000})
    ->Args({4, 200})
    ->Args({4, 1'000})
    ->Unit(benchmark::kMillisecond);

void BM_NonDominated(benchmark::State& state) {
  const auto dimensions = static_cast<std::size_t>(state.range(0));
  const auto points = sphere(state.range(1), dimensions);
  const std::vector<Direction> directions(dimensions, Direction::kMinimize);
  for (auto _ : state) benchmark::DoNotOptimize(non_dominated(points, directions));
}
BENCHMARK(BM_NonDominated)
    ->Args({2, 10'000})
    ->Args({3, 10'000})
    ->Args({4, 3'000})
    ->Unit(benchmark::kMillisecond);

SamplerProblem problem(std::int64_t dimensions) {
  SamplerProblem out;
  for (std::int64_t d = 0; d < dimensions; ++d) {
    out.dimensions.push_back({"d" + std::to_string(d), 5, d % 2 == 0});
  }
  out.directions = {Direction::kMaximize, Direction::kMinimize, Direction::kMinimize};
  out.constraint_count = 1;
  return out;
}

Observation random_outcome(std::int64_t number, const SamplerProblem& what, Rng& random) {
  Observation out;
  out.number = number;
  double accuracy = 1;
  double cost = 0;
  for (const DimensionSpec& spec : what.dimensions) {
    out.choices.push_back(static_cast<int>(random.below(spec.choices)));
    accuracy -= 0.003 * out.choices.back() * out.choices.back();
    cost += 5 - out.choices.back();
  }
  out.objectives = {accuracy, cost, cost * (0.8 + 0.4 * random.unit())};
  out.constraints = {0.6 - accuracy};
  return out;
}

/// One proposal after another, each told before the next, from `trials` finished ones on.
void BM_Ask(benchmark::State& state, const std::string& name) {
  const SamplerProblem what = problem(state.range(0));
  auto sampler = make_sampler(name, what);
  if (!sampler.has_value()) {
    state.SkipWithError(sampler.error().message.c_str());
    return;
  }
  Rng random({1});
  std::int64_t number = 0;
  for (; number < state.range(1); ++number) {
    (void)(*sampler)->tell(random_outcome(number, what, random)).has_value();
  }
  (void)(*sampler)->ask(1).has_value();
  for (auto _ : state) {
    const auto points = (*sampler)->ask(1);
    if (!points.has_value()) state.SkipWithError(points.error().message.c_str());
    Observation told = random_outcome(number++, what, random);
    if (points.has_value() && !points->empty()) told.choices = points->front();
    (void)(*sampler)->tell(told).has_value();
  }
}
BENCHMARK_CAPTURE(BM_Ask, tpe, std::string("optuna-tpe"))
    ->Args({20, 200})
    ->Args({20, 3'000})
    ->Args({50, 200})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(BM_Ask, nsga2, std::string("optuna-nsga2"))
    ->Args({20, 200})
    ->Args({20, 3'000})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(BM_Ask, nsga3, std::string("optuna-nsga3"))
    ->Args({20, 200})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
// Skipped with a reason where the Python has no torch.
BENCHMARK_CAPTURE(BM_Ask, gp, std::string("optuna-gp"))
    ->Args({20, 50})
    ->Args({20, 200})
    ->Iterations(5)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(BM_Ask, profile, std::string("profile"))
    ->Args({20, 200})
    ->Args({50, 200})
    ->Args({50, 1'000})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(BM_Ask, random, std::string("random"))
    ->Args({20, 200})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

/// From a dead process to its first proposal, with `trials` finished ones to tell.
void BM_Replay(benchmark::State& state, const std::string& name) {
  const SamplerProblem what = problem(20);
  for (auto _ : state) {
    auto proposer = OptunaProposer::create(name, what);
    if (!proposer.has_value()) {
      state.SkipWithError(proposer.error().message.c_str());
      return;
    }
    Rng random({1});
    for (std::int64_t n = 0; n < state.range(0); ++n) {
      (*proposer)->tell(random_outcome(n, what, random));
    }
    benchmark::DoNotOptimize((*proposer)->propose(0).has_value());
  }
}
BENCHMARK_CAPTURE(BM_Replay, tpe, std::string("optuna-tpe"))
    ->Arg(0)
    ->Arg(3'000)
    ->Iterations(2)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(BM_Replay, nsga2, std::string("optuna-nsga2"))
    ->Arg(3'000)
    ->Iterations(2)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace
}  // namespace kerf::search
