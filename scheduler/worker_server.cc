#include "scheduler/worker_server.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "scheduler/worker_session.h"

namespace kerf::scheduler {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

// Completion token: awaits, with the error in `failed` instead of an exception.
auto into(error_code& failed) { return asio::redirect_error(asio::use_awaitable, failed); }

constexpr auto kAcceptPause = std::chrono::milliseconds(100);  // after running out of descriptors

}  // namespace

class WorkerServer::Impl final : public SessionOwner, public std::enable_shared_from_this<Impl> {
 public:
  Impl(asio::io_context& io, WorkerServerOptions options, const storage::FileStore& files,
       WorkerHandler& handler)
      : io_(io), options_(std::move(options)), files_(files), handler_(handler) {}

  Result<std::string> listen_unix(const std::string& path) {
    if (path.size() > 107) {
      return invalid_argument(path + ": a socket's path has room for 107 bytes");
    }
    ::unlink(path.c_str());
    error_code failed;
    auto acceptor = std::make_shared<asio::local::stream_protocol::acceptor>(io_);
    const mode_t before = ::umask(0177);
    if (!acceptor->open(asio::local::stream_protocol(), failed)) {
      acceptor->bind(asio::local::stream_protocol::endpoint(path), failed);
    }
    ::umask(before);
    if (!failed) acceptor->listen(asio::socket_base::max_listen_connections, failed);
    if (failed) return Error{ErrorCode::kUnavailable, path + ": " + failed.message()};
    unix_paths_.push_back(path);
    closers_.push_back([acceptor] {
      error_code ignored;
      acceptor->close(ignored);
    });
    asio::co_spawn(io_, accept(acceptor, true), asio::detached);
    return "unix:" + path;
  }

  Result<std::string> listen_tcp(const std::string& host, std::uint16_t port) {
    if (options_.token.empty()) {
      return Error{ErrorCode::kFailedPrecondition,
                   "workers over TCP need a token; expected one to be set"};
    }
    error_code failed;
    const auto address = asio::ip::make_address(host == "localhost" ? "127.0.0.1" : host, failed);
    if (failed) return invalid_argument("address \"" + host + "\"; expected an IP address");
    auto acceptor = std::make_shared<asio::ip::tcp::acceptor>(io_);
    const asio::ip::tcp::endpoint endpoint(address, port);
    acceptor->open(endpoint.protocol(), failed);
    if (!failed) acceptor->set_option(asio::socket_base::reuse_address(true), failed);
    if (!failed) acceptor->bind(endpoint, failed);
    if (!failed) acceptor->listen(asio::socket_base::max_listen_connections, failed);
    if (failed) {
      return Error{ErrorCode::kUnavailable,
                   host + ":" + std::to_string(port) + ": " + failed.message()};
    }
    closers_.push_back([acceptor] {
      error_code ignored;
      acceptor->close(ignored);
    });
    const auto bound = acceptor->local_endpoint();
    asio::co_spawn(io_, accept(acceptor, false), asio::detached);
    const std::string text = address.is_v6() ? "[" + bound.address().to_string() + "]"
                                             : bound.address().to_string();
    return "tcp:" + text + ":" + std::to_string(bound.port());
  }

  void send_work(const std::string& worker, const Work& work) {
    const auto found = sessions_.find(worker);
    if (found != sessions_.end()) found->second->send_work(work);
  }

  void send_cancel(const std::string& worker, const WorkKey& key, std::int64_t token) {
    const auto found = sessions_.find(worker);
    if (found == sessions_.end()) return;
    found->second->send({{"type", "cancel"},
                         {"study", key.study},
                         {"kind", std::string(to_string(key.kind))},
                         {"number", key.number},
                         {"token", token}});
  }

  void close_overdue() {
    const auto now = std::chrono::steady_clock::now();
    for (const auto& [id, session] : std::map(sessions_)) session->close_if_overdue(now);
  }

  void stop() {
    stopped_ = true;
    for (const auto& close : std::exchange(closers_, {})) close();
    for (const auto& [id, session] : std::map(sessions_)) session->close();
    for (const std::string& path : unix_paths_) ::unlink(path.c_str());
  }

  // SessionOwner
  WorkerHandler* handler() override { return stopped_ ? nullptr : &handler_; }
  const WorkerServerOptions& options() const override { return options_; }
  const storage::FileStore& files() const override { return files_; }
  void ended(const std::string& session) override { sessions_.erase(session); }

 private:
  template <class Acceptor>
  asio::awaitable<void> accept(std::shared_ptr<Acceptor> acceptor, bool local) {
    const auto self = shared_from_this();
    asio::steady_timer pause(io_);
    while (!stopped_) {
      error_code failed;
      auto socket = co_await acceptor->async_accept(into(failed));
      if (failed) {
        if (failed == asio::error::operation_aborted || !acceptor->is_open()) co_return;
        pause.expires_after(kAcceptPause);
        co_await pause.async_wait(into(failed));
        continue;
      }
      if (!welcome(socket, local)) continue;
      const std::string id = "w" + std::to_string(++last_session_);
      auto session = std::make_shared<WorkerSession>(WorkerSession::Socket(std::move(socket)), id,
                                                     local, *this);
      sessions_[id] = session;
      session->start(self);
    }
  }

  // Whether a new connection has room, and where it is local, whether it is ours or root's.
  template <class Socket>
  bool welcome(Socket& socket, bool local) {
    if (sessions_.size() >= options_.max_connections) return false;
    std::size_t unknown = 0;
    for (const auto& [id, session] : sessions_) unknown += session->known() ? 0 : 1;
    if (unknown >= options_.max_unknown) return false;
    error_code ignored;
    if constexpr (std::is_same_v<typename Socket::protocol_type, asio::ip::tcp>) {
      socket.set_option(asio::ip::tcp::no_delay(true), ignored);
      socket.set_option(asio::socket_base::keep_alive(true), ignored);
    }
    if (!local) return true;
    ucred peer{};
    socklen_t size = sizeof peer;
    if (::getsockopt(socket.native_handle(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
      return false;
    }
    return peer.uid == ::geteuid() || peer.uid == 0;
  }

  asio::io_context& io_;
  WorkerServerOptions options_;
  const storage::FileStore& files_;
  WorkerHandler& handler_;
  std::map<std::string, std::shared_ptr<WorkerSession>> sessions_;
  std::vector<std::function<void()>> closers_;
  std::vector<std::string> unix_paths_;
  std::uint64_t last_session_ = 0;
  bool stopped_ = false;
};

WorkerServer::WorkerServer(asio::io_context& io, WorkerServerOptions options,
                           const storage::FileStore& files, WorkerHandler& handler)
    : impl_(std::make_shared<Impl>(io, std::move(options), files, handler)) {}

WorkerServer::~WorkerServer() { stop(); }

Result<std::string> WorkerServer::listen_unix(const std::string& path) {
  return impl_->listen_unix(path);
}
Result<std::string> WorkerServer::listen_tcp(const std::string& host, std::uint16_t port) {
  return impl_->listen_tcp(host, port);
}
void WorkerServer::send_work(const std::string& worker, const Work& work) {
  impl_->send_work(worker, work);
}
void WorkerServer::send_cancel(const std::string& worker, const WorkKey& key, std::int64_t token) {
  impl_->send_cancel(worker, key, token);
}
void WorkerServer::close_overdue() { impl_->close_overdue(); }
void WorkerServer::stop() { impl_->stop(); }

}  // namespace kerf::scheduler
