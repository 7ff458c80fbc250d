#include "search/optuna/bridge_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "search/optuna/bridge_text.h"

namespace kerf::optuna {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kProtocol = 2;
constexpr std::size_t kMaxAnswer = 1U << 20U;
constexpr std::size_t kMaxLastWords = 4096;

std::string interpreter(const BridgeOptions& options) {
  if (!options.python.empty()) return options.python;
  if (const char* python = std::getenv("KERF_PYTHON"); python != nullptr && *python != '\0') {
    return python;
  }
  return KERF_DEFAULT_PYTHON;
}

std::string how_to_install(const std::string& python) {
  return "; Optuna's samplers need a Python with optuna 5 (\"" + python +
         " -m pip install 'optuna>=5,<6'\", or KERF_PYTHON names another one)";
}

/// The last lines of what a process said, as one line.
std::string as_one_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  if (text.size() > 400) text = "…" + text.substr(text.size() - 400);
  std::replace(text.begin(), text.end(), '\n', '|');
  return text;
}

}  // namespace

Result<BridgeProcess> BridgeProcess::start(const BridgeOptions& options) {
  BridgeProcess bridge;
  bridge.call_limit_ = options.call_limit;
  const std::string python = interpreter(options);
  ChildOptions child;
  child.argv = {python, "-u", "-c", kBridgeText};
  // One number of threads and one order of sets everywhere: the same asks, the same answers.
  child.env = {{"PYTHONHASHSEED", "0"},      {"OMP_NUM_THREADS", "1"},
               {"OPENBLAS_NUM_THREADS", "1"}, {"MKL_NUM_THREADS", "1"},
               {"PYTHONIOENCODING", "utf-8"}};
  child.socket_fd = 0;  // in place of the standard input, and the way back as well
  child.stdout_to_stderr = true;
  child.pipe_stderr = true;
  try {
    bridge.child_ = ChildProcess::spawn(child);
  } catch (const std::system_error& e) {
    return Error{ErrorCode::kUnavailable, std::string("optuna bridge: ") + e.what() +
                                              how_to_install(python)};
  }
  ::fcntl(bridge.child_.stderr_fd(), F_SETFL, O_NONBLOCK);
  auto answer = bridge.exchange({{"type", "hello"}}, options.start_limit);
  if (!answer.has_value()) {
    Error error = answer.error();
    if (error.code != ErrorCode::kDeadlineExceeded) {
      error.code = ErrorCode::kUnavailable;
      error.message += how_to_install(python);
    }
    return error;
  }
  if (answer->value("protocol", 0) != kProtocol) {
    return Error{ErrorCode::kUnavailable, "optuna bridge: it speaks protocol " +
                                              canonical_text(answer->value("protocol", Json())) +
                                              "; expected " + std::to_string(kProtocol)};
  }
  return bridge;
}

Result<Json> BridgeProcess::call(const Json& message, std::int64_t points) {
  return exchange(message, call_limit_ * std::max<std::int64_t>(1, points));
}

Result<Json> BridgeProcess::exchange(const Json& message, std::chrono::milliseconds limit) {
  const auto deadline = Clock::now() + limit;
  Json versioned = message;
  versioned.emplace("protocol", kProtocol);
  KERF_TRY(send_line(versioned.dump() + "\n", deadline));
  KERF_ASSIGN(const std::string line, receive_line(deadline));
  auto answer = parse_json(line, {.bytes = kMaxAnswer, .depth = 8});
  if (!answer.has_value() || !answer->is_object() || !answer->value("ok", Json()).is_boolean()) {
    return gone("it answered " + as_one_line(line.substr(0, 100)));
  }
  if ((*answer)["ok"] == true) return std::move(*answer);
  const std::string kind = answer->value("kind", "");
  return Error{kind == "missing" || kind == "version" ? ErrorCode::kFailedPrecondition : ErrorCode::kInternal,
               "optuna bridge: " + as_one_line(answer->value("error", "no reason given"))};
}

Result<void> BridgeProcess::send_line(const std::string& line, Clock::time_point deadline) {
  std::size_t sent = 0;
  while (sent < line.size()) {
    // A socket, so that writing to a dead process is an error and no signal.
    const ssize_t n = ::send(child_.socket_fd(), line.data() + sent, line.size() - sent,
                             MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
      sent += static_cast<std::size_t>(n);
    } else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      KERF_TRY(wait(POLLOUT, deadline));
    } else if (n < 0 && errno != EINTR) {
      return gone(std::string("can't be written to: ") + std::strerror(errno));
    }
  }
  return {};
}

Result<std::string> BridgeProcess::receive_line(Clock::time_point deadline) {
  std::array<char, 65536> buffer{};
  while (true) {
    if (const auto end = received_.find('\n'); end != std::string::npos) {
      std::string line = received_.substr(0, end);
      received_.erase(0, end + 1);
      return line;
    }
    if (received_.size() > kMaxAnswer) return gone("its answer doesn't end");
    const ssize_t n = ::recv(child_.socket_fd(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (n > 0) {
      received_.append(buffer.data(), static_cast<std::size_t>(n));
    } else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      KERF_TRY(wait(POLLIN, deadline));
    } else if (n == 0 || errno != EINTR) {
      return gone("it ended");
    }
  }
}

Result<void> BridgeProcess::wait(short events, Clock::time_point deadline) {
  while (true) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) {
      Error error = gone("no answer in time");
      error.code = ErrorCode::kDeadlineExceeded;
      return error;
    }
    std::array<pollfd, 2> entries{};
    entries[0] = {child_.socket_fd(), events, 0};
    entries[1] = {child_.stderr_fd(), POLLIN, 0};
    const int ready = ::poll(entries.data(), entries.size(), static_cast<int>(std::min<long long>(left, 60'000)));
    if (ready < 0 && errno != EINTR) return gone(std::string("poll: ") + std::strerror(errno));
    drain_stderr();
    if (ready > 0 && entries[0].revents != 0) return {};
  }
}

void BridgeProcess::drain_stderr() {
  std::array<char, 4096> buffer{};
  while (child_.stderr_fd() >= 0) {
    const ssize_t n = ::read(child_.stderr_fd(), buffer.data(), buffer.size());
    if (n == 0) ::close(child_.take_stderr());  // else poll would wake up for it without end
    if (n <= 0) return;
    last_words_.append(buffer.data(), static_cast<std::size_t>(n));
    if (last_words_.size() > kMaxLastWords) {
      last_words_.erase(0, last_words_.size() - kMaxLastWords);
    }
  }
}

Error BridgeProcess::gone(const std::string& what) {
  std::string message = "optuna bridge: " + what;
  // Half a second is for a process that is ending by itself, to learn how.
  auto status = child_.wait_for(std::chrono::milliseconds(what == "it ended" ? 500 : 0));
  drain_stderr();
  if (status) {
    message += " (" + describe_wait_status(*status) + ")";
  } else if (child_.running()) {
    child_.terminate(std::chrono::milliseconds(0));
  }
  if (!last_words_.empty()) message += "; its last words: " + as_one_line(last_words_);
  return {ErrorCode::kUnavailable, message};
}

}  // namespace kerf::optuna
