#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/json.h"
#include "core/result.h"
#include "core/work.h"

namespace kerf::scheduler {

/// A worker as it introduced itself.
struct WorkerInfo {
  std::string id;    ///< Unique among those that are connected; made by the server.
  std::string name;  ///< As the worker says.
  std::string host;
  std::map<std::string, std::string> labels;
  Json hardware;            ///< A HardwareFingerprint, or null.
  std::string hardware_id;  ///< Its id; empty where the worker doesn't say.
};

/// How far a piece of work is, as heartbeats tell it.
struct WorkProgress {
  std::int64_t step = 0;   ///< Grows whenever the runner does; the sign of progress.
  std::string phase;       ///< "compress", "accuracy", "latency" …
  double share = 0;        ///< Of the whole work, 0…1.
};

/// A piece of work in a worker's hands.
struct Lease {
  WorkKey key;
  std::int64_t token = 0;
  std::string worker;  ///< WorkerInfo::id of the connection that it was last heard from.
  Clock::SteadyTime granted_at;
  Clock::SteadyTime deadline;      ///< Heartbeats move it.
  Clock::SteadyTime progress_at;   ///< When progress.step last grew.
  WorkProgress progress;
  bool confirmed = false;  ///< A heartbeat told that the work arrived.
};

/// A lease that is over without an outcome, and why.
struct LapsedLease {
  Lease lease;
  Error error;
};

struct LeaseLimits {
  Clock::Duration lease = std::chrono::seconds(20);        ///< Without a heartbeat.
  Clock::Duration progress = std::chrono::seconds(1800);   ///< With heartbeats, without progress.
};

/// Who is connected and who holds what. Decisions only; the store holds the truth about tokens.
///
/// Threads:  one at a time.
class LeaseTable {
 public:
  LeaseTable(LeaseLimits limits, const Clock& clock) : limits_(limits), clock_(clock) {}

  void join(WorkerInfo worker);

  /// The worker's connection is gone. Its leases lapse after `grace` (a worker that comes back in
  /// time goes on with them) unless their deadline is nearer.
  void leave(const std::string& worker, Clock::Duration grace);

  [[nodiscard]] const WorkerInfo* worker(const std::string& id) const;
  [[nodiscard]] const std::map<std::string, WorkerInfo>& workers() const { return workers_; }

  /// Takes down a lease that the store granted.
  void grant(const WorkKey& key, std::int64_t token, const std::string& worker);

  /// Extends the lease's deadline, notes progress, and notes from whom it was heard.
  ///
  /// Errors:   aborted where no such lease is held: the work is another's by now.
  [[nodiscard]] Result<void> heartbeat(const WorkKey& key, std::int64_t token,
                                       const std::string& worker, const WorkProgress& progress);

  /// Removes a lease whose outcome arrived; empty where it isn't held.
  std::optional<Lease> finish(const WorkKey& key, std::int64_t token);

  /// Removes and returns what lapsed by now.
  [[nodiscard]] std::vector<LapsedLease> expire();

  /// When expire() may next have something to return.
  [[nodiscard]] std::optional<Clock::SteadyTime> next_expiry() const;

  [[nodiscard]] const std::map<WorkKey, Lease>& leases() const { return leases_; }
  [[nodiscard]] std::vector<Lease> leases_of_worker(const std::string& worker) const;
  [[nodiscard]] std::int64_t leases_of_study(const std::string& study) const;

 private:
  [[nodiscard]] Clock::SteadyTime expiry(const Lease& lease) const;

  LeaseLimits limits_;
  const Clock& clock_;
  std::map<std::string, WorkerInfo> workers_;
  std::map<WorkKey, Lease> leases_;
};

}  // namespace kerf::scheduler
