#include "search/native/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "search/native/acquisition.h"
#include "search/native/prior.h"
#include "search/pareto.h"

namespace kerf::search::native {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::size_t kMostKept = 512;    // trials in the surrogates
constexpr std::size_t kKeptAfter = 448;   // when they are cut back
constexpr std::size_t kFirstKept = 8;     // of them the first ones
constexpr std::size_t kEnoughToJudge = 24;
constexpr double kPoorCorrelation = 0.5;
constexpr double kGoodCorrelation = 0.65;
constexpr double kShifts[] = {0, 0.002, 0.006, 0.02, 0.06, 0.2};  // of the objectives' spans

constexpr std::int64_t kEvolutionStream = 11;
constexpr std::int64_t kExploreStream = 12;

bool beats(const ObjectiveVector& a, const ObjectiveVector& b) {
  bool better = false;
  for (std::size_t m = 0; m < a.size(); ++m) {
    if (a[m] > b[m]) return false;
    better = better || a[m] < b[m];
  }
  return better;
}

}  // namespace

NativeProposer::NativeProposer(const SamplerProblem& problem)
    : problem_(problem), layout_(problem.dimensions), objectives_(problem.directions.size()), poor_(problem.poor) {
  for (const Direction direction : problem.directions) {
    signs_.push_back(direction == Direction::kMinimize ? 1 : -1);
  }
  signs_.resize(objectives_ + static_cast<std::size_t>(problem.constraint_count), 1);
  outlook_.layout = &layout_;
  outlook_.objectives = objectives_;
  outlook_.bounds.resize(static_cast<std::size_t>(problem.constraint_count));
  outlook_.scales = problem.bound_scales;
  for (std::size_t m = 0; m < signs_.size(); ++m) {
    MetricPrior prior = make_prior(problem_, layout_, m, signs_[m]);
    looked_ = looked_ || (m < objectives_ && !prior.terms.empty());
    metrics_.emplace_back(layout_, std::move(prior));
  }
}

std::string NativeProposer::name_of(const Choices& x) const {
  if (problem_.fingerprint) return problem_.fingerprint(x);
  std::string text;
  for (const int choice : x) text += std::to_string(choice) + ",";
  return text;
}

bool NativeProposer::known(const Choices& x) const { return known_.contains(name_of(x)); }

void NativeProposer::tell(const Observation& observation) {
  const auto waiting = std::find(pending_.begin(), pending_.end(), observation.choices);
  if (waiting == pending_.end()) {
    ++known_count_;
  } else {
    pending_.erase(waiting);
  }
  known_.insert(name_of(observation.choices));
  fresh_ = false;
  const bool pruned = observation.state == TrialState::kPruned && observation.objectives.size() == objectives_;
  const bool complete = observation.state == TrialState::kComplete && rankable(observation.objectives, objectives_) &&
                        (observation.constraints.empty() || rankable(observation.constraints, outlook_.bounds.size()));
  if (!pruned && !complete) return;
  Told told;
  told.x = observation.choices;
  for (std::size_t m = 0; m < objectives_; ++m) {
    told.objectives.push_back(signs_[m] * observation.objectives[m]);
  }
  told.constraints = observation.constraints;
  told.kl = observation.kl;
  told.lean = observation.lean;
  told.constraints.resize(outlook_.bounds.size(), 0.0);
  // A pruned trial teaches what it showed, and stands for nothing that was reached.
  told.violation = pruned ? kInfinity : violation(told.constraints, outlook_.scales);
  told_.push_back(std::move(told));
}

void NativeProposer::pending(const Choices& choices) {
  pending_.push_back(choices);
  known_.insert(name_of(choices));
  ++known_count_;
}

void NativeProposer::learn() {
  while (learned_ < told_.size()) {
    learn_one(told_[learned_], learned_);
    ++learned_;
    if (learned_ >= next_tune_) {
      tune(learned_);
      next_tune_ = learned_ + std::max<std::size_t>(1, learned_ / 5);
    }
  }
}

