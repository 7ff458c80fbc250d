#include "workers/engine/tuning.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <limits>
#include <optional>
#include <system_error>

#include "workers/engine/contest.h"
#include "workers/engine/cores.h"

namespace kerf::engine {

using graph::Graph;

namespace {

/// Input of zeros and room for the output, the same for all ways to run a batch.
class Buffers {
 public:
  explicit Buffers(const Lanes& lanes) {
    for (const graph::ValueInfo& input : lanes.inputs()) from_.push_back(buffer(input));
    for (const graph::ValueInfo& output : lanes.outputs()) to_.push_back(buffer(output));
  }
  [[nodiscard]] std::span<const void* const> from() const { return from_; }
  [[nodiscard]] std::span<void* const> to() const { return to_; }

 private:
  std::byte* buffer(const graph::ValueInfo& value) {
    const auto bytes = static_cast<std::size_t>(*graph::element_count(value.shape)) * graph::element_size(value.dtype);
    memory_.emplace_back(bytes + 64);
    return memory_.back().data();
  }

  std::vector<std::vector<std::byte>> memory_;
  std::vector<const void*> from_;
  std::vector<void*> to_;
};

double now_us() {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Tells the phases in which several threads can't be timed. Of no opinion where there is one thread,
/// or where threads have to share cores anyway.
class Phases {
 public:
  explicit Phases(int threads) {
    cpu_set_t allowed;
    const bool enough = sched_getaffinity(0, sizeof allowed, &allowed) == 0 && CPU_COUNT(&allowed) >= threads;
    if (threads < 2 || !enough) return;
    try {
      probe_.emplace(threads);
    } catch (const std::system_error&) {
      // No thread to be had: what is timed will say so.
    }
  }

  /// Whether the threads are in each other's way. Where they are, it waits for them to come apart, for
  /// `kMostWaitMs` in all calls together, so that what is timed next may say more.
  [[nodiscard]] bool bad() {
    if (!probe_ || !probe_->shared()) return false;
    const double begin = now_us();
    (void)probe_->wait_until_apart(wait_ms_);
    wait_ms_ = std::max(0, wait_ms_ - static_cast<int>((now_us() - begin) / 1000));
    return true;
  }
  /// Whether threads can be timed now, after such a wait.
  [[nodiscard]] bool good() { return !bad() || !probe_->shared(); }

 private:
  static constexpr int kMostWaitMs = 300;
  std::optional<CoreProbe> probe_;
  int wait_ms_ = kMostWaitMs;
};

class Tuner {
 public:
  Tuner(const Graph& graph, std::int64_t batch, int threads, bool rows)
      : graph_(graph), batch_(batch), threads_(threads), rows_(rows), phases_(threads) {}

  Result<std::unique_ptr<Lanes>> best() {
    // Where the cores stay together there is no use in asking again soon.
    good_ = phases_.good();
    std::vector<Cut> cuts = {Cut{batch_, 1, {}}};
    if (rows_) {
      KERF_ASSIGN(const auto single, Lanes::make(graph_, 1, 1, {1, 1, {}}, true));
      cuts = possible_cuts(batch_, threads_, single->arena_bytes());
    }
    KERF_ASSIGN(auto lanes, fastest_of(cuts, nullptr));
    if (threads_ == 1) return lanes;
    return in_teams(std::move(lanes));
  }

 private:
  /// The fastest of these and of `known`, if that is given: it is the one to prefer then.
  Result<std::unique_ptr<Lanes>> fastest_of(const std::vector<Cut>& cuts, std::unique_ptr<Lanes> known) {
    std::vector<std::unique_ptr<Lanes>> all;
    if (known != nullptr) all.push_back(std::move(known));
    for (const Cut& cut : cuts) {
      KERF_ASSIGN(auto lanes, Lanes::make(graph_, batch_, threads_, cut, true));
      all.push_back(std::move(lanes));
      if (!good_) break;  // nothing will be timed
    }
    const Buffers buffers(*all[0]);
    std::vector<Contender> contenders;
    for (const auto& lanes : all) {
      Lanes* each = lanes.get();
      contenders.push_back({[&buffers, each] { each->run(buffers.from(), buffers.to()); }, [each] { each->rest(); }});
    }
    const auto won = fastest(contenders, {now_us, [this] { return phases_.bad(); }});
    if (!won) good_ = false;
    return std::move(all[won.value_or(0)]);
  }

  /// Each step on as many threads as it gains from, if that is faster than `known`. Steps that were
  /// timed one by one may do worse in a row: what is mixed has to show that it pays, and so has the team.
  Result<std::unique_ptr<Lanes>> in_teams(std::unique_ptr<Lanes> known) {
    if (!good_ && known->cut().lanes > 1) return known;
    Cut cut{known->cut().micro, 1, {}};
    KERF_ASSIGN(const auto together, Lanes::make(graph_, batch_, threads_, cut, true));
    const std::vector<int> ones(together->steps().size(), 1);
    cut.teams = ones;
    KERF_ASSIGN(const auto alone, Lanes::make(graph_, batch_, threads_, cut, true));
    cut.teams = good_ ? by_gain(*alone, *together) : std::vector<int>{};
    if (!good_) cut.teams = by_size(*alone);  // it may have become so
    if (!good_) return Lanes::make(graph_, batch_, threads_, cut, true);
    std::vector<Cut> cuts = {Cut{cut.micro, 1, ones}};
    const bool mixed = cut.teams != ones && cut.teams != std::vector<int>(ones.size(), threads_);
    if (mixed) cuts.push_back(cut);
    return fastest_of(cuts, std::move(known));
  }

  /// The least time of each step over some runs.
  std::vector<double> profile(Lanes& lanes, const Buffers& buffers) const {
    constexpr int kRuns = 8;
    constexpr double kMostUs = 20000;
    lanes.run(buffers.from(), buffers.to());
    std::vector<double> least(lanes.steps().size(), std::numeric_limits<double>::infinity());
    const double begin = now_us();
    for (int i = 0; i < kRuns && (i == 0 || now_us() - begin < kMostUs); ++i) {
      const std::vector<double> times = lanes.run_profiled(buffers.from(), buffers.to());
      for (std::size_t step = 0; step < least.size(); ++step) least[step] = std::min(least[step], times[step]);
    }
    lanes.rest();
    return least;
  }

  /// Threads for each step, 1 or all, by the median over some rounds of what a team gains.
  std::vector<int> by_gain(Lanes& alone, Lanes& together) {
    constexpr int kRounds = 5;
    // What a team doesn't gain clearly isn't worth keeping a core busy for.
    constexpr double kGain = 0.95;
    const std::size_t steps = together.steps().size();
    if (steps == 0 || alone.steps().size() != steps) return std::vector<int>(steps, threads_);
    const Buffers buffers(together);
    std::vector<std::vector<double>> ratios(steps);
    for (int round = 0; round < kRounds; ++round) {
      const std::vector<double> one = profile(alone, buffers);
      const std::vector<double> all = profile(together, buffers);
      if (phases_.bad()) continue;  // the round is lost, the others count
      for (std::size_t i = 0; i < steps; ++i) ratios[i].push_back(all[i] / std::max(one[i], 1e-3));
    }
    good_ = !ratios[0].empty();
    std::vector<int> teams(steps, threads_);
    for (std::size_t i = 0; i < steps; ++i) {
      if (!ratios[i].empty() && median_of(ratios[i]) >= kGain) teams[i] = 1;
    }
    return teams;
  }

  /// The same without timing threads together: a team for steps that are long beside what it takes
  /// to come together.
  std::vector<int> by_size(Lanes& alone) {
    constexpr double kWorthATeamUs = 12;
    const Buffers buffers(alone);
    const std::vector<double> times = profile(alone, buffers);
    std::vector<int> teams;
    for (const double us : times) teams.push_back(us < kWorthATeamUs * static_cast<double>(batch_ / alone.cut().micro) ? 1 : threads_);
    return teams;
  }

  const Graph& graph_;
  std::int64_t batch_;
  int threads_;
  bool rows_;
  Phases phases_;
  bool good_ = true;  // several threads can be timed
};

}  // namespace

std::int64_t divisor(std::int64_t batch, std::int64_t limit) {
  std::int64_t found = std::clamp<std::int64_t>(limit, 1, batch);
  while (batch % found != 0) --found;
  return found;
}

std::vector<Cut> possible_cuts(std::int64_t batch, int threads, std::int64_t arena_bytes_of_sample) {
  constexpr std::int64_t kCache = 1LL << 20U;
  std::vector<Cut> out;
  const auto add = [&](Cut cut) {
    if (std::find(out.begin(), out.end(), cut) == out.end()) out.push_back(std::move(cut));
  };
  const std::int64_t each = std::max<std::int64_t>(arena_bytes_of_sample, 1);
  for (const int lanes : {threads, 1}) {
    const std::int64_t share = batch / lanes;
    if (share < 1) continue;
    add({divisor(batch, std::min(share, std::max<std::int64_t>(kCache / each, 1))), lanes, {}});
    add({divisor(batch, std::min(share, std::max<std::int64_t>(kCache / 4 / each, 1))), lanes, {}});
    add({1, lanes, {}});
    add({divisor(batch, share), lanes, {}});
  }
  return out;
}

Result<std::unique_ptr<Lanes>> tuned_lanes(const Graph& graph, std::int64_t batch, int threads, bool rows) {
  return Tuner(graph, batch, threads, rows).best();
}

}  // namespace kerf::engine
