#include <cmath>
#include <cstdio>

#include "search/optuna/study.h"

using namespace kerf;

int main() {
  optuna::Problem problem;
  problem.space = {{"x", optuna::FloatDistribution{-10, 10}},
                   {"layers", optuna::IntDistribution{1, 4}},
                   {"activation", optuna::CategoricalDistribution{{"relu", "gelu"}}}};
  problem.directions = {Direction::kMinimize, Direction::kMinimize};
  problem.sampler = optuna::TPESampler{.n_startup_trials = 8};
  problem.seed = 7;

  auto study = optuna::create_study(problem);
  if (!study.has_value()) {
    std::fprintf(stderr, "%s\n", study.error().message.c_str());
    return 77;  // no Python with Optuna
  }
  if (!study->enqueue_trial({{"x", 0.0}, {"layers", 1}, {"activation", "relu"}}).has_value()) return 1;

  for (int round = 0; round < 10; ++round) {
    const auto trials = study->ask(4);  // four at once, for four workers
    if (!trials.has_value()) return 1;
    for (const optuna::Trial& trial : *trials) {
      const double x = trial.get<double>("x");
      const int layers = trial.get<int>("layers");
      const double loss = (x - 2) * (x - 2) / layers + (trial.get<std::string>("activation") == "gelu" ? 0 : 0.1);
      const double cost = layers;
      const double too_far = std::abs(x) - 5;  // a constraint: kept where it is 0 or less
      if (!study->tell(trial.number, {loss, cost}, {too_far}).has_value()) return 1;
    }
  }
  for (const optuna::FrozenTrial& trial : study->best_trials()) {
    std::printf("trial %2lld: loss %.3f, cost %.0f\n", static_cast<long long>(trial.number), trial.values[0], trial.values[1]);
  }
  return study->best_trials().empty() ? 1 : 0;
}
