#include "workers/engine/kernels/zero_points.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "workers/engine/kernels/parallel.h"
#include "workers/engine/kernels/vectorized.h"

namespace kerf::engine {
namespace {

KERF_VECTORIZED void spread_rows(const float* sums, const float* factors, std::int64_t rows, std::int64_t channels, float* y) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const float sum = sums[r];
    float* row = y + r * channels;
    for (std::int64_t c = 0; c < channels; ++c) row[c] = sum * factors[c];
  }
}

KERF_VECTORIZED void flip_run(const std::uint8_t* x, std::int64_t n, std::uint8_t flip, std::uint8_t* y) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = static_cast<std::uint8_t>(x[i] ^ flip);
}

/// Unsigned, for sums wrap around.
KERF_VECTORIZED void double_run(const std::int32_t* high, const std::int32_t* low, std::int64_t n, std::int32_t* y) {
  for (std::int64_t i = 0; i < n; ++i) {
    y[i] = static_cast<std::int32_t>(2 * static_cast<std::uint32_t>(high[i]) + static_cast<std::uint32_t>(low[i]));
  }
}

KERF_VECTORIZED void correct_run(const std::int32_t* w_sums, const std::int32_t* w_zeros, std::int64_t n, std::uint32_t depth,
                                 std::uint32_t x_zero, std::uint32_t x_sum, std::int32_t* y) {
  for (std::int64_t c = 0; c < n; ++c) {
    const auto zero = static_cast<std::uint32_t>(w_zeros[c]);
    const std::uint32_t less = x_zero * (static_cast<std::uint32_t>(w_sums[c]) - zero * depth) + zero * x_sum;
    y[c] = static_cast<std::int32_t>(static_cast<std::uint32_t>(y[c]) - less);
  }
}

constexpr std::int64_t kRows = 64;  ///< That a thread takes at a time.

template <class F>
void each_rows(std::int64_t rows, std::int64_t channels, int threads, F&& f) {
  const auto parts = static_cast<std::size_t>((rows + kRows - 1) / kRows);
  parallel_for(parts, static_cast<std::size_t>(kRows * channels), threads, [&](std::size_t part) {
    const std::int64_t first = static_cast<std::int64_t>(part) * kRows;
    f(first, std::min(kRows, rows - first));
  });
}

template <class F>
void each_part(std::int64_t elements, int threads, F&& f) {
  constexpr std::int64_t kPart = 16384;
  parallel_for(static_cast<std::size_t>((elements + kPart - 1) / kPart), static_cast<std::size_t>(kPart) / 8, threads, [&](std::size_t part) {
    const std::int64_t first = static_cast<std::int64_t>(part) * kPart;
    f(first, std::min(kPart, elements - first));
  });
}

}  // namespace

void spread(const Spreading& what, const float* sums, const float* factors, float* y) {
  each_rows(what.pixels, what.channels, what.threads, [&](std::int64_t first, std::int64_t rows) {
    spread_rows(sums + first, factors, rows, what.channels, y + first * what.channels);
  });
}

void flip_bytes(const Flip& what, const std::uint8_t* x, std::uint8_t* y) {
  each_part(what.elements, what.threads, [&](std::int64_t first, std::int64_t n) { flip_run(x + first, n, what.flip, y + first); });
}

void add_doubled(const Doubling& what, const std::int32_t* high, const std::int32_t* low, std::int32_t* y) {
  each_part(what.elements, what.threads, [&](std::int64_t first, std::int64_t n) { double_run(high + first, low + first, n, y + first); });
}

void add_border(const Border& what, const std::uint8_t* x, std::uint8_t zero, std::uint8_t* y) {
  std::array<std::int64_t, 3> out{};
  for (std::size_t i = 0; i < 3; ++i) out[i] = what.before[i] + what.in[i] + what.after[i];
  const std::int64_t from_row = what.in[2] * what.channels;
  const std::int64_t to_row = out[2] * what.channels;
  const std::int64_t rows = what.batch * out[0] * out[1];
  parallel_for(static_cast<std::size_t>(rows), static_cast<std::size_t>(to_row) / 4, what.threads, [&](std::size_t i) {
    const auto row = static_cast<std::int64_t>(i);
    std::uint8_t* to = y + row * to_row;
    const std::int64_t line = row % out[1] - what.before[1];
    const std::int64_t plane = row / out[1] % out[0] - what.before[0];
    if (line < 0 || line >= what.in[1] || plane < 0 || plane >= what.in[0]) {
      std::memset(to, zero, static_cast<std::size_t>(to_row));
      return;
    }
    const std::int64_t image = row / out[1] / out[0];
    const std::uint8_t* from = x + ((image * what.in[0] + plane) * what.in[1] + line) * from_row;
    const std::int64_t left = what.before[2] * what.channels;
    std::memset(to, zero, static_cast<std::size_t>(left));
    flip_run(from, from_row, what.flip, to + left);
    std::memset(to + left + from_row, zero, static_cast<std::size_t>(to_row - left - from_row));
  });
}

void correct_sums(const ZeroPoints& what, const std::int32_t* w_sums, const std::int32_t* w_zeros, const std::int32_t* x_sums,
                  std::int32_t x_zero, std::int32_t* y) {
  const std::int64_t each = what.channels / what.groups;
  each_rows(what.pixels, what.channels, what.threads, [&](std::int64_t first, std::int64_t rows) {
    for (std::int64_t p = first; p < first + rows; ++p) {
      for (std::int64_t g = 0; g < what.groups; ++g) {
        const std::int32_t sum = x_sums == nullptr ? 0 : x_sums[p * what.groups + g];
        correct_run(w_sums + g * each, w_zeros + g * each, each, static_cast<std::uint32_t>(what.depth), static_cast<std::uint32_t>(x_zero),
                    static_cast<std::uint32_t>(sum), y + p * what.channels + g * each);
      }
    }
  });
}

}  // namespace kerf::engine
