#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "core/frame.h"
#include "core/result.h"

namespace kerf::process {

/// A descriptor that closes itself.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor() { reset(); }

  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] explicit operator bool() const { return fd_ >= 0; }
  int release();
  void reset();

 private:
  int fd_ = -1;
};

/// Frames over a stream socket that never blocks: what is sent waits in a buffer until the socket
/// takes it, what comes in is whole frames.
class FrameStream {
 public:
  FrameStream() = default;
  explicit FrameStream(Descriptor socket) : socket_(std::move(socket)) {}

  [[nodiscard]] int fd() const { return socket_.get(); }
  [[nodiscard]] explicit operator bool() const { return static_cast<bool>(socket_); }
  [[nodiscard]] bool wants_to_write() const { return !out_.empty(); }
  [[nodiscard]] std::size_t buffered() const { return out_.size() - sent_; }

  /// Errors:   resource_exhausted where the message is over a frame's limit or far too much waits.
  [[nodiscard]] Result<void> send(const Frame& frame);

  /// Moves bytes in both directions as far as that goes without waiting.
  ///
  /// Errors:   unavailable where the peer is gone; invalid_argument where it talks nonsense.
  [[nodiscard]] Result<void> read_some();
  [[nodiscard]] Result<void> write_some();

  [[nodiscard]] std::optional<Frame> next() { return decoder_.next(); }
  void close();

 private:
  Descriptor socket_;
  FrameDecoder decoder_;
  std::string out_;
  std::size_t sent_ = 0;
};

/// Opens a connection; its socket is non-blocking and may still be connecting (writable = done,
/// connect_result() tells how it went).
///
/// Addresses: "unix:/path", "tcp:host:port", "host:port", "tcp:[v6]:port".
/// Errors:   invalid_argument for what is no address; unavailable.
[[nodiscard]] Result<Descriptor> begin_connect(const std::string& address);
[[nodiscard]] Result<void> connect_result(int fd);

}  // namespace kerf::process
