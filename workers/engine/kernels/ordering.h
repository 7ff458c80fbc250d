#pragma once

#include <cstddef>
#include <cstdint>

namespace kerf::engine {

/// TopK along the middle of [outer, extent, inner]: values and indices [outer, k, inner], sorted; of
/// equal ones the first. NaN counts as the largest. Each element becomes one integer of 64 bits, its
/// value's order above its index, so that sorting compares integers only.
struct TopK {
  std::int64_t outer = 1, extent = 1, inner = 1, k = 1;
  bool largest = true;
  int threads = 1;

  [[nodiscard]] std::int64_t scratch_bytes() const { return extent * 8; }  ///< A thread.
};
void top_k(const TopK& what, const float* x, float* values, std::int64_t* indices, std::byte* scratch);
void top_k(const TopK& what, const std::int32_t* x, std::int32_t* values, std::int64_t* indices, std::byte* scratch);

/// CumSum along the middle; sums in the type itself.
struct RunningSum {
  std::int64_t outer = 1, extent = 1, inner = 1;
  bool exclusive = false, reverse = false;
};
void running_sum(const RunningSum& what, const float* x, float* y);
void running_sum(const RunningSum& what, const std::int32_t* x, std::int32_t* y);
void running_sum(const RunningSum& what, const std::int64_t* x, std::int64_t* y);

}  // namespace kerf::engine
