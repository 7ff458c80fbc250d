#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/model_info.h"
#include "core/plan.h"
#include "core/result.h"
#include "core/study.h"
#include "search/sampler.h"
#include "search/space.h"

namespace kerf::scheduler {

using SamplerFactory = std::function<Result<std::unique_ptr<search::Sampler>>(
    const std::string& name, search::SamplerProblem problem)>;

/// A candidate to put in line.
struct Proposal {
  search::Choices choices;
  Json plan;
  std::string fingerprint;
};

class Proposer;

/// What a search job brought.
struct SearchAnswer {
  bool prepared = false;               ///< The answer to Step::Kind::kPrepare …
  std::shared_ptr<Proposer> proposer;  ///< … with this.
  std::vector<Proposal> proposals;     ///< The answer to Step::Kind::kAsk.
  bool exhausted = false;              ///< Nothing is left to propose.
  std::vector<std::string> notes;      ///< For the study's log.
  search::PoorBatches poor;            ///< Batches of which the sampler expects next to no gain.
  std::optional<Error> error;          ///< The space or the sampler can't be had.
  std::int64_t generation = 0;         ///< Of the search that was asked.
};

/// A trial that exists already.
struct KnownTrial {
  std::int64_t number = 0;
  search::Choices choices;
  std::string fingerprint;
};

/// A study's space and sampler. Points that mean a plan that was tried are never proposed; a sampler
/// that comes upon one is told what that plan's trial brought.
///
/// Threads:  one at a time; may block as long as its sampler does.
class Proposer {
 public:
  /// Errors:   those of SearchSpace::build and of the factory.
  ///
  /// `reference`: what the study's hypervolume is measured from; empty = not known. `profile`: what a
  /// worker's cheap looks said of the space's values (search::profile_from_probes), empty = nobody
  /// looked yet; a sampler that can use one is made again when it is there. `poor`: what the proposer that
  /// this one stands in for said of its batches.
  [[nodiscard]] static Result<std::unique_ptr<Proposer>> make(const StudyDefinition& study,
                                                              const ModelInfo& model,
                                                              const SamplerFactory& factory,
                                                              std::vector<double> reference = {},
                                                              search::Profile profile = {},
                                                              search::PoorBatches poor = {});

  /// A trial that was waiting or running when the proposer was made.
  void mark_pending(const KnownTrial& trial);

  /// A trial ended.
  [[nodiscard]] Result<void> tell(const search::Observation& observation,
                                  const std::string& fingerprint);

  /// Up to `count` new candidates; fewer where the space is exhausted.
  [[nodiscard]] Result<std::vector<Proposal>> ask(std::int64_t count);

  /// What the study's log should say of the search since the last call.
  [[nodiscard]] std::vector<std::string> take_notes();

  /// See search::Sampler::poor_batches().
  [[nodiscard]] search::PoorBatches poor_batches() const {
    return sampler_ ? sampler_->poor_batches() : search::PoorBatches();
  }

  [[nodiscard]] const search::SearchSpace& space() const { return *space_; }

 private:
  Proposer(std::shared_ptr<const search::SearchSpace> space, std::unique_ptr<search::Sampler> sampler)
      : space_(std::move(space)), sampler_(std::move(sampler)) {}

  std::shared_ptr<const search::SearchSpace> space_;
  std::unique_ptr<search::Sampler> sampler_;
  bool stalled_ = false;                                        // said in the log already
  std::set<std::string> known_;                                 // fingerprints of all trials
};

}  // namespace kerf::scheduler
