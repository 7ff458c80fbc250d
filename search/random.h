#pragma once

#include <cstdint>
#include <initializer_list>

namespace kerf::search {

/// A small generator whose numbers are the same everywhere (std's distributions aren't).
///
/// Source:   SplitMix64, Steele, Lea, Flood 2014; Lemire 2019 for the range.
class Rng {
 public:
  /// Mixes the words into a seed, in order.
  explicit Rng(std::initializer_list<std::int64_t> words) {
    for (const std::int64_t word : words) {
      state_ ^= static_cast<std::uint64_t>(word);
      state_ = next();
    }
  }

  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9E3779B97F4A7C15ULL);
    z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27U)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31U);
  }

  /// Uniform in [0, bound); bound ≥ 1. The bias is below bound / 2⁶⁴.
  std::int64_t below(std::int64_t bound) {
    __extension__ using Wide = unsigned __int128;
    return static_cast<std::int64_t>(
        (static_cast<Wide>(next()) * static_cast<std::uint64_t>(bound)) >> 64U);
  }

  /// Uniform in [0, 1).
  double unit() { return static_cast<double>(next() >> 11U) * 0x1.0p-53; }

 private:
  std::uint64_t state_ = 0x6B657266ULL;
};

}  // namespace kerf::search
