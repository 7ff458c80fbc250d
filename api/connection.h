#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <memory>

#include "api/server.h"

namespace kerf::api {

/// What all connections of a server share.
struct Shared {
  ServerOptions options;
  StudyService& service;
  TokenTable tokens;
};

/// Serves one connection until it closes, breaks a limit, or the server stops.
[[nodiscard]] boost::asio::awaitable<void> serve_connection(boost::asio::ip::tcp::socket socket,
                                                            std::shared_ptr<const Shared> shared);

}  // namespace kerf::api
