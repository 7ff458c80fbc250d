#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "search/native/additive.h"
#include "search/native/guard.h"
#include "search/native/outlook.h"
#include "search/native/pool.h"
#include "search/native/surrogate.h"
#include "search/native/told.h"
#include "search/proposer.h"

namespace kerf::search::native {

/// The native sampler: a surrogate of every objective that starts from the profile, its front by
/// exact programs, and the proposal of most expected gain of hypervolume (docs/search.md).
///
/// Every proposal is a function of the problem, the tells in order, the pending points and the
/// attempt. Fits happen at fixed numbers of tells, so that a sampler which was told a history at once
/// equals one that lived through it.
///
/// Cost:     memory O(kMostKept·(kMostKept + dimensions)); never of the number of points of the space.
class NativeProposer final : public Proposer {
 public:
  explicit NativeProposer(const SamplerProblem& problem);

  [[nodiscard]] Result<Choices> propose(std::int64_t attempt) override;
  void tell(const Observation& observation) override;
  void pending(const Choices& choices) override;
  [[nodiscard]] std::vector<std::string> take_notes() override;
  [[nodiscard]] PoorBatches poor_batches() const override { return poor_; }

  /// Whether predictions are so poor that half of the proposals come from evolution.
  [[nodiscard]] bool guarded() const { return guarded_; }

 private:
  void learn();
  void learn_one(const Told& told, std::size_t index);
  void tune(std::size_t count);
  [[nodiscard]] std::vector<LeanTrial> lean_trials() const;
  void limit();
  void doubt(std::size_t metric, std::size_t count);
  [[nodiscard]] std::string name_of_metric(std::size_t metric) const;
  void judge(std::size_t count);
  void look_ahead();
  void make_reference();
  [[nodiscard]] std::vector<ObjectiveVector> reached(bool with_pending) const;
  [[nodiscard]] ObjectiveVector ideal() const;
  [[nodiscard]] bool known(const Choices& x) const;
  [[nodiscard]] std::string name_of(const Choices& x) const;
  [[nodiscard]] std::optional<Choices> best_candidate(std::int64_t attempt);
  [[nodiscard]] Choices explore(std::int64_t attempt) const;
  [[nodiscard]] std::vector<Individual> population() const;

  SamplerProblem problem_;
  Layout layout_;
  std::size_t objectives_ = 0;
  std::vector<double> signs_;                 // +1 minimised, −1 maximised
  bool looked_ = false;
  std::vector<Told> told_;                    // complete ones, and pruned ones with NaN for what is not known
  std::size_t learned_ = 0;                   // of told_
  std::size_t next_tune_ = 3;
  std::vector<MetricSurrogate> metrics_;      // objectives, then constraints
  std::vector<std::size_t> kept_;             // told_ indices in the surrogates
  Outlook outlook_;
  std::vector<double> reference_;
  std::vector<double> spans_;                 // of objectives, for shifts
  Pool pool_;
  bool fresh_ = false;                        // outlook and pool are of all that was told
  std::int64_t known_count_ = 0;              // told and pending
  std::unordered_set<std::string> known_;
  std::vector<Choices> pending_;
  bool guarded_ = false;
  std::vector<std::string> notes_;
  PoorBatches poor_;
};

}  // namespace kerf::search::native
