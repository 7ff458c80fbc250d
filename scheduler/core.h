#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/look.h"
#include "core/result.h"
#include "core/study.h"
#include "core/work.h"
#include "scheduler/lease_table.h"
#include "scheduler/proposer.h"
#include "scheduler/study_machine.h"
#include "storage/study_store.h"

namespace kerf::scheduler {

struct CoreOptions {
  LeaseLimits limits;
  std::int64_t max_attempts = 3;  ///< Of one piece of work before it fails.
  /// The same where an attempt's end tells little of the work: the server died, the worker was told
  /// to end, or never confirmed that the work arrived.
  std::int64_t max_blameless_attempts = 50;
  /// How far one study may get ahead of another, in worker time, before a worker that has its
  /// model loaded turns to the other.
  Clock::Duration stay = std::chrono::seconds(20);
  SamplerFactory samplers = search::make_sampler;
};

/// How a study stands, for people.
struct StudyProgress {
  std::string study;
  storage::StudyState state = storage::StudyState::kRunning;
  Phase phase = Phase::kInspect;
  std::string reason;             ///< Why it ended.
  std::int64_t budget_trials = 0;
  std::int64_t queued = 0;        ///< Trials put in line so far.
  std::int64_t waiting = 0;
  std::int64_t running = 0;
  std::int64_t finished = 0;      ///< Terminal, failed ones included.
  std::int64_t failed = 0;
  std::int64_t front_size = 0;
  double hypervolume = 0;
  std::int64_t charged = 0;       ///< Trials of the budget that the profile took.
  double active_seconds = 0;
  std::optional<double> eta_seconds;
  std::string blocked;            ///< Why nothing runs ("no worker with cpu=zen4"), or empty.
};

[[nodiscard]] Json to_json(const StudyProgress& progress);

/// A connected worker and what it does.
struct WorkerStatus {
  WorkerInfo info;
  std::optional<WorkKey> work;
  WorkProgress progress;
};

/// Everything the scheduler decides, without I/O but the store's: studies, leases, fairness,
/// retries, budgets, fronts. Whoever drives it (a server, a simulation) tells it what happened,
/// then performs what take_actions() says.
///
/// Fairness: of the studies whose labels and hardware a worker meets, the one that has had the
///           least worker time; a worker stays with its last study while that isn't more than
///           `stay` ahead.
/// Hardware: the baseline's worker fixes a study's kind of hardware; no other kind measures it.
/// Errors:   where the store is full nothing is handed out and outcomes aren't acknowledged until
///           it takes writes again. Exceptions of a damaged store pass through.
/// Threads:  one at a time; a SearchJob's run() may run elsewhere, one at a time a study.
class Core {
 public:
  struct Assignment {
    std::string worker;
    Work work;
  };
  struct Cancellation {
    std::string worker;
    WorkKey key;
    std::int64_t token = 0;
  };
  struct SearchJob {
    std::string study;
    std::function<SearchAnswer()> run;  ///< Its answer goes to search_done().
    bool prepares = false;              ///< For the answer of a run() that threw: these two
    std::int64_t generation = 0;        ///< belong into it, beside the error.
  };
  struct Actions {
    std::vector<Assignment> assignments;
    std::vector<Cancellation> cancellations;
    std::vector<SearchJob> searches;
    std::vector<StudyProgress> changes;  ///< Studies that something happened to.
  };

  Core(CoreOptions options, storage::StudyStore& store, const Clock& clock);
  ~Core();
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  /// Takes over what the store holds, once, at the beginning.
  [[nodiscard]] Result<void> start();

  // Studies.
  [[nodiscard]] Result<storage::StudyRecord> submit(const Json& definition,
                                                    const std::string& idempotency_key);
  [[nodiscard]] Result<void> cancel(const std::string& study);
  [[nodiscard]] Result<void> pause(const std::string& study);
  [[nodiscard]] Result<void> resume(const std::string& study);
  /// Another budget; a study that is complete goes on where the budget allows it.
  [[nodiscard]] Result<void> extend(const std::string& study, const Budget& budget);
  [[nodiscard]] Result<StudyProgress> progress(const std::string& study);
  void export_trial(const std::string& study, std::int64_t number,
                    std::function<void(Result<std::string>)> done);

  // Workers.
  void worker_joined(WorkerInfo worker);
  void worker_left(const std::string& worker, Clock::Duration grace);
  void worker_ready(const std::string& worker);    ///< Free for one piece of work.
  void worker_leaving(const std::string& worker);  ///< Gets no more work.
  /// Errors:   aborted: the lease is another's by now, the worker is to drop the work.
  [[nodiscard]] Result<void> heartbeat(const std::string& worker, const WorkKey& key,
                                       std::int64_t token, const WorkProgress& progress);
  /// A worker whose outcome was taken or refused is free again.
  ///
  /// Errors:   aborted: stale, kept for the record only; resource_exhausted: to be sent again.
  [[nodiscard]] Result<void> outcome(const std::string& worker, const WorkOutcome& outcome);
  [[nodiscard]] std::vector<WorkerStatus> workers() const;

