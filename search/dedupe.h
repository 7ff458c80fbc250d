#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "search/proposer.h"
#include "search/sampler.h"

namespace kerf::search {

/// A Sampler that never returns a candidate twice: anchors first, then what a Proposer proposes.
///
/// Where a proposal is known already (by its fingerprint), it asks again a few times, then walks to
/// unseen neighbours of what was proposed, then enumerates a small space in a shuffled order, or
/// draws at random from a large one. Fewer points than asked for mean that the space is exhausted,
/// or so nearly that thousands of draws found nothing new.
///
/// Cost:     a fingerprint a draw.
class UniqueSampler final : public Sampler {
 public:
  UniqueSampler(SamplerProblem problem, std::unique_ptr<Proposer> proposer);

  [[nodiscard]] Result<std::vector<Choices>> ask(std::int64_t count) override;
  [[nodiscard]] Result<void> tell(const Observation& observation) override;
  void mark_pending(const Choices& choices) override;
  [[nodiscard]] std::vector<std::string> take_notes() override { return proposer_->take_notes(); }
  [[nodiscard]] PoorBatches poor_batches() const override { return proposer_->poor_batches(); }

 private:
  [[nodiscard]] Result<std::optional<Choices>> next();
  [[nodiscard]] std::optional<Choices> unseen_neighbour(const std::vector<Choices>& centres);
  [[nodiscard]] std::optional<Choices> unseen_anywhere();
  [[nodiscard]] Choices point_at(std::uint64_t index) const;
  [[nodiscard]] bool is_point(const Choices& choices) const;
  [[nodiscard]] std::string fingerprint(const Choices& choices) const;
  [[nodiscard]] bool seen(const Choices& choices) const;
  void take(const Choices& choices);

  SamplerProblem problem_;
  std::unique_ptr<Proposer> proposer_;
  std::size_t next_anchor_ = 0;
  std::unordered_set<std::string> seen_;
  std::unordered_set<std::int64_t> told_;
  std::int64_t known_ = 0;                 ///< Points told, pending and proposed: the state's age.
  std::optional<std::uint64_t> size_;      ///< Of the space, where it is small enough to enumerate.
  std::uint64_t enumerated_ = 0;           ///< Everything before is seen.
  std::uint64_t stride_ = 1;
};

}  // namespace kerf::search