void NativeProposer::learn_one(const Told& told, std::size_t index) {
  for (std::size_t m = 0; m < metrics_.size(); ++m) {
    const double value = m < objectives_ ? told.objectives[m] : told.constraints[m - objectives_];
    // What a pruned trial didn't come to is taken as predicted, which leaves the mean where it is.
    metrics_[m].append(told.x, std::isfinite(value) ? value : metrics_[m].model().metric(layout_, told.x));
  }
  kept_.push_back(index);
  if (kept_.size() > kMostKept) limit();
}

// The first trials, the front's, and the latest.
void NativeProposer::limit() {
  std::vector<std::size_t> chosen;
  const std::size_t latest = kept_.size() - kKeptAfter / 2;
  std::size_t room = kKeptAfter - kKeptAfter / 2 - kFirstKept;
  for (std::size_t i = 0; i < kept_.size(); ++i) {
    bool take = i < kFirstKept || i >= latest;
    if (!take && room > 0 && told_[kept_[i]].violation <= 0) {
      const auto& own = told_[kept_[i]].objectives;
      take = std::none_of(kept_.begin(), kept_.end(), [&](std::size_t other) {
        return told_[other].violation <= 0 && beats(told_[other].objectives, own);
      });
      room -= take ? 1 : 0;
    }
    if (take) chosen.push_back(i);
  }
  for (MetricSurrogate& metric : metrics_) metric.keep(chosen);
  std::vector<std::size_t> kept;
  for (const std::size_t i : chosen) kept.push_back(kept_[i]);
  kept_ = std::move(kept);
}

void NativeProposer::tune(std::size_t count) {
  outlook_.bounds = find_bounds(std::span(told_).first(learned_), objectives_, outlook_.bounds.size());
  const bool thorough = count <= 40;
  if (!problem_.profile.leans.empty()) {
    const auto leans = lean_terms(problem_.profile, layout_, believed_leans(problem_.profile.leans, lean_trials()));
    for (MetricSurrogate& metric : metrics_) metric.lean(leans);
  }
  for (std::size_t m = 0; m < metrics_.size(); ++m) {
    if (outlook_.linked(m)) continue;
    const bool believed = metrics_[m].believes_look();
    metrics_[m].tune(thorough);
    if (metrics_[m].believes_look() != believed) doubt(m, count);
  }
  judge(count);
}

// What learned trials did to labels.
std::vector<LeanTrial> NativeProposer::lean_trials() const {
  std::vector<LeanTrial> out;
  for (const Told& told : std::span(told_).first(learned_)) {
    LeanTrial trial{{}, told.kl, told.lean};
    for (std::size_t d = 0; d < layout_.size(); ++d) {
      const auto change = problem_.profile.lean_at(d, static_cast<std::size_t>(told.x[d]));
      if (change) trial.changes.push_back(*change);
    }
    out.push_back(std::move(trial));
  }
  return out;
}

std::string NativeProposer::name_of_metric(std::size_t metric) const {
  if (metric < problem_.names.size()) return problem_.names[metric];
  return metric < objectives_ ? "objective " + std::to_string(1 + metric) : "constraint " + std::to_string(1 + metric - objectives_);
}

void NativeProposer::doubt(std::size_t metric, std::size_t count) {
  const bool believed = metrics_[metric].believes_look();
  notes_.push_back("profile sampler: " + std::to_string(count) + " trials speak " + (believed ? "for" : "against") +
                   " what the profile says of " + name_of_metric(metric) + (believed ? "; it is used again" : "; it is put aside"));
}

// Whether trials came out in the order that the others predicted.
void NativeProposer::judge(std::size_t count) {
  if (count < kEnoughToJudge) return;
  double worst = 1;
  for (std::size_t m = 0; m < objectives_; ++m) {
    const auto& left = metrics_[m].left_out();
    worst = std::min(worst, rank_correlation(left.predicted, left.measured));
  }
  const bool poor = worst < (guarded_ ? kGoodCorrelation : kPoorCorrelation);
  if (poor == guarded_) return;
  guarded_ = poor;
  char text[160];
  std::snprintf(text, sizeof text, "profile sampler: rank correlation of predictions %.2f after %zu trials; %s",
                worst, count, poor ? "half of the proposals come from evolution and group probes"
                                   : "proposals come from the model again");
  notes_.emplace_back(text);
}

