#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "core/clock.h"
#include "core/result.h"
#include "core/work.h"
#include "scheduler/lease_table.h"
#include "storage/file_store.h"

namespace kerf::scheduler {

/// The oldest and the newest version of the protocol that is spoken (docs/protocol.md).
inline constexpr int kProtocolOldest = 1;
inline constexpr int kProtocolVersion = 1;

/// Who decides; WorkerServer only moves bytes.
class WorkerHandler {
 public:
  virtual ~WorkerHandler() = default;
  virtual void joined(WorkerInfo worker) = 0;
  virtual void left(const std::string& worker, Clock::Duration grace) = 0;
  virtual void ready(const std::string& worker) = 0;
  virtual void leaving(const std::string& worker) = 0;  ///< Takes no more work.
  [[nodiscard]] virtual Result<void> heartbeat(const std::string& worker, const WorkKey& key,
                                               std::int64_t token, const WorkProgress& progress) = 0;
  [[nodiscard]] virtual Result<void> outcome(const std::string& worker,
                                             const WorkOutcome& outcome) = 0;
};

struct WorkerServerOptions {
  std::string token;                               ///< Of workers over TCP.
  std::chrono::milliseconds heartbeat{2000};       ///< Asked of workers.
  std::chrono::milliseconds lease{20000};          ///< Told to workers.
  std::chrono::milliseconds hello_limit{10000};    ///< For a connection's first message.
  std::chrono::milliseconds silence_limit{20000};  ///< Without a byte from a worker.
  std::chrono::milliseconds write_limit{30000};    ///< For a message to leave.
  std::chrono::milliseconds reconnect_grace{5000};
  std::size_t max_connections = 4096;
  std::size_t max_unknown = 256;          ///< Connections that haven't said hello.
  std::size_t max_queued_messages = 256;  ///< To one worker; beyond that it is too slow to keep.
};

/// Accepts workers on Unix sockets and TCP, and speaks the protocol of docs/protocol.md with each.
///
/// Threads:  all of it runs on the io_context's one thread.
class WorkerServer {
 public:
  WorkerServer(boost::asio::io_context& io, WorkerServerOptions options,
               const storage::FileStore& files, WorkerHandler& handler);
  ~WorkerServer();
  WorkerServer(const WorkerServer&) = delete;
  WorkerServer& operator=(const WorkerServer&) = delete;

  /// Errors:   unavailable where it can't be bound; invalid_argument for a path that is too long.
  [[nodiscard]] Result<std::string> listen_unix(const std::string& path);
  /// Errors:   failed_precondition without a token; unavailable where it can't be bound.
  [[nodiscard]] Result<std::string> listen_tcp(const std::string& host, std::uint16_t port);

  void send_work(const std::string& worker, const Work& work);
  void send_cancel(const std::string& worker, const WorkKey& key, std::int64_t token);

  /// Closes all that is over its time. Called every now and then.
  void close_overdue();

  /// Closes everything; nothing is told to the handler any more.
  void stop();

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace kerf::scheduler
