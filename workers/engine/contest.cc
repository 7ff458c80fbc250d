#include "workers/engine/contest.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace kerf::engine {
namespace {

constexpr int kMostRounds = 7;
constexpr int kFewestRounds = 3;
constexpr int kMostDisturbed = 4;
constexpr double kMostUs = 150000;
constexpr double kHopeless = 1.3;
constexpr double kGain = 0.98;

/// One contender's time in each round that counts, in proportion to the first's.
struct Standing {
  std::vector<double> ratios;
  bool out = false;

  [[nodiscard]] double score() const {
    return ratios.empty() ? std::numeric_limits<double>::infinity() : median_of(ratios);
  }
};

/// The fastest run of a block that follows one that isn't timed.
double block_us(const Contender& contender, const ContestWorld& world) {
  contender.run();
  double least = std::numeric_limits<double>::infinity();
  const double begin = world.now_us();
  for (double before = begin; before - begin < world.block_us;) {
    contender.run();
    const double after = world.now_us();
    least = std::min(least, after - before);
    before = after;
  }
  if (contender.rest) contender.rest();
  return least;
}

}  // namespace

double median_of(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

std::optional<std::size_t> fastest(std::span<const Contender> contenders, const ContestWorld& world) {
  if (contenders.size() < 2) return 0;
  std::vector<Standing> standings(contenders.size());
  const double begin = world.now_us();
  int disturbed = 0;
  for (int round = 0, valid = 0; valid < kMostRounds; ++round) {
    if (valid >= kFewestRounds && world.now_us() - begin > kMostUs) break;
    std::vector<double> times(contenders.size(), 0.0);
    for (std::size_t turn = 0; turn < contenders.size(); ++turn) {
      const std::size_t who = (turn + static_cast<std::size_t>(round)) % contenders.size();
      if (!standings[who].out) times[who] = block_us(contenders[who], world);
    }
    if (world.disturbed && world.disturbed()) {
      if (++disturbed > kMostDisturbed) return std::nullopt;
      continue;
    }
    for (std::size_t i = 0; i < contenders.size(); ++i) {
      if (!standings[i].out) standings[i].ratios.push_back(times[i] / std::max(times[0], 1e-9));
    }
    ++valid;
    if (valid < 2) continue;
    double leader = std::numeric_limits<double>::infinity();
    for (const Standing& standing : standings) leader = std::min(leader, standing.score());
    // The first stays, whatever it takes: the others are seen in proportion to it.
    for (std::size_t i = 1; i < standings.size(); ++i) {
      standings[i].out = standings[i].out || standings[i].score() > kHopeless * leader;
    }
    if (std::all_of(standings.begin() + 1, standings.end(), [](const Standing& standing) { return standing.out; })) return 0;
  }
  std::size_t best = 0;
  double least = kGain;
  for (std::size_t i = 1; i < standings.size(); ++i) {
    if (standings[i].score() >= least) continue;
    least = standings[i].score();
    best = i;
  }
  return best;
}

}  // namespace kerf::engine