  // Time and searches.
  void tick();
  void search_done(const std::string& study, SearchAnswer answer);

  /// What is to be performed now. Empty lists where nothing is.
  [[nodiscard]] Actions take_actions();

  [[nodiscard]] const LeaseTable& leases() const { return leases_; }

 private:
  struct Study;
  using StudyMap = std::map<std::string, std::unique_ptr<Study>>;

  // core.cc: studies, time
  Result<Study*> load(const storage::StudyRecord& record);
  [[nodiscard]] Result<void> replay(Study& study);
  /// By number, when each trial ended, as ids of the log.
  [[nodiscard]] Result<std::map<std::int64_t, std::int64_t>> order_of_ends(const std::string& study);
  void advance(Study& study);
  bool perform(Study& study, const Step& step);
  [[nodiscard]] Result<void> queue_baseline(Study& study);
  [[nodiscard]] Result<void> queue_verification(Study& study);
  [[nodiscard]] Result<void> drop_waiting(Study& study, const Error& error);
  void end(Study& study, storage::StudyState state, const std::string& reason);
  void remove_ended();
  [[nodiscard]] Result<void> expect_state(const std::string& id, storage::StudyState wanted);
  void save_seconds(Study& study);
  [[nodiscard]] Study* find(const std::string& study);
  [[nodiscard]] StudyProgress describe(const Study& study) const;
  [[nodiscard]] std::string why_blocked(const Study& study) const;
  void log(const std::string& study, const std::string& type, const Json& data);

  // core_profile.cc: cheap looks before the search
  [[nodiscard]] Result<void> replay_profile(Study& study);
  [[nodiscard]] Result<void> replay_search(Study& study);
  [[nodiscard]] std::set<std::string> messages(const std::string& id);
  /// A study's parts of a profile, as the store has them.
  struct ProfileParts {
    std::int64_t count = 0;
    std::set<std::int64_t> open;
    bool labels_asked = false;
    struct Seen {
      LookRequest request;
      LookResult result;
    };
    std::vector<Seen> seen;  ///< Of those that ended well,
    double seconds = 0;      ///< and their worker time.
  };
  [[nodiscard]] Result<void> profile_step(Study& study);
  [[nodiscard]] Result<ProfileParts> profile_parts(const Study& study) const;
  [[nodiscard]] std::size_t lookers(const Study& study) const;
  [[nodiscard]] Result<void> queue_profile(Study& study);
  [[nodiscard]] Result<void> queue_labels(Study& study, const ProfileParts& parts);
  [[nodiscard]] Result<void> make_profile(Study& study, const ProfileParts& parts);
  void profile_part_ended(Study& study, const WorkKey& key);

  // core_search.cc: proposals
  void learn(Study& study, const Trial& trial);
  void prepare_search(Study& study);
  void ask_search(Study& study, std::int64_t count);
  void queue_proposals(Study& study);

  // core_work.cc: leases, outcomes, who gets what
  void release_lapsed();
  void charge(const Lease& lease);
  [[nodiscard]] Error refused(const std::string& worker, const Error& error);
  void free_worker(const std::string& worker);
  void work_ended(const WorkKey& key, TrialState state);
  void note_end(const WorkKey& key, TrialState state);
  [[nodiscard]] Result<void> keep_channel_costs(const Study& study);
  void inspect_ended(Study& study, const storage::WorkRecord& record);
  void trial_ended(Study& study, std::int64_t number);
  void baseline_ended(Study& study, const Trial& trial);
  void export_ended(const WorkKey& key);
  void dispatch();
  bool hand_out(const std::string& worker);
  bool give(const WorkKey& key, const WorkerInfo& worker);
  [[nodiscard]] std::optional<WorkKey> front_of_line(Study& study);
  [[nodiscard]] bool suits(const Study& study, const WorkerInfo& worker) const;
  [[nodiscard]] static bool labels_suit(const Study& study, const WorkerInfo& worker);
  [[nodiscard]] std::int64_t idle_for(const Study& study) const;
  std::map<std::string, std::string> where_from(const storage::LeaseGrant& grant,
                                                const StudyDefinition& definition);
  [[nodiscard]] Result<Work> build_work(const storage::LeaseGrant& grant, const WorkerInfo& worker);

  CoreOptions options_;
  storage::StudyStore& store_;
  const Clock& clock_;
  LeaseTable leases_;
  StudyMap studies_;
  std::set<std::string> idle_;                    // workers that wait for work
  std::set<std::string> leaving_;                 // workers that want none
  std::map<std::string, std::string> last_study_; // by worker
  std::map<WorkKey, std::vector<std::function<void(Result<std::string>)>>> exports_wanted_;
  std::vector<LapsedLease> to_release_;           // the store was full; tried again
  std::set<std::string> changed_;
  Actions actions_;
  std::vector<WorkKey> never_started_;            // leased work that couldn't be built
  bool store_full_ = false;                       // until the next tick
  Clock::SteadyTime last_tick_;
};

}  // namespace kerf::scheduler
