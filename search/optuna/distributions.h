#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/json.h"
#include "core/result.h"

namespace kerf::optuna {

/// Integers low, low + step, … up to high. As optuna.distributions.IntDistribution.
struct IntDistribution {
  std::int64_t low = 0;
  std::int64_t high = 0;
  std::int64_t step = 1;  ///< ≥ 1; 1 where `log`.
  bool log = false;       ///< Drawn uniformly in the logarithm; low ≥ 1.
};

/// Real numbers in [low, high]. As optuna.distributions.FloatDistribution.
struct FloatDistribution {
  double low = 0;
  double high = 1;
  std::optional<double> step;  ///< Not together with `log`.
  bool log = false;            ///< low > 0.
};

/// One of several values without an order. As optuna.distributions.CategoricalDistribution.
struct CategoricalDistribution {
  std::vector<Json> choices;  ///< Texts, numbers, booleans or null; all different.
};

using Distribution = std::variant<IntDistribution, FloatDistribution, CategoricalDistribution>;

/// Parameters with their distributions, in an order that stays.
using SearchSpace = std::vector<std::pair<std::string, Distribution>>;

/// Errors:   invalid_argument naming the parameter: an empty range, a step that isn't positive, no or
///           equal choices, a choice that is a list or an object, a name that comes twice, text that isn't
///           UTF-8.
[[nodiscard]] Result<void> check(const SearchSpace& space);

/// Number of points; infinite with a float that has no step.
[[nodiscard]] double size_of(const SearchSpace& space);

/// As the bridge reads it: [[name, {type, …}], …].
[[nodiscard]] Json to_json(const SearchSpace& space);

/// A value as the bridge reads it: itself, or the index of a choice.
///
/// Errors:   invalid_argument for a value that the distribution doesn't have.
[[nodiscard]] Result<Json> to_wire(const Distribution& distribution, const Json& value);

/// The inverse; internal where the bridge answered a value that isn't in the distribution.
[[nodiscard]] Result<Json> from_wire(const Distribution& distribution, const Json& value);

}  // namespace kerf::optuna
