#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "search/sampler.h"

namespace kerf::search {

/// Where new points come from, one at a time. UniqueSampler makes a Sampler of it: it sees to
/// anchors and to points that are known already.
///
/// Every proposal is a function of the problem, the tells in order, the pending points in order, and
/// the attempt; nothing else is remembered. That is what makes a resumed study propose what an
/// uninterrupted one would have.
class Proposer {
 public:
  virtual ~Proposer() = default;

  /// So many proposals are wanted now: whoever asks another process may ask for all at once. Changes
  /// nothing of what is proposed.
  virtual void expect(std::int64_t /*count*/) {}

  /// A point, possibly a known one; another `attempt` gives another.
  [[nodiscard]] virtual Result<Choices> propose(std::int64_t attempt) = 0;

  /// A trial ended; if its point was pending, it no longer is. The choices are a point of the space.
  virtual void tell(const Observation& observation) = 0;

  /// A point is waiting or running from now on.
  virtual void pending(const Choices& choices) = 0;

  /// As Sampler's.
  [[nodiscard]] virtual std::vector<std::string> take_notes() { return {}; }
  [[nodiscard]] virtual PoorBatches poor_batches() const { return {}; }
};

/// Independent uniform draws in every dimension.
[[nodiscard]] std::unique_ptr<Proposer> make_random_proposer(const SamplerProblem& problem);

}  // namespace kerf::search