// What the models say now, and the points that could gain by it.
void NativeProposer::look_ahead() {
  outlook_.models.clear();
  for (const MetricSurrogate& metric : metrics_) outlook_.models.push_back(metric.model());
  make_reference();
  pool_ = make_pool({outlook_, told_, reference_, spans_, reached(false)});
}

// The study's reference, or the worst of the first trials and a tenth; never beyond a bound.
void NativeProposer::make_reference() {
  reference_.assign(objectives_, -kInfinity);
  spans_.assign(objectives_, 0.0);
  for (std::size_t m = 0; m < objectives_; ++m) {
    double low = kInfinity;
    double high = -kInfinity;
    const std::size_t first = std::max<std::size_t>(kFirstKept, problem_.anchors.size());
    for (std::size_t i = 0; i < told_.size(); ++i) {
      low = std::min(low, told_[i].objectives[m]);
      if (i < first) high = std::max(high, told_[i].objectives[m]);
    }
    if (problem_.reference.size() == objectives_) {
      reference_[m] = signs_[m] * problem_.reference[m];
    } else {
      reference_[m] = high + 0.1 * std::max(high - low, 1e-12 * std::abs(high));
    }
    for (const auto& bound : outlook_.bounds) {
      if (!bound || bound->objective != m || bound->slope <= 0) continue;
      const double limit = -bound->constant / bound->slope;
      if (limit > low) reference_[m] = std::min(reference_[m], limit);
    }
    spans_[m] = std::max(reference_[m] - low, 1e-12 * std::max(1.0, std::abs(low)));
  }
}

// What was found: no better than the models see it, whose mean isn't fooled by luck, and no better than it was
// measured, as models don't know of every interaction and what had bad luck isn't on the front that a user
// sees. In flight counts as done for proposals, but not for the pool: it outlives who was in flight when it
// was made.
std::vector<ObjectiveVector> NativeProposer::reached(bool with_pending) const {
  std::vector<ObjectiveVector> out;
  for (const Told& told : told_) {
    if (told.violation > 0) continue;
    std::vector<double> values = outlook_.metrics(told.x);
    values.resize(objectives_);
    for (std::size_t m = 0; m < objectives_; ++m) values[m] = std::max(values[m], told.objectives[m]);
    out.push_back(std::move(values));
  }
  for (const Choices& x : pending_) {
    if (!with_pending) break;
    std::vector<double> values = outlook_.metrics(x);
    if (outlook_.violation(values) > 0) continue;
    values.resize(objectives_);
    out.push_back(std::move(values));
  }
  return out;
}

ObjectiveVector NativeProposer::ideal() const {
  ObjectiveVector out(objectives_, kInfinity);
  for (const ObjectiveVector& values : pool_.values) {
    for (std::size_t m = 0; m < objectives_; ++m) out[m] = std::min(out[m], values[m]);
  }
  for (const Told& told : told_) {
    for (std::size_t m = 0; m < objectives_; ++m) out[m] = std::min(out[m], told.objectives[m]);
  }
  return out;
}

