#pragma once

#include <cstdint>
#include <variant>

#include "core/json.h"
#include "core/result.h"
#include "search/optuna/distributions.h"

namespace kerf::optuna {

// Optuna's samplers by Optuna's names; fields are their arguments. Seeds come from the study's.

struct TPESampler {
  bool multivariate = true;
  bool constant_liar = true;  ///< Running trials count as poor ones, so that a batch spreads.
  std::int64_t n_startup_trials = 10;
};

struct NSGAIISampler {
  /// ≥ 2. Studies have hundreds of trials, not thousands: in bench_search_quality 12 finds more than
  /// 16, 24 and Optuna's own 50 after 20, 50 and 100 trials, and as much or more after 200.
  std::int64_t population_size = 12;
};

struct NSGAIIISampler {
  std::int64_t population_size = 12;  ///< As NSGAIISampler's.
};

/// Needs scipy beside Optuna, as kerf's own build/venv has it.
struct QMCSampler {
  bool scramble = true;
  std::int64_t skip = 0;  ///< Trials at the beginning that are somebody else's.
};

/// Needs scipy and torch (1.13 or later; the CPU one will do) beside Optuna. The slow one: docs/optuna.md.
struct GPSampler {
  bool deterministic_objective = false;
  std::int64_t n_startup_trials = 10;
};

/// Every point once, in a random order: for spaces of at most kMostPoints.
struct BruteForceSampler {
  /// Optuna builds a tree of everything that was tried for each parameter of each proposal.
  static constexpr double kMostPoints = 65'536;
};

struct RandomSampler {};

using Sampler = std::variant<TPESampler, NSGAIISampler, NSGAIIISampler, QMCSampler, GPSampler,
                             BruteForceSampler, RandomSampler>;

/// Errors:   invalid_argument: a population below 2, a negative count, a space that is too large for
///           a BruteForceSampler (says how large).
[[nodiscard]] Result<void> check(const Sampler& sampler, const SearchSpace& space);

/// As the bridge reads it: {name, …}.
[[nodiscard]] Json to_json(const Sampler& sampler);

}  // namespace kerf::optuna
