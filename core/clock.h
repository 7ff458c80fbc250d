#pragma once

#include <chrono>

namespace kerf {

/// Time, injected, so that tests and simulations own it. Leases use steady time; windows and
/// records use wall time.
class Clock {
 public:
  using Duration = std::chrono::nanoseconds;
  using SteadyTime = std::chrono::time_point<std::chrono::steady_clock, Duration>;
  using WallTime = std::chrono::time_point<std::chrono::system_clock, Duration>;

  virtual ~Clock() = default;
  [[nodiscard]] virtual SteadyTime steady_now() const = 0;
  [[nodiscard]] virtual WallTime wall_now() const = 0;
};

/// The machine's own clocks.
class SystemClock final : public Clock {
 public:
  [[nodiscard]] SteadyTime steady_now() const override { return std::chrono::steady_clock::now(); }
  [[nodiscard]] WallTime wall_now() const override { return std::chrono::system_clock::now(); }
};

/// A clock that moves when it is told to.
class ManualClock final : public Clock {
 public:
  [[nodiscard]] SteadyTime steady_now() const override { return SteadyTime(elapsed_); }
  [[nodiscard]] WallTime wall_now() const override { return WallTime(wall_); }
  void advance(Duration by) {
    elapsed_ += by;
    wall_ += by;
  }
  void jump_wall(Duration by) { wall_ += by; }

 private:
  Duration elapsed_{0};
  Duration wall_{std::chrono::hours(24 * 365 * 50)};
};

}  // namespace kerf