std::optional<Choices> NativeProposer::best_candidate(std::int64_t attempt) {
  GainOracle oracle(reference_, reached(true), ideal());
  std::vector<std::size_t> order(pool_.entries.size());
  bool first = true;
  std::int64_t skip = attempt;
  std::unordered_set<std::string> offered;
  for (const double shift : kShifts) {
    std::vector<ObjectiveVector> hopeful;
    std::vector<double> penalty;
    for (std::size_t i = 0; i < pool_.values.size(); ++i) {
      ObjectiveVector values = pool_.values[i];
      for (std::size_t m = 0; m < objectives_; ++m) values[m] -= shift * spans_[m];
      if (pool_.violations[i] > 0) {
        // A bound on an objective is the reference already; others have to be kept as predicted.
        values.assign(objectives_, kInfinity);
      }
      hopeful.push_back(std::move(values));
    }
    const std::vector<double> gains = oracle.gains(hopeful);
    const double volume = oracle.volume();
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return gains[a] > gains[b]; });
    for (const std::size_t i : order) {
      if (!(gains[i] > 1e-12 * volume)) break;
      Choices x = pool_.at(pool_.entries[i]);
      std::string name = name_of(x);
      if (known_.contains(name) || !offered.insert(std::move(name)).second) continue;
      if (const auto told = static_cast<std::int64_t>(told_.size()); first && attempt == 0 && poor_.told != told) {
        const bool poor = shift > 0 || gains[i] < problem_.poor_gain * volume;
        poor_ = {poor ? poor_.batches + 1 : 0, told};
      }
      first = false;
      if (skip-- > 0) continue;
      return x;
    }
  }
  // Nothing feasible is predicted: the nearest miss.
  double least = kInfinity;
  std::optional<Choices> nearest;
  for (std::size_t i = 0; i < pool_.entries.size(); ++i) {
    if (!(pool_.violations[i] > 0) || !(pool_.violations[i] < least)) continue;
    Choices x = pool_.at(pool_.entries[i]);
    if (known(x)) continue;
    least = pool_.violations[i];
    nearest = std::move(x);
  }
  return nearest;
}

// Each dimension from one of two uniform candidates, or anywhere: what tells layers apart.
Choices NativeProposer::explore(std::int64_t attempt) const {
  Rng random({problem_.seed, known_count_, attempt, kExploreStream});
  Choices x(layout_.size());
  const auto anchors = static_cast<std::int64_t>(problem_.anchors.size());
  const std::int64_t a = anchors > 0 ? random.below(anchors) : 0;
  const std::int64_t b = anchors > 0 ? random.below(anchors) : 0;
  for (std::size_t d = 0; d < x.size(); ++d) {
    if (anchors > 1 && a != b) {
      x[d] = problem_.anchors[static_cast<std::size_t>(random.below(2) == 0 ? a : b)][d];
    } else {
      x[d] = static_cast<int>(random.below(static_cast<std::int64_t>(layout_.counts[d])));
    }
  }
  return x;
}

std::vector<Individual> NativeProposer::population() const {
  std::vector<Individual> out;
  const std::size_t first = told_.size() > 200 ? told_.size() - 200 : 0;
  for (std::size_t i = first; i < told_.size(); ++i) {
    out.push_back({told_[i].x, told_[i].objectives, told_[i].violation});
  }
  return out;
}

Result<Choices> NativeProposer::propose(std::int64_t attempt) {
  if (layout_.size() == 0) return Choices{};
  // With a look the baseline is enough to begin: what is asked for while the first uniform candidate
  // is measured is a trial like any other.
  if (told_.size() < (looked_ ? 1 : 2)) return explore(attempt);
  learn();
  if (guarded_ && known_count_ % 2 == 0) {
    Rng random({problem_.seed, known_count_, attempt, kEvolutionStream});
    const auto all = population();
    if (known_count_ % 8 == 0) return probe_group(layout_, all, random);
    return breed(layout_, problem_.dimensions, all, random);
  }
  // Without a profile the first trials have to tell the layers apart.
  const std::size_t blind = looked_ ? 0 : problem_.anchors.size() + layout_.size() / 2;
  if (told_.size() < blind && known_count_ % 3 != 0) return explore(attempt);
  if (!fresh_) {
    look_ahead();
    fresh_ = true;
  }
  if (auto found = best_candidate(attempt)) return *found;
  Rng random({problem_.seed, known_count_, attempt, kEvolutionStream});
  return breed(layout_, problem_.dimensions, population(), random);
}

std::vector<std::string> NativeProposer::take_notes() { return std::exchange(notes_, {}); }

}  // namespace kerf::search::native
