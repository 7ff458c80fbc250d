#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "search/proposer.h"

namespace kerf::search::native {

/// The order in which the native sampler takes dimensions: neighbours of the profile follow each other,
/// so that what a pair of them adds stands in the chain that it solves exactly. Everything else stays
/// in its order, behind the run of neighbours that began before it. Without a profile, or where
/// neighbours stand side by side already, the order of the space.
[[nodiscard]] std::vector<std::size_t> chain_order(const SamplerProblem& problem);

/// The problem with its dimensions in that order; points too, and the profile.
[[nodiscard]] SamplerProblem reordered(const SamplerProblem& problem, const std::vector<std::size_t>& order);

/// The native sampler (sampler.h), in that order within; points go in and come out as the space has them.
[[nodiscard]] std::unique_ptr<Proposer> make_native_proposer(const SamplerProblem& problem);

}  // namespace kerf::search::native
