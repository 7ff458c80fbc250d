#include "workers/process/server_link.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

namespace kerf::process {
namespace {

constexpr std::size_t kMostBuffered = 64UL << 20U;
constexpr std::size_t kReadSize = 64UL << 10U;

Error gone(const std::string& what) { return {ErrorCode::kUnavailable, what}; }

Result<Descriptor> open_socket(int family, const sockaddr* address, socklen_t size,
                               const std::string& name) {
  Descriptor fd(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return gone(name + ": " + std::strerror(errno));
  if (family != AF_UNIX) {
    const int yes = 1;
    (void)setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    (void)setsockopt(fd.get(), SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
  }
  if (::connect(fd.get(), address, size) != 0 && errno != EINPROGRESS) {
    return gone(name + ": " + std::strerror(errno));
  }
  return fd;
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = other.release();
  }
  return *this;
}

int Descriptor::release() { return std::exchange(fd_, -1); }

void Descriptor::reset() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

Result<void> FrameStream::send(const Frame& frame) {
  if (!socket_) return gone("not connected");
  KERF_ASSIGN(const std::string bytes, encode_frame(frame));
  if (buffered() + bytes.size() > kMostBuffered) {
    return Error{ErrorCode::kResourceExhausted, "the peer takes nothing"};
  }
  out_ += bytes;
  return write_some();
}

Result<void> FrameStream::write_some() {
  while (sent_ < out_.size()) {
    const ssize_t put = ::send(socket_.get(), out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL);
    if (put < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOTCONN) return {};
      return gone(std::strerror(errno));
    }
    sent_ += static_cast<std::size_t>(put);
  }
  out_.clear();
  sent_ = 0;
  return {};
}

Result<void> FrameStream::read_some() {
  std::array<char, kReadSize> piece{};
  const ssize_t got = ::recv(socket_.get(), piece.data(), piece.size(), MSG_DONTWAIT);
  if (got == 0) return gone("the connection ended");
  if (got < 0) {
    if (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK) return {};
    return gone(std::strerror(errno));
  }
  return decoder_.feed({piece.data(), static_cast<std::size_t>(got)});
}

void FrameStream::close() {
  socket_.reset();
  decoder_ = FrameDecoder();
  out_.clear();
  sent_ = 0;
}

Result<Descriptor> begin_connect(const std::string& address) {
  if (address.starts_with("unix:")) {
    const std::string path = address.substr(5);
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof name.sun_path) {
      return invalid_argument("address \"" + address + "\"; expected unix: and a path of 1 to 107 bytes");
    }
    std::memcpy(name.sun_path, path.data(), path.size());
    return open_socket(AF_UNIX, reinterpret_cast<const sockaddr*>(&name), sizeof name, address);
  }
  std::string rest = address.starts_with("tcp:") ? address.substr(4) : address;
  const std::size_t colon = rest.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == rest.size()) {
    return invalid_argument("address \"" + address +
                            "\"; expected unix:/path, tcp:host:port or host:port");
  }
  std::string host = rest.substr(0, colon);
  const std::string port = rest.substr(colon + 1);
  if (host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int failed = getaddrinfo(host.c_str(), port.c_str(), &hints, &found); failed != 0) {
    return gone(address + ": " + gai_strerror(failed));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owned(found, freeaddrinfo);
  Result<Descriptor> opened = gone(address + ": no address");
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    opened = open_socket(one->ai_family, one->ai_addr, one->ai_addrlen, address);
    if (opened.has_value()) break;
  }
  return opened;
}

Result<void> connect_result(int fd) {
  int error = 0;
  socklen_t size = sizeof error;
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
  if (error != 0) return gone(std::strerror(error));
  return {};
}

}  // namespace kerf::process
