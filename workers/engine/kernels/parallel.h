#pragma once

#include <cstddef>

namespace kerf::engine {

/// Calls f(i) for i in [0, count), on the calling thread's team where there is enough work.
template <class F>
void parallel_for(std::size_t count, std::size_t work_each, int threads, F&& f) {
  constexpr std::size_t kWorthATeam = 32768;
  if (threads > 1 && count > 1 && count * work_each >= kWorthATeam) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (std::size_t i = 0; i < count; ++i) f(i);
  } else {
    for (std::size_t i = 0; i < count; ++i) f(i);
  }
}

}  // namespace kerf::engine
