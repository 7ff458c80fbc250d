#include "scheduler/scheduler.h"

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <condition_variable>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "scheduler/worker_server.h"
#include "storage/file_store.h"

namespace kerf::scheduler {
namespace {

namespace asio = boost::asio;

std::chrono::milliseconds milliseconds(Clock::Duration duration) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration);
}

}  // namespace

class Scheduler::Impl final : public WorkerHandler {
 public:
  Impl(SchedulerOptions options, storage::StudyStore& store, storage::FileStore& files,
       const Clock& clock)
      : options_(std::move(options)),
        store_(store),
        core_(options_.core, store, clock),
        ticker_(io_),
        server_(io_, server_options(), files, *this) {}

  ~Impl() override {
    server_.stop();
    if (pool_) pool_->join();
  }

  Result<void> start() { return core_.start(); }

  Result<std::string> listen_unix(const std::string& path) { return server_.listen_unix(path); }
  Result<std::string> listen_tcp(const std::string& host, std::uint16_t port) {
    return server_.listen_tcp(host, port);
  }

  void run() {
    pool_.emplace(static_cast<std::size_t>(std::max(1, options_.search_threads)));
    {
      const std::lock_guard<std::recursive_mutex> lock(mutex_);
      runner_ = std::this_thread::get_id();
    }
    core_.tick();
    perform();
    tick();
    try {
      io_.run();
    } catch (...) {
      after_run();
      throw;
    }
    after_run();
  }

  void stop() {
    asio::post(io_, [this] {
      stopping_ = true;
      server_.stop();
      ticker_.cancel();
      io_.stop();
    });
  }

  void post(std::function<void(Core&, storage::StudyStore&)> task) {
    {
      // While nobody runs, whoever asks is the scheduler's thread.
      const std::lock_guard<std::recursive_mutex> lock(mutex_);
      if (!runner_) {
        task(core_, store_);
        return;
      }
      if (*runner_ != std::this_thread::get_id()) {
        asio::post(io_, [this, task = std::move(task)] {
          task(core_, store_);
          perform();
        });
        return;
      }
    }
    task(core_, store_);
    asio::post(io_, [this] { perform(); });
  }

  void on_change(std::function<void(const StudyProgress&)> listener) {
    listener_ = std::move(listener);
  }

  Result<storage::StudyRecord> wait(Scheduler& self, const std::string& study,
                                    std::chrono::milliseconds limit) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    std::unique_lock lock(wait_mutex_);
    while (true) {
      const std::int64_t seen = changes_;
      lock.unlock();
      auto record = self.call([&](Core&, storage::StudyStore& store) { return store.study(study); });
      if (!record.has_value() || (record->state != storage::StudyState::kRunning &&
                                  record->state != storage::StudyState::kPaused)) {
        return record;
      }
      lock.lock();
      const auto news = [&] { return changes_ != seen || ended_; };
      if (limit.count() == 0) {
        changed_.wait(lock, news);
      } else if (!changed_.wait_until(lock, deadline, news) ||
                 std::chrono::steady_clock::now() >= deadline) {
        return Error{ErrorCode::kDeadlineExceeded, "study " + study + " is still " +
                                                       std::string(to_string(record->state))};
      }
      if (ended_) return Error{ErrorCode::kCancelled, "the scheduler stopped"};
    }
  }

  // WorkerHandler, on the scheduler's thread.
  void joined(WorkerInfo worker) override {
    core_.worker_joined(std::move(worker));
    perform();
  }
  void left(const std::string& worker, Clock::Duration grace) override {
    core_.worker_left(worker, grace);
    perform();
  }
  void ready(const std::string& worker) override {
    core_.worker_ready(worker);
    perform();
  }
  void leaving(const std::string& worker) override { core_.worker_leaving(worker); }
  Result<void> heartbeat(const std::string& worker, const WorkKey& key, std::int64_t token,
                         const WorkProgress& progress) override {
    return core_.heartbeat(worker, key, token, progress);
  }
  Result<void> outcome(const std::string& worker, const WorkOutcome& outcome) override {
    auto taken = core_.outcome(worker, outcome);
    // What follows from it leaves after its acknowledgement.
    asio::post(io_, [this] { perform(); });
    return taken;
  }

 private:
  WorkerServerOptions server_options() const {
    WorkerServerOptions out;
    out.token = options_.worker_token;
    out.heartbeat = options_.heartbeat;
    out.lease = milliseconds(options_.core.limits.lease);
    out.silence_limit = std::max(out.lease, options_.heartbeat * 5);
    out.hello_limit = options_.hello_limit;
    out.reconnect_grace = options_.reconnect_grace;
    out.max_connections = static_cast<std::size_t>(std::max(1, options_.max_connections));
    return out;
  }

  void tick() {
    ticker_.expires_after(options_.tick);
    ticker_.async_wait([this](const boost::system::error_code& failed) {
      if (failed || stopping_) return;
      core_.tick();
      server_.close_overdue();
      perform();
      tick();
    });
  }

  // Does what the core decided. A handler that this calls may lead to new decisions; those are
  // performed by the loop of the outermost call.
  void perform() {
    if (std::exchange(performing_, true)) {
      more_to_perform_ = true;
      return;
    }
    do {
      more_to_perform_ = false;
      Core::Actions actions = core_.take_actions();
      for (const auto& cancel : actions.cancellations) {
        server_.send_cancel(cancel.worker, cancel.key, cancel.token);
      }
      for (const auto& one : actions.assignments) {
        server_.send_work(one.worker, one.work);
        more_to_perform_ = true;
      }
      for (auto& search : actions.searches) {
        more_to_perform_ = true;
        begin_search(std::move(search));
      }
      if (!actions.changes.empty()) tell(actions.changes);
    } while (more_to_perform_);
    performing_ = false;
  }

  void begin_search(Core::SearchJob job) {
    if (!pool_) return;  // run() has ended
    asio::post(*pool_, [this, job = std::move(job)] {
      SearchAnswer answer;
      try {
        answer = job.run();
      } catch (const std::exception& e) {
        answer.error = internal_error(std::string("search: ") + e.what());
        answer.generation = job.generation;
        answer.prepared = job.prepares;
      }
      asio::post(io_, [this, study = job.study, answer = std::move(answer)]() mutable {
        core_.search_done(study, std::move(answer));
        perform();
      });
    });
  }

  void tell(const std::vector<StudyProgress>& changes) {
    if (listener_) {
      for (const StudyProgress& change : changes) listener_(change);
    }
    const std::lock_guard lock(wait_mutex_);
    ++changes_;
    changed_.notify_all();
  }

  void after_run() {
    pool_->stop();
    pool_->join();
    pool_.reset();
    {
      // What was posted in the meantime still runs: somebody may wait for it.
      const std::lock_guard<std::recursive_mutex> lock(mutex_);
      io_.restart();
      io_.poll();
      runner_.reset();
    }
    const std::lock_guard lock(wait_mutex_);
    ended_ = true;
    changed_.notify_all();
  }

  SchedulerOptions options_;
  storage::StudyStore& store_;
  asio::io_context io_{1};
  Core core_;
  asio::steady_timer ticker_;
  WorkerServer server_;
  std::optional<asio::thread_pool> pool_;
  std::function<void(const StudyProgress&)> listener_;
  bool performing_ = false;
  bool more_to_perform_ = false;
  bool stopping_ = false;

  std::recursive_mutex mutex_;  // a task may post another
  std::optional<std::thread::id> runner_;

  std::mutex wait_mutex_;
  std::condition_variable changed_;
  std::int64_t changes_ = 0;
  bool ended_ = false;
};

