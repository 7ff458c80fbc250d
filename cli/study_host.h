#pragma once

#include <memory>
#include <string>
#include <thread>

#include "core/clock.h"
#include "core/result.h"
#include "core/study.h"
#include "scheduler/local_launcher.h"
#include "scheduler/scheduler.h"
#include "storage/file_store.h"
#include "storage/study_store.h"

namespace kerf::cli {

struct HostOptions {
  std::string data_dir;
  int workers = 1;            ///< Local ones.
  int threads = 1;            ///< Of each local worker.
  std::string worker_listen;  ///< HOST:PORT for workers from elsewhere; empty = none.
  std::string worker_token;   ///< Asked of those.
};

/// Store, files, scheduler and local workers of one data directory: what `kerf run` and `kerf serve`
/// share.
///
/// Layout:   DIR/kerf.db (+ -wal, -shm, -ack), DIR/files/, DIR/logs/worker-N.log, DIR/workers.sock
class StudyHost {
 public:
  /// Opens the store; nothing runs yet.
  ///
  /// Errors:   those of open_sqlite_store (in use, damaged, full) and of the file system.
  [[nodiscard]] static Result<std::unique_ptr<StudyHost>> open(const HostOptions& options,
                                                               const Clock& clock);
  ~StudyHost();
  StudyHost(const StudyHost&) = delete;
  StudyHost& operator=(const StudyHost&) = delete;

  /// Takes over what the store holds, accepts workers and starts the local ones.
  [[nodiscard]] Result<void> start();

  /// Ends workers and scheduler. What was in work waits for the next start.
  void stop();

  [[nodiscard]] scheduler::Scheduler& scheduler() { return *scheduler_; }
  [[nodiscard]] const storage::FileStore& files() const { return files_; }
  [[nodiscard]] const HostOptions& options() const { return options_; }
  /// Where workers from elsewhere connect; empty where nobody may.
  [[nodiscard]] const std::string& worker_address() const { return worker_address_; }

 private:
  StudyHost(HostOptions options, storage::FileStore files);

  HostOptions options_;
  storage::FileStore files_;
  std::unique_ptr<storage::StudyStore> store_;
  std::unique_ptr<scheduler::Scheduler> scheduler_;
  std::unique_ptr<scheduler::LocalLauncher> launcher_;
  std::thread thread_;
  std::string socket_dir_;  // of its own, where the data directory's path is too long for one
  std::string worker_address_;
};

/// Puts a study's files (paths below `folder` unless absolute) into the store and replaces them in
/// the definition by their ids. A folder of images becomes one .npz; a model with external data
/// becomes one file.
///
/// Errors:   not_found naming key and path.
[[nodiscard]] Result<StudyDefinition> store_files(StudyDefinition study, const std::string& folder,
                                                  const storage::FileStore& files);

/// "host:port" in two; the port 0…65535.
struct Address {
  std::string host;
  std::uint16_t port = 0;
};
[[nodiscard]] Result<Address> parse_address(const std::string& text);

/// SIGINT and SIGTERM set a flag from then on.
void watch_for_stop();
[[nodiscard]] bool stop_wanted();

}  // namespace kerf::cli
