#include "cli/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

namespace kerf::cli {
namespace {

constexpr std::chrono::seconds kQuietInterval{5};
constexpr std::chrono::milliseconds kTerminalInterval{100};

}  // namespace

ProgressLine::ProgressLine(const Clock& clock, bool enabled)
    : clock_(clock), enabled_(enabled), terminal_(isatty(STDERR_FILENO) == 1) {}

ProgressLine::~ProgressLine() { finish(); }

std::string ProgressLine::text(const ProgressState& state, std::optional<std::chrono::seconds> left) {
  std::string out = fmt::format("{}: {}/{} trials, front {}, hypervolume {:.4g}", state.phase,
                                state.done, state.target, state.front_size, state.hypervolume);
  if (state.failed > 0) out += fmt::format(", {} failed", state.failed);
  if (left) out += fmt::format(", {}:{:02} left", left->count() / 60, left->count() % 60);
  return out;
}

std::optional<std::chrono::seconds> ProgressLine::time_left(const ProgressState& state) const {
  const std::int64_t finished = state.done - first_done_;
  if (!first_seen_ || finished < 3 || state.done >= state.target) return std::nullopt;
  const auto elapsed = clock_.steady_now() - *first_seen_;
  return std::chrono::duration_cast<std::chrono::seconds>(elapsed * (state.target - state.done) / finished);
}

void ProgressLine::show(const ProgressState& state) {
  if (!enabled_) return;
  const auto now = clock_.steady_now();
  if (!first_seen_) {
    first_seen_ = now;
    first_done_ = state.done;
  }
  const auto interval = terminal_ ? Clock::Duration(kTerminalInterval) : Clock::Duration(kQuietInterval);
  const bool last = state.done >= state.target;
  if (last_shown_ && now - *last_shown_ < interval && !last) return;
  const std::string line = text(state, time_left(state));
  if (line == last_) return;
  last_ = line;
  last_shown_ = now;
  if (terminal_) {
    std::fprintf(stderr, "\r\033[K%s", line.c_str());
    open_ = true;
  } else {
    std::fprintf(stderr, "%s\n", line.c_str());
  }
  std::fflush(stderr);
}

void ProgressLine::finish() {
  if (open_) std::fprintf(stderr, "\n");
  open_ = false;
}

}  // namespace kerf::cli
