#include "workers/process/runner.h"

#include <malloc.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <memory>
#include <new>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "core/frame.h"
#include "workers/process/executive.h"
#include "workers/process/sandbox.h"

namespace kerf::process {
namespace {

// Progress within a phase is told this often at most; a new phase at once.
constexpr auto kTellEvery = std::chrono::milliseconds(100);
// Each of glibc's arenas reserves 64 MiB of the address space that the sandbox bounds.
constexpr int kArenas = 4;

class Runner {
 public:
  Runner(int socket, const RunnerOptions& options) : socket_(socket), options_(options) {}

  int run() {
    while (true) {
      const std::optional<Frame> frame = receive();
      if (!frame) return 0;  // the supervisor is gone, or wants no more
      const Json& message = frame->message;
      const std::string type = message.value("type", "");
      if (type == "setup") {
        if (const auto ready = set_up(message); !ready.has_value()) {
          std::fprintf(stderr, "%s\n", ready.error().message.c_str());
          return 1;
        }
      } else if (type == "work") {
        if (!ready_) return 1;
        if (!work(message)) return 0;
      }
    }
  }

 private:
  std::optional<Frame> receive() {
    while (true) {
      if (auto frame = decoder_.next()) return frame;
      std::array<char, 65536> piece{};
      const ssize_t got = ::recv(socket_, piece.data(), piece.size(), 0);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return std::nullopt;
      if (!decoder_.feed({piece.data(), static_cast<std::size_t>(got)}).has_value()) {
        return std::nullopt;
      }
    }
  }

  bool send(const Json& message) {
    const auto bytes = encode_frame({message, ""});
    if (!bytes.has_value()) {
      return send({{"type", "result"}, {"error", to_json(bytes.error())}, {"retry", false}});
    }
    std::size_t sent = 0;
    while (sent < bytes->size()) {
      const ssize_t put =
          ::send(socket_, bytes->data() + sent, bytes->size() - sent, MSG_NOSIGNAL);
      if (put < 0 && errno == EINTR) continue;
      if (put <= 0) return false;
      sent += static_cast<std::size_t>(put);
    }
    return true;
  }

  Result<void> set_up(const Json& message) {
    Executive::Options options;
    options.threads = message.value("threads", 1);
    options.scratch = message.value("scratch", "");
    options.lock_dir = message.value("lock_dir", "");
    scratch_ = options.scratch;
    if (!options_.execute) executive_ = std::make_unique<Executive>(options);
    if (message.value("sandbox", true)) {
      SandboxOptions sandbox;
      sandbox.read = message.value("read", std::vector<std::string>{});
      if (!options.scratch.empty()) sandbox.write = {options.scratch};
      KERF_TRY(enter_sandbox(sandbox));
    }
    ready_ = true;
    return {};
  }

  void tell(const std::string& phase, double share) {
    const auto now = std::chrono::steady_clock::now();
    if (phase == phase_ && now - told_at_ < kTellEvery) return;
    phase_ = phase;
    told_at_ = now;
    (void)send({{"type", "progress"}, {"phase", phase}, {"share", share}});
  }

  // False where the answer can't be sent.
  bool work(const Json& message) {
    phase_.clear();
    Result<Json> result = execute(message);
    if (result.has_value()) return answer({{"type", "result"}, {"result", std::move(*result)}});
    return answer({{"type", "result"},
                   {"error", to_json(result.error())},
                   {"retry", is_temporary(result.error().code)}});
  }

  // Texts that come from a model may be no UTF-8; JSON has no place for those.
  bool answer(const Json& message) {
    try {
      return send(message);
    } catch (const Json::exception& e) {
      return send({{"type", "result"},
                   {"error", to_json(invalid_argument(
                                 "the model has a name that is no UTF-8; expected UTF-8"))},
                   {"retry", false}});
    }
  }

  // The fourth and last place where exceptions end: a trial must not take the others with it.
  Result<Json> execute(const Json& message) {
    try {
      KERF_ASSIGN(const Work work, Work::parse(message.at("work")));
      const auto progress = [this](const std::string& phase, double share) { tell(phase, share); };
      const Json& paths = message.at("paths");
      if (options_.execute) return options_.execute(work, paths, scratch_, progress);
      return executive_->execute(work, paths, progress);
    } catch (const std::bad_alloc&) {
      return Error{ErrorCode::kResourceExhausted, "out of memory in phase " + phase_};
    } catch (const std::exception& e) {
      return internal_error(std::string(e.what()) + " (in phase " + phase_ + ")");
    }
  }

  int socket_;
  const RunnerOptions& options_;
  FrameDecoder decoder_;
  std::unique_ptr<Executive> executive_;
  bool ready_ = false;
  std::string scratch_;
  std::string phase_;
  std::chrono::steady_clock::time_point told_at_;
};

}  // namespace

int run_runner(int socket_fd, const RunnerOptions& options) {
  (void)mallopt(M_ARENA_MAX, kArenas);
  (void)signal(SIGPIPE, SIG_IGN);
  return Runner(socket_fd, options).run();
}

}  // namespace kerf::process
