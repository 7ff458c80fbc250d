#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/metric.h"
#include "core/result.h"
#include "core/study.h"
#include "core/trial.h"
#include "search/native/profile.h"

namespace kerf::search {

/// One thing to choose: the index of a value.
struct DimensionSpec {
  std::string name;          ///< Stable: "conv1.precision", "conv1.prune", "global.range".
  std::int64_t choices = 0;  ///< Number of values, ≥ 2.
  bool ordered = false;      ///< Values go from least to most compressed.
};

/// A point of a search space: one index a dimension.
using Choices = std::vector<int>;

/// A finished trial as a sampler sees it.
struct Observation {
  std::int64_t number = 0;
  Choices choices;
  TrialState state = TrialState::kComplete;
  std::vector<double> objectives;   ///< In the study's order and own units; empty where it failed.
  std::vector<double> constraints;  ///< g ≤ 0 is feasible; one for each bound; empty where it failed.
                                    ///< Of a pruned trial both are what part of the samples said, NaN
                                    ///< where nothing is known: to learn from, never to rank.
  /// What the outputs are off the baseline's by, nats, and what labels' cross entropy rose by beyond that
  /// (native/lean.h); NaN: unknown.
  double kl = std::numeric_limits<double>::quiet_NaN();
  double lean = std::numeric_limits<double>::quiet_NaN();
};

/// How many batches in a row promised next to no gain, and after how many trials the last one was judged.
struct PoorBatches {
  std::int64_t batches = 0;
  std::int64_t told = 0;
};

/// What a sampler is made for.
struct SamplerProblem {
  std::vector<DimensionSpec> dimensions;
  std::vector<Direction> directions;  ///< One an objective.
  std::int64_t constraint_count = 0;
  /// What each bound's violation is divided by before they are added up (bound_scale in
  /// search/pareto.h), one a bound. Empty: all are in the same unit.
  std::vector<double> bound_scales;
  std::int64_t seed = 1;
  std::vector<Choices> anchors;       ///< Proposed first, in this order: baseline, uniform candidates.

  /// What a cheap look at each value alone says. Empty: nobody looked.
  Profile profile;

  /// What hypervolume is measured from, one an objective in its own units. Empty: not known; a
  /// sampler that needs one takes the worst of the first trials.
  std::vector<double> reference;

  /// Share of the hypervolume below which a batch's expected gain is poor (Sampler::stalled).
  double poor_gain = 0.0005;

  /// What a sampler of the same study said before it died (Sampler::poor_batches).
  PoorBatches poor;

  /// What notes call the metrics: objectives, then one a bound. Empty: by their numbers.
  std::vector<std::string> names;

  /// Equal for points that mean the same candidate, of which only one is ever proposed
  /// (SearchSpace::fingerprint). Empty: every point is a candidate of its own.
  std::function<std::string(const Choices&)> fingerprint;
};

/// Proposes candidates (ask) and learns from finished trials (tell).
///
/// The store is the truth: a sampler that is made again and told the finished trials in order goes
/// on as one that never died. The same problem, tells and asks give the same proposals.
///
/// Threads:  one at a time; ask may block (a Python process) up to its own limit.
class Sampler {
 public:
  virtual ~Sampler() = default;

  /// At most `count` new points, none of them in the history that was told or proposed before by
  /// this object; fewer, or none, where the space is exhausted.
  ///
  /// Errors:   unavailable where the sampler's process can't be had (tried again inside first).
  [[nodiscard]] virtual Result<std::vector<Choices>> ask(std::int64_t count) = 0;

  /// A trial ended. Also for trials that this object didn't propose (a resumed study). Empty choices
  /// are a trial outside of the space (a baseline that it doesn't hold) and teach nothing.
  ///
  /// Errors:   invalid_argument for choices that are no point of the space.
  [[nodiscard]] virtual Result<void> tell(const Observation& observation) = 0;

  /// A trial that is waiting or running and was proposed by an earlier object: not to be proposed
  /// again.
  virtual void mark_pending(const Choices& choices) = 0;

  /// What a study's log should say of the search since the last call (that a model is poor, say).
  [[nodiscard]] virtual std::vector<std::string> take_notes() { return {}; }

  /// Batches in a row of which the expected gain was a small share of the hypervolume. The one thing that
  /// doesn't follow from what was told: a study keeps it for the sampler that is made again.
  [[nodiscard]] virtual PoorBatches poor_batches() const { return {}; }

  /// A hint that going on hardly pays: two such batches.
  [[nodiscard]] bool stalled() const { return poor_batches().batches >= 2; }
};

/// The sampler of a study that names none.
inline constexpr const char* kDefaultSampler = "profile";

/// Whether a sampler makes use of a profile, so that taking one pays.
[[nodiscard]] bool uses_profile(const std::string& name);

/// The names that make_sampler knows, for messages and `--help`.
[[nodiscard]] const std::vector<std::string>& sampler_names();

/// Errors:   invalid_argument for an unknown name (says the known ones); unavailable where Optuna's
///           Python can't be started (says how to install it).
[[nodiscard]] Result<std::unique_ptr<Sampler>> make_sampler(const std::string& name,
                                                            SamplerProblem problem);

}  // namespace kerf::search
