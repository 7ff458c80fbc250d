#include "api/server.h"

#include <spdlog/spdlog.h>

#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <thread>

#include "api/connection.h"

namespace kerf::api {

namespace asio = boost::asio;
using asio::ip::tcp;

struct Server::Impl {
  Impl(ServerOptions options, StudyService& service, TokenTable tokens)
      : shared(std::make_shared<Shared>(Shared{std::move(options), service, std::move(tokens)})) {}

  asio::awaitable<void> accept() {
    asio::steady_timer pause(context);
    while (true) {
      auto strand = asio::make_strand(context);
      auto [error, socket] = co_await acceptor.async_accept(strand, asio::as_tuple(asio::use_awaitable));
      if (error == asio::error::operation_aborted) co_return;
      if (error) {  // out of descriptors, mostly: let some go first
        pause.expires_after(std::chrono::milliseconds(100));
        (void)co_await pause.async_wait(asio::as_tuple(asio::use_awaitable));
        continue;
      }
      if (open.load() >= shared->options.connections) continue;  // closes the socket
      open.fetch_add(1);
      auto ended = [this](const std::exception_ptr& thrown) {
        open.fetch_sub(1);
        if (!thrown) return;
        try {
          std::rethrow_exception(thrown);
        } catch (const std::exception& e) {
          spdlog::error("http: {}", e.what());
        }
      };
      asio::co_spawn(strand, serve_connection(std::move(socket), shared), ended);
    }
  }

  std::shared_ptr<Shared> shared;
  asio::io_context context;
  tcp::acceptor acceptor{context};
  std::vector<std::thread> threads;
  std::atomic<int> open{0};
};

Server::Server(ServerOptions options, StudyService& service, TokenTable tokens)
    : impl_(std::make_unique<Impl>(std::move(options), service, std::move(tokens))) {}

Server::~Server() { stop(); }

Result<std::uint16_t> Server::start() {
  const ServerOptions& options = impl_->shared->options;
  boost::system::error_code failed;
  tcp::resolver resolver(impl_->context);
  const auto found = resolver.resolve(options.host, std::to_string(options.port), tcp::resolver::passive, failed);
  if (!failed && !found.empty()) {
    const tcp::endpoint where = found.begin()->endpoint();
    impl_->acceptor.open(where.protocol(), failed);
    if (!failed) impl_->acceptor.set_option(tcp::acceptor::reuse_address(true), failed);
    if (!failed) impl_->acceptor.bind(where, failed);
    if (!failed) impl_->acceptor.listen(asio::socket_base::max_listen_connections, failed);
  }
  if (failed) {
    return Error{ErrorCode::kUnavailable,
                 options.host + ":" + std::to_string(options.port) + ": " + failed.message()};
  }
  asio::co_spawn(impl_->context, impl_->accept(), asio::detached);
  for (int i = 0; i < options.threads; ++i) {
    impl_->threads.emplace_back([this] { impl_->context.run(); });
  }
  return impl_->acceptor.local_endpoint().port();
}

void Server::stop() {
  impl_->context.stop();
  for (std::thread& thread : impl_->threads) thread.join();
  impl_->threads.clear();
}

}  // namespace kerf::api
