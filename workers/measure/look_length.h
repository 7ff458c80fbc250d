#pragma once

#include <algorithm>

namespace kerf::measure {

/// How long the next of several like pieces of work may take: as the longest but one so far. The longest
/// alone would take an interruption of one of them (another process, a page that comes from the disk)
/// for their length.
class LookLength {
 public:
  void add(double seconds) {
    second_ = std::max(second_, std::min(longest_, seconds));
    longest_ = std::max(longest_, seconds);
  }

  /// 0 before two were seen.
  [[nodiscard]] double expected() const { return second_; }

 private:
  double longest_ = 0;
  double second_ = 0;
};

}  // namespace kerf::measure
