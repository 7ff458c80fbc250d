#include "workers/process/runner_child.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "workers/process/runner.h"

namespace kerf::process {
namespace {

constexpr std::size_t kLinesKept = 12;
constexpr std::size_t kLongestLine = 400;
constexpr auto kReapLimit = std::chrono::milliseconds(2000);

// What a process prints may be anything; what goes into a message is printable text.
std::string printable(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    out += u >= 0x20 && u < 0x7F ? c : ' ';
  }
  return out;
}

}  // namespace

bool RunnerChild::serves(const std::set<std::string>& files) const {
  return child_.running() && !kill_at_ && stream_ &&
         std::includes(files_.begin(), files_.end(), files.begin(), files.end());
}

Result<void> RunnerChild::start(const std::set<std::string>& files) {
  kill();
  lines_.clear();
  line_.clear();
  phase_.clear();
  ChildOptions options;
  options.argv = setup_.argv;
  options.socket_fd = kRunnerSocket;
  options.pipe_stderr = true;
  options.stdout_to_stderr = true;
  // A team's threads look for work for this many turns before they sleep: some 100 µs. OpenMP's own
  // default is milliseconds, in which they hold cores that the next run, or another worker, needs.
  if (std::getenv("GOMP_SPINCOUNT") == nullptr) options.env["GOMP_SPINCOUNT"] = "4000";
  try {
    child_ = ChildProcess::spawn(options);
  } catch (const std::system_error& e) {
    return Error{ErrorCode::kUnavailable, std::string("no runner can be started: ") + e.what()};
  }
  fcntl(child_.stderr_fd(), F_SETFL, O_NONBLOCK);
  Descriptor socket(child_.take_socket());
  fcntl(socket.get(), F_SETFL, O_NONBLOCK);
  stream_ = FrameStream(std::move(socket));
  files_ = files;
  return stream_.send({{{"type", "setup"},
                        {"read", files},
                        {"scratch", setup_.scratch},
                        {"lock_dir", setup_.lock_dir},
                        {"threads", setup_.threads},
                        {"sandbox", setup_.sandbox}},
                       ""});
}

Result<void> RunnerChild::give(const Work& work, const Json& paths) {
  return stream_.send({{{"type", "work"}, {"work", work.to_json()}, {"paths", paths}}, ""});
}

void RunnerChild::stop() {
  if (!child_.running() || kill_at_) return;
  child_.signal(SIGTERM);
  kill_at_ = std::chrono::steady_clock::now() + setup_.term_grace;
}

void RunnerChild::kill() {
  if (child_.running()) child_.terminate(std::chrono::milliseconds(0));
  child_ = ChildProcess();
  stream_.close();
  kill_at_.reset();
}

void RunnerChild::check_time(std::chrono::steady_clock::time_point now) {
  if (!kill_at_ || now < *kill_at_) return;
  kill_at_ = now + kReapLimit;
  child_.signal(SIGKILL);
}

void RunnerChild::read_output() {
  std::array<char, 4096> piece{};
  while (child_.stderr_fd() >= 0) {
    const ssize_t got = ::read(child_.stderr_fd(), piece.data(), piece.size());
    if (got <= 0) return;
    (void)!::write(2, piece.data(), static_cast<std::size_t>(got));
    for (ssize_t i = 0; i < got; ++i) {
      if (piece[static_cast<std::size_t>(i)] != '\n') {
        if (line_.size() < kLongestLine) line_ += piece[static_cast<std::size_t>(i)];
        continue;
      }
      lines_.push_back(std::exchange(line_, {}));
      if (lines_.size() > kLinesKept) lines_.pop_front();
    }
  }
}

std::string RunnerChild::last_words() const {
  std::string out;
  for (const std::string& line : lines_) out += (out.empty() ? "" : " | ") + printable(line);
  if (!line_.empty()) out += (out.empty() ? "" : " | ") + printable(line_);
  return out;
}

std::vector<RunnerEvent> RunnerChild::take_events() {
  std::vector<RunnerEvent> events;
  if (!child_.running()) return events;
  read_output();
  Result<void> open = stream_.write_some();
  if (open.has_value()) open = stream_.read_some();
  while (const auto frame = stream_.next()) {
    const Json& message = frame->message;
    RunnerEvent event;
    try {
      const auto type = message.at("type").get<std::string>();
      if (type == "progress") {
        event.phase = message.at("phase").get<std::string>().substr(0, 80);
        event.share = message.at("share").get<double>();
        phase_ = event.phase;
      } else if (type == "result") {
        event.kind = RunnerEvent::Kind::kResult;
        event.result = message.value("result", Json());
        if (message.contains("error")) event.error = parse_error(message["error"]);
        event.retry = message.value("retry", false);
      } else {
        continue;
      }
    } catch (const Json::exception&) {
      open = invalid_argument("the runner talks nonsense");
      break;
    }
    events.push_back(std::move(event));
  }
  if (open.has_value()) return events;
  // Its end of the socket is closed, or it is of no use any more.
  std::optional<int> status = child_.wait_for(kReapLimit);
  if (!status) status = child_.terminate(std::chrono::milliseconds(0));
  read_output();
  RunnerEvent gone;
  gone.kind = RunnerEvent::Kind::kGone;
  gone.retry = true;
  std::string message = "the runner ended with " + describe_wait_status(*status);
  if (!phase_.empty()) message += " in phase " + phase_;
  if (const std::string words = last_words(); !words.empty()) {
    message += "; its last words: " + words;
  }
  gone.error = Error{ErrorCode::kInternal, std::move(message)};
  events.push_back(std::move(gone));
  child_ = ChildProcess();
  stream_.close();
  kill_at_.reset();
  return events;
}

}  // namespace kerf::process
