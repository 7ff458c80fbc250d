#include "scheduler/lease_table.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

namespace kerf::scheduler {
namespace {

std::string seconds_text(Clock::Duration duration) {
  return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(duration).count()) + " s";
}

}  // namespace

void LeaseTable::join(WorkerInfo worker) {
  const std::string id = worker.id;
  workers_[id] = std::move(worker);
}

void LeaseTable::leave(const std::string& worker, Clock::Duration grace) {
  workers_.erase(worker);
  const Clock::SteadyTime limit = clock_.steady_now() + grace;
  for (auto& [key, lease] : leases_) {
    if (lease.worker == worker) lease.deadline = std::min(lease.deadline, limit);
  }
}

const WorkerInfo* LeaseTable::worker(const std::string& id) const {
  const auto found = workers_.find(id);
  return found == workers_.end() ? nullptr : &found->second;
}

void LeaseTable::grant(const WorkKey& key, std::int64_t token, const std::string& worker) {
  const Clock::SteadyTime now = clock_.steady_now();
  leases_[key] = Lease{key, token, worker, now, now + limits_.lease, now, {}, false};
}

Result<void> LeaseTable::heartbeat(const WorkKey& key, std::int64_t token,
                                   const std::string& worker, const WorkProgress& progress) {
  const auto found = leases_.find(key);
  if (found == leases_.end() || found->second.token != token) {
    return Error{ErrorCode::kAborted, std::string(to_string(key.kind)) + " " +
                                          std::to_string(key.number) + " of study " + key.study +
                                          ": lease " + std::to_string(token) +
                                          " is not held any more"};
  }
  Lease& lease = found->second;
  const Clock::SteadyTime now = clock_.steady_now();
  if (progress.step > lease.progress.step) {
    lease.progress = progress;
    lease.progress_at = now;
  }
  lease.worker = worker;
  lease.confirmed = true;
  lease.deadline = now + limits_.lease;
  return {};
}

std::optional<Lease> LeaseTable::finish(const WorkKey& key, std::int64_t token) {
  const auto found = leases_.find(key);
  if (found == leases_.end() || found->second.token != token) return std::nullopt;
  Lease lease = std::move(found->second);
  leases_.erase(found);
  return lease;
}

Clock::SteadyTime LeaseTable::expiry(const Lease& lease) const {
  return std::min(lease.deadline, lease.progress_at + limits_.progress);
}

std::vector<LapsedLease> LeaseTable::expire() {
  const Clock::SteadyTime now = clock_.steady_now();
  std::vector<LapsedLease> lapsed;
  for (auto entry = leases_.begin(); entry != leases_.end();) {
    Lease& lease = entry->second;
    if (now < expiry(lease)) {
      ++entry;
      continue;
    }
    Error error{ErrorCode::kDeadlineExceeded, ""};
    if (lease.deadline > now) {
      error.message = "no progress for " + seconds_text(now - lease.progress_at);
      if (!lease.progress.phase.empty()) error.message += " in phase " + lease.progress.phase;
    } else if (!workers_.contains(lease.worker)) {
      error = {ErrorCode::kUnavailable, "the worker's connection ended"};
    } else {
      error.message = "no heartbeat from the worker for " + seconds_text(limits_.lease);
    }
    lapsed.push_back({std::move(lease), std::move(error)});
    entry = leases_.erase(entry);
  }
  return lapsed;
}

std::optional<Clock::SteadyTime> LeaseTable::next_expiry() const {
  std::optional<Clock::SteadyTime> next;
  for (const auto& [key, lease] : leases_) {
    const Clock::SteadyTime at = expiry(lease);
    if (!next || at < *next) next = at;
  }
  return next;
}

std::vector<Lease> LeaseTable::leases_of_worker(const std::string& worker) const {
  std::vector<Lease> out;
  for (const auto& [key, lease] : leases_) {
    if (lease.worker == worker) out.push_back(lease);
  }
  return out;
}

std::int64_t LeaseTable::leases_of_study(const std::string& study) const {
  return std::count_if(leases_.begin(), leases_.end(),
                       [&](const auto& entry) { return entry.first.study == study; });
}

}  // namespace kerf::scheduler