Scheduler::Scheduler(SchedulerOptions options, storage::StudyStore& store,
                     storage::FileStore& files, const Clock& clock)
    : impl_(std::make_unique<Impl>(std::move(options), store, files, clock)) {}

Scheduler::~Scheduler() = default;

Result<void> Scheduler::start() {
  return call([](Core& core, storage::StudyStore&) { return core.start(); });
}
Result<std::string> Scheduler::listen_unix(const std::string& path) {
  return impl_->listen_unix(path);
}
Result<std::string> Scheduler::listen_tcp(const std::string& host, std::uint16_t port) {
  return impl_->listen_tcp(host, port);
}
void Scheduler::run() { impl_->run(); }
void Scheduler::stop() { impl_->stop(); }

void Scheduler::post(std::function<void(Core&, storage::StudyStore&)> task) {
  impl_->post(std::move(task));
}

Result<storage::StudyRecord> Scheduler::submit(const Json& definition,
                                               const std::string& idempotency_key) {
  return call([&](Core& core, storage::StudyStore&) {
    return core.submit(definition, idempotency_key);
  });
}
Result<void> Scheduler::cancel(const std::string& study) {
  return call([&](Core& core, storage::StudyStore&) { return core.cancel(study); });
}
Result<void> Scheduler::pause(const std::string& study) {
  return call([&](Core& core, storage::StudyStore&) { return core.pause(study); });
}
Result<void> Scheduler::resume(const std::string& study) {
  return call([&](Core& core, storage::StudyStore&) { return core.resume(study); });
}
Result<void> Scheduler::extend(const std::string& study, const Budget& budget) {
  return call([&](Core& core, storage::StudyStore&) { return core.extend(study, budget); });
}
Result<StudyProgress> Scheduler::progress(const std::string& study) {
  return call([&](Core& core, storage::StudyStore&) { return core.progress(study); });
}
std::vector<WorkerStatus> Scheduler::workers() {
  return call([](Core& core, storage::StudyStore&) { return core.workers(); });
}

void Scheduler::export_trial(const std::string& study, std::int64_t number,
                             std::function<void(Result<std::string>)> done) {
  post([=](Core& core, storage::StudyStore&) { core.export_trial(study, number, done); });
}

void Scheduler::on_change(std::function<void(const StudyProgress&)> listener) {
  impl_->on_change(std::move(listener));
}

Result<storage::StudyRecord> Scheduler::wait(const std::string& study,
                                             std::chrono::milliseconds limit) {
  return impl_->wait(*this, study, limit);
}

}  // namespace kerf::scheduler
