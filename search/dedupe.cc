#include "search/dedupe.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "search/random.h"

namespace kerf::search {
namespace {

constexpr std::int64_t kAttempts = 6;             // of the proposer, before neighbours are tried
constexpr std::int64_t kNeighbours = 64;          // draws at each distance
constexpr std::uint64_t kEnumerable = 1U << 16U;  // points; more are drawn from, not listed
constexpr std::int64_t kDraws = 4096;

// Streams of random numbers that must not be each other's.
constexpr std::int64_t kNeighbourStream = 1;
constexpr std::int64_t kAnywhereStream = 2;

}  // namespace

UniqueSampler::UniqueSampler(SamplerProblem problem, std::unique_ptr<Proposer> proposer)
    : problem_(std::move(problem)), proposer_(std::move(proposer)) {
  std::uint64_t size = 1;
  for (const DimensionSpec& dimension : problem_.dimensions) {
    size *= static_cast<std::uint64_t>(dimension.choices);
    if (size > kEnumerable) return;
  }
  size_ = size;
  // A stride without a common divisor visits every index once, in no particular order.
  stride_ = size / 2 + 1 + static_cast<std::uint64_t>(
                               Rng({problem_.seed}).below(static_cast<std::int64_t>(size)));
  while (std::gcd(stride_, size) != 1) ++stride_;
}

Result<std::vector<Choices>> UniqueSampler::ask(std::int64_t count) {
  std::vector<Choices> out;
  while (static_cast<std::int64_t>(out.size()) < count) {
    proposer_->expect(count - static_cast<std::int64_t>(out.size()));
    auto found = next();
    if (!found.has_value()) {
      // What was found before the trouble counts as proposed: it must not get lost.
      if (out.empty()) return found.error();
      break;
    }
    if (!*found) break;
    take(**found);
    out.push_back(std::move(**found));
  }
  return out;
}

Result<std::optional<Choices>> UniqueSampler::next() {
  while (next_anchor_ < problem_.anchors.size()) {
    const Choices& anchor = problem_.anchors[next_anchor_++];
    if (is_point(anchor) && !seen(anchor)) return std::optional(anchor);
  }
  if (size_ && enumerated_ >= *size_) return std::optional<Choices>();
  std::vector<Choices> known;
  for (std::int64_t attempt = 0; attempt < kAttempts; ++attempt) {
    KERF_ASSIGN(Choices proposal, proposer_->propose(attempt));
    if (!is_point(proposal)) return internal_error("sampler: it proposed no point of the space");
    if (!seen(proposal)) return std::optional(std::move(proposal));
    known.push_back(std::move(proposal));
  }
  if (auto neighbour = unseen_neighbour(known)) return neighbour;
  return unseen_anywhere();
}

std::optional<Choices> UniqueSampler::unseen_neighbour(const std::vector<Choices>& centres) {
  const auto dimensions = static_cast<std::int64_t>(problem_.dimensions.size());
  if (dimensions == 0) return std::nullopt;
  Rng rng({problem_.seed, known_, kNeighbourStream});
  for (std::int64_t distance = 1; distance <= std::min<std::int64_t>(3, dimensions); ++distance) {
    for (std::int64_t draw = 0; draw < kNeighbours; ++draw) {
      Choices choices = centres[static_cast<std::size_t>(draw) % centres.size()];
      for (std::int64_t step = 0; step < distance; ++step) {
        const auto d = static_cast<std::size_t>(rng.below(dimensions));
        choices[d] = static_cast<int>(rng.below(problem_.dimensions[d].choices));
      }
      if (!seen(choices)) return choices;
    }
  }
  return std::nullopt;
}

std::optional<Choices> UniqueSampler::unseen_anywhere() {
  if (size_) {
    for (; enumerated_ < *size_; ++enumerated_) {
      Choices choices = point_at(enumerated_ * stride_ % *size_);
      if (!seen(choices)) return choices;
    }
    return std::nullopt;
  }
  Rng rng({problem_.seed, known_, kAnywhereStream});
  for (std::int64_t draw = 0; draw < kDraws; ++draw) {
    Choices choices;
    for (const DimensionSpec& dimension : problem_.dimensions) {
      choices.push_back(static_cast<int>(rng.below(dimension.choices)));
    }
    if (!seen(choices)) return choices;
  }
  return std::nullopt;
}

Choices UniqueSampler::point_at(std::uint64_t index) const {
  Choices choices;
  for (const DimensionSpec& dimension : problem_.dimensions) {
    const auto size = static_cast<std::uint64_t>(dimension.choices);
    choices.push_back(static_cast<int>(index % size));
    index /= size;
  }
  return choices;
}

Result<void> UniqueSampler::tell(const Observation& observation) {
  if (!is_terminal(observation.state)) {
    return invalid_argument("sampler: trial " + std::to_string(observation.number) +
                            " hasn't ended; expected a complete, pruned or failed one");
  }
  if (!observation.choices.empty() && !is_point(observation.choices)) {
    return invalid_argument("sampler: the choices of trial " + std::to_string(observation.number) +
                            " are no point of the space");
  }
  if (!told_.insert(observation.number).second) return {};  // a result that was told before
  if (!is_point(observation.choices)) return {};
  if (seen_.insert(fingerprint(observation.choices)).second) ++known_;
  proposer_->tell(observation);
  return {};
}

void UniqueSampler::mark_pending(const Choices& choices) {
  if (is_point(choices) && !seen(choices)) take(choices);
}

void UniqueSampler::take(const Choices& choices) {
  seen_.insert(fingerprint(choices));
  ++known_;
  proposer_->pending(choices);
}

bool UniqueSampler::is_point(const Choices& choices) const {
  if (choices.size() != problem_.dimensions.size()) return false;
  for (std::size_t d = 0; d < choices.size(); ++d) {
    if (choices[d] < 0 || choices[d] >= problem_.dimensions[d].choices) return false;
  }
  return true;
}

std::string UniqueSampler::fingerprint(const Choices& choices) const {
  if (problem_.fingerprint) return problem_.fingerprint(choices);
  std::string text;
  for (const int choice : choices) text += std::to_string(choice) + ",";
  return text;
}

bool UniqueSampler::seen(const Choices& choices) const {
  return seen_.contains(fingerprint(choices));
}

}  // namespace kerf::search
