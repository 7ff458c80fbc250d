#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "api/auth.h"
#include "api/service.h"
#include "core/result.h"

namespace kerf::api {

/// Limits of the HTTP server. All bound what one client can cost.
struct ServerOptions {
  std::string host = "127.0.0.1";
  std::uint16_t port = 0;                          ///< 0 picks one.
  int threads = 4;
  std::vector<std::string> allowed_hosts;          ///< Of the Host header; empty = any (only with other guards).
  std::size_t header_bytes = 8192;
  std::uint64_t upload_bytes = 2ULL << 30U;
  std::size_t json_bytes = 1U << 20U;
  int connections = 2048;                          ///< Beyond them a connection is closed at once.
  std::chrono::milliseconds header_limit{10000};   ///< From the first byte wanted to the header's end.
  std::chrono::milliseconds idle_limit{30000};     ///< Of a connection that is kept.
  std::chrono::milliseconds piece_limit{30000};    ///< For each 64 KiB of a body, either way.
  std::chrono::milliseconds model_limit{120000};   ///< For an export that a GET waits for.
  std::chrono::milliseconds event_interval{250};   ///< Between looks at a study's log.
  std::chrono::milliseconds event_keepalive{15000};
};

/// The HTTP service: routes of the contract over a StudyService.
///
/// Security: Host must be an allowed one and Origin, where there is one, must be this host (pages
///           elsewhere can't reach a server on loopback); tokens on everything below /v1.
/// Threads:  start() makes `threads` of its own; the service is called on them.
class Server {
 public:
  Server(ServerOptions options, StudyService& service, TokenTable tokens);
  ~Server();  ///< stop()
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Listens and serves. Returns the port.
  ///
  /// Errors:   unavailable where the address can't be had.
  [[nodiscard]] Result<std::uint16_t> start();
  void stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kerf::api
