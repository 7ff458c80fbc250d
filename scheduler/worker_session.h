#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "core/frame.h"
#include "core/work.h"
#include "scheduler/worker_server.h"
#include "storage/file_store.h"

namespace kerf::scheduler {

/// What a session needs of the server.
class SessionOwner {
 public:
  virtual ~SessionOwner() = default;
  virtual WorkerHandler* handler() = 0;  ///< nullptr while the server stops.
  [[nodiscard]] virtual const WorkerServerOptions& options() const = 0;
  [[nodiscard]] virtual const storage::FileStore& files() const = 0;
  virtual void ended(const std::string& session) = 0;
};

/// One connection of a worker. Three coroutines: one reads and answers, one writes what is queued,
/// one sends the files that were asked for. Time limits are checked from outside
/// (close_if_overdue), which ends all three by closing the socket.
class WorkerSession : public std::enable_shared_from_this<WorkerSession> {
 public:
  using Socket = boost::asio::generic::stream_protocol::socket;

  WorkerSession(Socket socket, std::string id, bool local, SessionOwner& owner);

  /// `keep` lives as long as the session's coroutines do.
  void start(std::shared_ptr<void> keep);
  void send(const Json& message) { send(Frame{message, ""}); }
  void send(const Frame& frame);
  void send_work(const Work& work);
  void close();
  void close_if_overdue(std::chrono::steady_clock::time_point now);
  [[nodiscard]] bool known() const { return known_; }

 private:
  using TimePoint = std::chrono::steady_clock::time_point;

  boost::asio::awaitable<void> read_all(std::shared_ptr<void> keep);
  boost::asio::awaitable<void> write_all(std::shared_ptr<void> keep);
  boost::asio::awaitable<void> send_files(std::shared_ptr<void> keep);

  /// Errors:   the connection is to be closed; the message is told to the worker first.
  [[nodiscard]] Result<void> handle(const Frame& frame);
  [[nodiscard]] Result<void> hello(const Json& message);
  [[nodiscard]] Result<void> heartbeat(const Json& message);
  [[nodiscard]] Result<void> outcome(const Json& message);
  [[nodiscard]] Result<void> put(const Frame& frame);
  void end();

  Socket socket_;
  std::string id_;
  bool local_;
  SessionOwner& owner_;
  bool known_ = false;
  bool closed_ = false;
  bool closing_ = false;  ///< After what is queued has left.
  bool ended_ = false;
  TimePoint opened_at_;
  TimePoint heard_at_;
  std::optional<TimePoint> writing_since_;

  std::deque<std::string> queue_;  ///< Encoded frames.
  boost::asio::steady_timer queue_changed_;
  std::deque<std::string> wanted_files_;
  boost::asio::steady_timer wanted_changed_;

  struct Upload {
    std::string file;
    std::uint64_t size = 0;
    storage::FileStore::Writer writer;
  };
  std::optional<Upload> upload_;
};

}  // namespace kerf::scheduler
