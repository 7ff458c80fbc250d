#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/look.h"
#include "scheduler/core.h"
#include "scheduler/core_study.h"
#include "scheduler/profile_document.h"
#include "scheduler/profile_plan.h"

namespace kerf::scheduler {
namespace {

constexpr double kMostOfBudget = 0.25;            // share of trials and seconds that looks may take
constexpr double kMargin = 0.95;                  // of that share: a look may take longer than those before
// In looks at damage: what one at costs takes, timed or not (the whole model is compiled), and what each part
// takes before its first.
constexpr double kTimedCostInDamages = 3;
constexpr double kCostInDamages = 2;
constexpr double kPartInDamages = 10;
constexpr double kSecondsBesideLooks = 0.005;     // of a part, to be leased, sent and kept
constexpr std::size_t kMostParts = 8;             // that see damage
constexpr std::size_t kFewestLooksOfPart = 8;     // each runs the f32 model first
constexpr std::size_t kFewestLabelsOfPart = 16;   // on many more samples
constexpr std::size_t kMostPlanBytes = 300'000;   // of a part, and as much may come back
constexpr double kLeastLeft = 0.1;                // of what looks may take, for labels to be asked

/// Plans of a list that have no look yet.
std::vector<const ProfilePlan::Want*> missing(const std::vector<ProfilePlan::Want>& wants,
                                              const std::map<std::string, Json>& known) {
  std::vector<const ProfilePlan::Want*> out;
  for (const ProfilePlan::Want& want : wants) {
    if (!known.contains(want.key)) out.push_back(&want);
  }
  return out;
}

std::vector<std::string> keys_of(const ProfilePlan& plan) {
  std::vector<std::string> keys;
  for (const ProfilePlan::Want& want : plan.damage()) keys.push_back(want.key);
  for (const ProfilePlan::Want& want : plan.cost()) keys.push_back(want.key);
  for (const ProfilePlan::Want& want : plan.labels()) keys.push_back(want.key);
  return keys;
}

/// What came of looks, by the text of their plans.
struct Taken {
  using ByPlan = std::map<std::string, Json>;
  ByPlan damage, cost, labels;
  std::int64_t failed = 0;
  std::string first_error;

  template <class Look>
  void add(const std::vector<Json>& plans, const std::vector<LookResult::One<Look>>& looks,
           ByPlan& by_plan) {
    for (std::size_t i = 0; i < plans.size() && i < looks.size(); ++i) {
      if (looks[i].look) {
        by_plan[canonical_text(plans[i])] = looks[i].look->to_json();
      } else if (!looks[i].error.empty()) {
        ++failed;
        if (first_error.empty()) first_error = looks[i].error;
      }
    }
  }
};

/// Worker time that looks may take: a share of the budget, in whole trials, as what is charged is rounded up
/// to them. 0: no limit.
double seconds_for_looks(const Budget& budget, double trial_seconds) {
  double limit = 0;
  if (budget.trials > 0) limit = std::floor(kMostOfBudget * static_cast<double>(budget.trials)) * trial_seconds;
  if (budget.seconds > 0) {
    const double share = kMostOfBudget * budget.seconds;
    limit = limit > 0 ? std::min(limit, share) : share;
  }
  return kMargin * limit;
}

/// Keeps parts to a size that travels well.
class Parts {
 public:
  explicit Parts(std::size_t count) : parts(count), bytes_(count, 0) {}

  void put(std::size_t part, std::vector<Json> LookRequest::*list, const Json& plan) {
    bytes_[part] += canonical_text(plan).size();
    if (bytes_[part] <= kMostPlanBytes) (parts[part].*list).push_back(plan);
  }

  [[nodiscard]] std::vector<storage::NewWork> work(std::int64_t first) const {
    std::vector<storage::NewWork> out;
    for (const LookRequest& part : parts) out.push_back({WorkKind::kProfile, first++, part.to_json(), {}, ""});
    return out;
  }

  std::vector<LookRequest> parts;

