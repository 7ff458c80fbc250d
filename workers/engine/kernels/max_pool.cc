#include "workers/engine/kernels/max_pool.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "workers/engine/kernels/parallel.h"
#include "workers/engine/kernels/vectorized.h"

namespace kerf::engine {
namespace {

/// How the columns of one output row are cut: those whose window lies inside the row, and the rest.
struct Columns {
  std::int64_t out, first_inside, end_inside;
  std::int64_t in, kernel, stride, dilation, pad, channels;
};

template <class T>
KERF_INLINE T larger(T a, T b) {
  return a > b ? a : b;
}

template <class T>
KERF_INLINE void rows(const T* a, const T* b, std::size_t n, T* to) {
  for (std::size_t i = 0; i < n; ++i) to[i] = larger(a[i], b[i]);
}

/// The maximum over the columns of windows [begin, end), Chunk channels at a time. Kernel 0: as wide
/// as `c` says, and checked against the row's ends.
template <class T, std::size_t Chunk, int Kernel>
KERF_INLINE void windows(const Columns& c, const T* row, T* to, std::int64_t begin, std::int64_t end) {
  typedef T Vector [[gnu::vector_size(Chunk * sizeof(T)), gnu::aligned(1), gnu::may_alias]];
  const std::int64_t step = c.dilation * c.channels;
  for (std::int64_t x = begin; x < end; ++x) {
    std::int64_t first = 0;
    std::int64_t last = c.kernel;
    const std::int64_t start = x * c.stride - c.pad;
    if (Kernel == 0) {
      while (first < last && start + first * c.dilation < 0) ++first;
      while (last > first && start + (last - 1) * c.dilation >= c.in) --last;
    }
    const T* from = row + start * c.channels;
    T* target = to + x * c.channels;
    for (std::int64_t part = 0; part < c.channels; part += static_cast<std::int64_t>(Chunk)) {
      // The last part overlaps the one before where the channels aren't a multiple.
      const std::int64_t k = std::min(part, c.channels - static_cast<std::int64_t>(Chunk));
      Vector best;
      if (Kernel == 0) {
        best = Vector{} + std::numeric_limits<T>::lowest();
        for (std::int64_t i = first; i < last; ++i) {
          const Vector v = *reinterpret_cast<const Vector*>(from + i * step + k);
          best = best > v ? best : v;
        }
      } else {
        best = *reinterpret_cast<const Vector*>(from + k);
        for (int i = 1; i < Kernel; ++i) {
          const Vector v = *reinterpret_cast<const Vector*>(from + i * step + k);
          best = best > v ? best : v;
        }
      }
      *reinterpret_cast<Vector*>(target + k) = best;
    }
  }
}

template <class T, std::size_t Chunk>
KERF_INLINE void columns_of(const Columns& c, const T* row, T* to) {
  windows<T, Chunk, 0>(c, row, to, 0, c.first_inside);
  if (c.kernel == 2) windows<T, Chunk, 2>(c, row, to, c.first_inside, c.end_inside);
  else if (c.kernel == 3) windows<T, Chunk, 3>(c, row, to, c.first_inside, c.end_inside);
  else windows<T, Chunk, 0>(c, row, to, c.first_inside, c.end_inside);
  windows<T, Chunk, 0>(c, row, to, c.end_inside, c.out);
}

template <class T>
KERF_INLINE void columns(const Columns& c, const T* row, T* to) {
  if (c.channels >= 64) columns_of<T, 64>(c, row, to);
  else if (c.channels >= 32) columns_of<T, 32>(c, row, to);
  else if (c.channels >= 16) columns_of<T, 16>(c, row, to);
  else if (c.channels >= 8) columns_of<T, 8>(c, row, to);
  else if (c.channels >= 4) columns_of<T, 4>(c, row, to);
  else if (c.channels >= 2) columns_of<T, 2>(c, row, to);
  else columns_of<T, 1>(c, row, to);
}

KERF_VECTORIZED void rows_of(const std::uint8_t* a, const std::uint8_t* b, std::size_t n, std::uint8_t* to) { rows(a, b, n, to); }
KERF_VECTORIZED void rows_of(const std::int8_t* a, const std::int8_t* b, std::size_t n, std::int8_t* to) { rows(a, b, n, to); }
KERF_VECTORIZED void columns_of(const Columns& c, const std::uint8_t* row, std::uint8_t* to) { columns(c, row, to); }
KERF_VECTORIZED void columns_of(const Columns& c, const std::int8_t* row, std::int8_t* to) { columns(c, row, to); }

template <class T>
void pool_rows(const ImagePool& p, const Columns& c, const T* image, T* to, T* scratch, std::int64_t y) {
  const std::int64_t width = p.in_w * p.channels;
  const T* row = nullptr;
  for (std::int64_t i = 0; i < p.kernel_h; ++i) {
    const std::int64_t at = y * p.stride_h - p.pad_h + i * p.dilation_h;
    if (at < 0 || at >= p.in_h) continue;
    const T* next = image + at * width;
    if (row == nullptr) {
      row = next;
      continue;
    }
    rows_of(row, next, static_cast<std::size_t>(width), scratch);
    row = scratch;
  }
  T* target = to + y * p.out_w * p.channels;
  if (row == nullptr) {
    std::fill_n(target, p.out_w * p.channels, std::numeric_limits<T>::lowest());
  } else {
    columns_of(c, row, target);
  }
}

template <class T>
void pool_images(const ImagePool& p, const T* from, T* to, T* scratch, int threads) {
  Columns c{p.out_w, 0, 0, p.in_w, p.kernel_w, p.stride_w, p.dilation_w, p.pad_w, p.channels};
  const std::int64_t reach = (p.kernel_w - 1) * p.dilation_w + 1;
  c.first_inside = std::min(p.out_w, (p.pad_w + p.stride_w - 1) / p.stride_w);
  const std::int64_t room = p.in_w + p.pad_w - reach;
  c.end_inside = room < 0 ? c.first_inside : std::clamp(room / p.stride_w + 1, c.first_inside, p.out_w);
  const std::int64_t image = p.in_h * p.in_w * p.channels;
  const std::int64_t result = p.out_h * p.out_w * p.channels;
  // A task for each thread: its scratch is its own.
  const auto tasks = static_cast<std::size_t>(std::max(threads, 1));
  const std::int64_t lines = p.batch * p.out_h;
  const std::size_t work = static_cast<std::size_t>(image * p.batch) / tasks / 8;
  parallel_for(tasks, work, threads, [&](std::size_t task) {
    const auto t = static_cast<std::int64_t>(task);
    const auto n = static_cast<std::int64_t>(tasks);
    for (std::int64_t line = lines * t / n; line < lines * (t + 1) / n; ++line) {
      const std::int64_t b = line / p.out_h;
      pool_rows(p, c, from + b * image, to + b * result, scratch + t * p.scratch_elements(), line % p.out_h);
    }
  });
}

}  // namespace

void max_pool(const ImagePool& pool, const std::uint8_t* from, std::uint8_t* to, std::uint8_t* scratch, int threads) {
  pool_images(pool, from, to, scratch, threads);
}
void max_pool(const ImagePool& pool, const std::int8_t* from, std::int8_t* to, std::int8_t* scratch, int threads) {
  pool_images(pool, from, to, scratch, threads);
}


}  // namespace kerf::engine
