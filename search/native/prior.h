#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "search/native/additive.h"
#include "search/native/surrogate.h"
#include "search/sampler.h"

namespace kerf::search::native {

/// What the problem's profile says of a metric (objectives, then constraints), minimised by `sign`.
///
/// Terms are differences to the least of their dimension where some are negative. A value that the
/// profile doesn't know has what its layer and its kind have in common with the known ones, as factors;
/// the mean of its kind where terms have both signs. A metric of which less than half is known has no
/// terms.
///
/// Values are of one kind where they mean the same in several layers: dimensions with equally many
/// values and the same ending of their names ("precision", "prune", …), the same index. Global
/// dimensions are of a kind of their own.
[[nodiscard]] MetricPrior make_prior(const SamplerProblem& problem, const Layout& layout,
                                     std::size_t metric, double sign);

/// Of each value the share that believed_leans() says of its change, 0 where it has none: [Layout::at].
[[nodiscard]] std::vector<double> lean_terms(const Profile& profile, const Layout& layout, std::span<const double> shares);

}  // namespace kerf::search::native