 private:
  std::vector<std::size_t> bytes_;
};

/// nullopt where nothing is there to look at.
template <class Study>
std::optional<ProfilePlan> profile_plan(const Study& study) {
  const auto space = search::SearchSpace::build(study.definition.space, *study.model);
  if (!space.has_value() || space->dimensions().empty() || !study.hardware) return std::nullopt;
  return ProfilePlan::make(study.definition, *space, *study.hardware);
}

}  // namespace

// A study that was begun without a profile goes on without one.
Result<void> Core::replay_profile(Study& study) {
  const std::string& id = study.record.id;
  KERF_ASSIGN(const std::optional<Json> document, store_.document(id, "profile"));
  if (document && document->is_object()) {
    study.profile = profile_of(document->value("terms", Json()));
    study.machine.profile_finished(document->value("charged_trials", std::int64_t{0}));
    return {};
  }
  const auto part = store_.work({id, WorkKind::kProfile, 0});
  if (!part.has_value() && part.error().code != ErrorCode::kNotFound) return part.error();
  if (!part.has_value() && study.trials.size() > 1) study.machine.want_profile(false);
  return {};
}

// Puts the looks in line, waits for those that are there, or makes the profile.
Result<void> Core::profile_step(Study& study) {
  KERF_ASSIGN(ProfileParts parts, profile_parts(study));
  if (parts.count == 0) {
    KERF_TRY(queue_profile(study));
    KERF_ASSIGN(parts, profile_parts(study));
  }
  // Labels last: they get what time the others leave.
  if (parts.open.empty() && !parts.labels_asked) {
    KERF_TRY(queue_labels(study, parts));
    KERF_ASSIGN(parts, profile_parts(study));
  }
  study.open_profile = parts.open;
  if (parts.open.empty()) return make_profile(study, parts);
  study.machine.profile_waits(true);
  study.line_stale = true;
  return {};
}

Result<Core::ProfileParts> Core::profile_parts(const Study& study) const {
  ProfileParts out;
  for (;; ++out.count) {
    const auto part = store_.work({study.record.id, WorkKind::kProfile, out.count});
    if (!part.has_value()) {
      if (part.error().code != ErrorCode::kNotFound) return part.error();
      return out;
    }
    out.labels_asked = out.labels_asked || part->candidate.contains("labels");
    if (!is_terminal(part->state)) out.open.insert(out.count);
    if (part->state != TrialState::kComplete) continue;
    auto request = LookRequest::parse(part->candidate);
    auto result = LookResult::parse(part->result);
    if (!request.has_value() || !result.has_value()) continue;
    out.seconds += result->seconds + kSecondsBesideLooks;
    out.seen.push_back({std::move(*request), std::move(*result)});
  }
}

std::size_t Core::lookers(const Study& study) const {
  std::size_t workers = 0;
  for (const auto& [id, worker] : leases_.workers()) workers += suits(study, worker) ? 1 : 0;
  return std::clamp<std::size_t>(workers, 1, kMostParts);
}

Result<void> Core::queue_profile(Study& study) {
  const auto plan = profile_plan(study);
  if (!plan) return {};
  KERF_ASSIGN(const auto known, store_.looks(keys_of(*plan)));
  const auto damage = missing(plan->damage(), known);
  const auto cost = missing(plan->cost(), known);
  const std::size_t count =
      damage.empty() ? 0 : std::clamp<std::size_t>(damage.size() / kFewestLooksOfPart, 1, lookers(study));
  const std::size_t first = cost.empty() ? 0 : 1;
  Parts made(first + count);
  for (const auto* want : cost) made.put(0, &LookRequest::cost, want->plan);
  // Dealt in turn, so that each part has the values that matter most first.
  for (std::size_t i = 0; i < damage.size(); ++i) made.put(first + i % count, &LookRequest::damage, damage[i]->plan);
  const auto weight = [&](const LookRequest& part) {
    return kPartInDamages + static_cast<double>(part.damage.size()) +
           (plan->timed() ? kTimedCostInDamages : kCostInDamages) * static_cast<double>(part.cost.size());
  };
  double weights = 0;
  for (const LookRequest& part : made.parts) weights += weight(part);
  const double limit = seconds_for_looks(study.machine.budget(), study.trial_seconds);
  const double beside = kSecondsBesideLooks * static_cast<double>(made.parts.size());
  for (LookRequest& part : made.parts) {
    part.samples = ProfilePlan::kSamples;
    part.timed = plan->timed();
    // Never 0, which would be no limit.
    if (limit > 0) part.seconds = std::max(1e-6, (limit - beside) * weight(part) / weights);
  }
  if (made.parts.empty()) return {};
  KERF_TRY(store_.enqueue(study.record.id, made.work(0)));
  return {};
}

Result<void> Core::queue_labels(Study& study, const ProfileParts& parts) {
  const auto plan = profile_plan(study);
  if (!plan) return {};
  KERF_ASSIGN(const auto known, store_.looks(keys_of(*plan)));
  const auto ordered = plan->labels_by_damage(known);
  const auto labels = missing(ordered, known);
  const double limit = seconds_for_looks(study.machine.budget(), study.trial_seconds);
  const double left = limit - parts.seconds;
  if (labels.empty() || (limit > 0 && left < kLeastLeft * limit)) return {};
  const std::size_t count = std::clamp<std::size_t>(labels.size() / kFewestLabelsOfPart, 1, lookers(study));
  Parts made(count);
  for (std::size_t i = 0; i < labels.size(); ++i) made.put(i % count, &LookRequest::labels, labels[i]->plan);
  for (LookRequest& part : made.parts) {
    part.beside = plan->beside();
    part.label_samples = ProfilePlan::kLabelSamples;
    part.if_overconfident = true;
    if (limit > 0) part.seconds = std::max(1e-6, left / static_cast<double>(count) - kSecondsBesideLooks);
  }
  KERF_TRY(store_.enqueue(study.record.id, made.work(parts.count)));
  return {};
}

// The same whenever it is made: of looks that other studies took, and of what this one's parts
// brought. Kept as a document, so that a study that goes on does so with the profile it had.
Result<void> Core::make_profile(Study& study, const ProfileParts& parts) {
  const std::string& id = study.record.id;
  const auto made = profile_plan(study);
  if (!made) {
    study.machine.profile_finished(0);
    return {};
  }
  const ProfilePlan& plan = *made;
  Taken taken, labelled;
  double statistics_seconds = 0;
  for (const auto& [request, result] : parts.seen) {
    statistics_seconds += result.statistics_seconds;
    taken.add(request.damage, result.damage, taken.damage);
    taken.add(request.cost, result.cost, taken.cost);
    labelled.add(request.labels, result.labels, labelled.labels);
  }
  KERF_ASSIGN(auto looks, store_.looks(keys_of(plan)));
  std::map<std::string, Json> fresh;
  const auto match = [&](const std::vector<ProfilePlan::Want>& wants, const Taken::ByPlan& by_plan) {
    for (const ProfilePlan::Want& want : wants) {
      const auto found = by_plan.find(canonical_text(want.plan));
      if (found != by_plan.end()) fresh[want.key] = found->second;
    }
  };
  match(plan.damage(), taken.damage);
  match(plan.cost(), taken.cost);
  match(plan.labels(), labelled.labels);
  KERF_TRY(store_.keep_looks(fresh));
  // Labels are counted apart: where there are none, nothing is unknown.
  const auto left = [&plan, &looks] { return missing(plan.damage(), looks).size() + missing(plan.cost(), looks).size(); };
  const std::size_t before = left();
  for (auto& [key, look] : fresh) looks[key] = look;
  const std::size_t unknown = left();
  const search::Profile profile = plan.profile(looks);
  const std::size_t wanted = plan.damage().size() + plan.cost().size();
  const std::int64_t charged =
      study.trial_seconds > 0 ? static_cast<std::int64_t>(std::ceil(parts.seconds / study.trial_seconds)) : 0;
  Json document = {{"seconds", parts.seconds},
                   {"probes", before - unknown},
                   {"reused", wanted - before},
                   {"unknown", unknown},
                   {"labelled", plan.labelled(looks)},
                   {"unasked", missing(plan.labels(), looks).size()},
                   {"statistics_seconds", statistics_seconds},
                   {"trial_seconds", study.trial_seconds},
                   {"charged_trials", charged}};
  const Json summary = document;
  document["terms"] = profile_json(profile);
  KERF_TRY(store_.put_document(id, "profile", document));
  for (const auto& [some, what] : {std::pair{&taken, " looks"}, std::pair{&labelled, " looks at labels"}}) {
    if (some->failed == 0) continue;
    log(id, "log", {{"message", "profile: " + std::to_string(some->failed) + what +
                                    " failed; the first: " + some->first_error}});
  }
  const std::int64_t untaken = static_cast<std::int64_t>(unknown) - taken.failed;
  if (untaken > 0) {
    log(id, "log", {{"message", "profile: partial; " + std::to_string(untaken) + " of " + std::to_string(wanted) +
                                    " looks weren't taken, as the share of the budget that looks may have was spent"}});
  }
  log(id, "profile", summary);
  study.profile = profile;
  study.machine.profile_finished(charged);
  return {};
}

void Core::profile_part_ended(Study& study, const WorkKey& key) {
  if (study.open_profile.erase(key.number) == 0) return;
  const auto part = store_.work(key);
  if (part.has_value() && part->error) {
    log(study.record.id, "log", {{"message", "profile: part " + std::to_string(key.number) +
                                                 " failed, the sampler goes without: " + part->error->message}});
  }
  if (study.open_profile.empty()) study.machine.profile_waits(false);
}

}  // namespace kerf::scheduler
