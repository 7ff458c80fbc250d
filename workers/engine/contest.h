#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace kerf::engine {

/// One of several ways to do the same work.
struct Contender {
  std::function<void()> run;
  /// After its turn in a round: lets threads go that would disturb the next one. May be empty.
  std::function<void()> rest;
};

/// What a contest may ask of the world; a test brings its own.
struct ContestWorld {
  std::function<double()> now_us;
  /// Whether the machine is in a state in which its timings say nothing. Asked after each round; what
  /// was timed in such a round is thrown away. May be empty.
  std::function<bool()> disturbed;
  double block_us = 2000;  ///< What a contender's turn takes at least.
};

/// The contender that is fastest here; 0 where there is one only. Nothing where the machine was
/// disturbed in too many rounds to say.
///
/// Maths:    contenders take turns, in rounds that begin with another one each time, in blocks of some
///           milliseconds; a block's time is that of its fastest run. What is compared is the median
///           over the rounds of the time in proportion to contender 0's of the same round: a drifting
///           clock and a neighbour's burst are the same for both. A contender beyond 1.3 times the
///           leader after two rounds takes no further part; where that is all but contender 0, it has won. One that isn't faster than contender 0 by
///           `kGain` loses against it: it is the one to prefer where nothing is clear.
/// Cost:     seven rounds at most; after three no further one where `kMostUs` have been spent.
[[nodiscard]] std::optional<std::size_t> fastest(std::span<const Contender> contenders, const ContestWorld& world);

/// The middle one; the mean of both where their number is even. Not for none.
[[nodiscard]] double median_of(std::vector<double> values);

}  // namespace kerf::engine
