#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "search/native/additive.h"

namespace kerf::search::native {

/// One weight a model: the cost Σ_m weights[m]·latent_m is to be minimised.
using Multipliers = std::vector<double>;

/// The minimum of a weighted sum of models.
///
/// Exact where pairs are of neighbours only (dynamic programming along the chain). Pairs further
/// apart are taken in as a field of the present solution, and the program is run again, a few times;
/// the best of the solutions met is returned.
///
/// Cost:     O(rounds·(Σ counts[d]·counts[d+1] + d²)·models).
[[nodiscard]] Choices solve_chain(const Layout& layout, std::span<const AdditiveModel* const> models,
                                  const Multipliers& multipliers);

/// Multipliers that sweep the front of `count` models, in units in which each model's range is 1.
/// Two: logarithmically spaced ratios from 10⁻³ to 10³. More: points of a Halton sequence, as
/// logarithms. The corners come first.
[[nodiscard]] std::vector<Multipliers> sweep_multipliers(std::size_t count);

/// The front of two models by sets of labels, layer by layer: what multipliers can't reach lies on
/// it too. Pairs are linearised around a solution; without pairs, and with fewer labels than
/// `most_labels` needed, the front is exact.
///
/// Cost:     O(d·values·most_labels·log).
[[nodiscard]] std::vector<Choices> label_front(const Layout& layout, const AdditiveModel& first,
                                               const AdditiveModel& second, const Choices& around,
                                               std::size_t most_labels);

}  // namespace kerf::search::native
