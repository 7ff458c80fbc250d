#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/clock.h"
#include "core/json.h"
#include "core/result.h"
#include "scheduler/core.h"
#include "storage/study_store.h"

namespace kerf::storage {
class FileStore;
}

namespace kerf::scheduler {

struct SchedulerOptions {
  CoreOptions core;
  std::string worker_token;  ///< Asked of workers that come over TCP; must not be empty there.
  std::chrono::milliseconds heartbeat{2000};      ///< Asked of workers.
  std::chrono::milliseconds tick{250};            ///< Between looks at clocks, windows, budgets.
  std::chrono::milliseconds hello_limit{10000};   ///< For a new connection's first message.
  std::chrono::milliseconds reconnect_grace{5000};///< A TCP worker's leases outlive its connection.
  int max_connections = 4096;
  int search_threads = 2;    ///< Samplers run on these.
};

/// The scheduler as a service: one thread (whoever calls run()) owns the store, the decisions
/// (Core) and the connections of workers; samplers run on a few threads of their own.
///
/// Use:      construct, listen_*(), start run() on a thread, submit(); stop() ends run().
/// Threads:  every public function may be called from any thread. Those that return a Result wait
///           for the scheduler's thread: not to be called from a handler or callback of it, where
///           core() is at hand. Before run() starts and after it ended they act at once.
class Scheduler {
 public:
  /// Opens nothing. `store`, `files` and `clock` outlive the scheduler and are its own while it
  /// runs.
  Scheduler(SchedulerOptions options, storage::StudyStore& store, storage::FileStore& files,
            const Clock& clock);
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  /// Takes over what the store holds: work that was running waits again, running and paused
  /// studies go on. Once, before anything else.
  [[nodiscard]] Result<void> start();

  /// Accepts workers on a Unix socket (mode 0600; a stale file is replaced). Returns the address
  /// for `kerf worker --connect`: "unix:/path".
  [[nodiscard]] Result<std::string> listen_unix(const std::string& path);

  /// Accepts workers over TCP; port 0 picks one. Returns "tcp:host:port".
  ///
  /// Errors:   failed_precondition without a worker_token; unavailable where the address is taken.
  [[nodiscard]] Result<std::string> listen_tcp(const std::string& host, std::uint16_t port);

  /// Serves until stop(). Throws what a damaged store throws.
  void run();

  /// Ends run() soon: connections close, what is in work is requeued at the next start.
  void stop();

  /// Runs `task` on the scheduler's thread with its store, soon.
  void post(std::function<void(Core&, storage::StudyStore&)> task);

  /// The same, and waits for what it returns.
  template <class F>
  auto call(F task) {
    using R = std::invoke_result_t<F, Core&, storage::StudyStore&>;
    auto done = std::make_shared<std::promise<R>>();
    std::future<R> answer = done->get_future();
    post([done, task = std::move(task)](Core& core, storage::StudyStore& store) mutable {
      try {
        if constexpr (std::is_void_v<R>) {
          task(core, store);
          done->set_value();
        } else {
          done->set_value(task(core, store));
        }
      } catch (...) {
        done->set_exception(std::current_exception());
      }
    });
    return answer.get();
  }

  // The most wanted calls.
  [[nodiscard]] Result<storage::StudyRecord> submit(const Json& definition,
                                                    const std::string& idempotency_key);
  [[nodiscard]] Result<void> cancel(const std::string& study);
  [[nodiscard]] Result<void> pause(const std::string& study);
  [[nodiscard]] Result<void> resume(const std::string& study);
  [[nodiscard]] Result<void> extend(const std::string& study, const Budget& budget);
  [[nodiscard]] Result<StudyProgress> progress(const std::string& study);
  [[nodiscard]] std::vector<WorkerStatus> workers();

  /// The exported model of a trial, made where it isn't there yet; `done` runs on the scheduler's
  /// thread with the file's id, or with what kept it from being made.
  void export_trial(const std::string& study, std::int64_t number,
                    std::function<void(Result<std::string>)> done);

  /// Called on the scheduler's thread whenever something changed in a study (its log grew, its
  /// counts moved). Set before run().
  void on_change(std::function<void(const StudyProgress&)> listener);

  /// Waits until the study is in a final state or `limit` has passed (0 = no limit).
  ///
  /// Errors:   not_found; deadline_exceeded; cancelled where the scheduler stopped meanwhile.
  [[nodiscard]] Result<storage::StudyRecord> wait(const std::string& study,
                                                  std::chrono::milliseconds limit);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kerf::scheduler
