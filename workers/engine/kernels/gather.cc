#include "workers/engine/kernels/gather.h"

#include <atomic>
#include <cstring>

#include "workers/engine/kernels/parallel.h"

namespace kerf::engine {
namespace {

/// memcpy of a length that is mostly one of a few.
inline void copy(std::byte* to, const std::byte* from, std::int64_t bytes) {
  switch (bytes) {
    case 1: *to = *from; break;
    case 4: std::memcpy(to, from, 4); break;
    case 8: std::memcpy(to, from, 8); break;
    default: std::memcpy(to, from, static_cast<std::size_t>(bytes));
  }
}

/// The index as one of [0, extent); -1 where it is outside.
inline std::int64_t inside(std::int64_t i, std::int64_t extent) {
  i = i < 0 ? i + extent : i;
  return i < 0 || i >= extent ? -1 : i;
}

template <std::size_t Size, bool Scatter>
bool elements(const ElementGather& what, const std::byte* from, Indices indices, std::byte* to) {
  std::int64_t at = 0;
  for (std::int64_t o = 0; o < what.outer; ++o) {
    const std::int64_t base = o * what.extent * what.inner;
    for (std::int64_t i = 0; i < what.count; ++i) {
      for (std::int64_t k = 0; k < what.inner; ++k, ++at) {
        const std::int64_t index = inside(indices[at], what.extent);
        if (index < 0) return false;
        const auto far = static_cast<std::size_t>(base + index * what.inner + k) * Size;
        const auto near = static_cast<std::size_t>(at) * Size;
        if (Scatter) std::memcpy(to + far, from + near, Size);
        else std::memcpy(to + near, from + far, Size);
      }
    }
  }
  return true;
}

template <bool Scatter>
bool sized_elements(const ElementGather& what, const std::byte* from, Indices indices, std::byte* to) {
  switch (what.element_size) {
    case 1: return elements<1, Scatter>(what, from, indices, to);
    case 2: return elements<2, Scatter>(what, from, indices, to);
    case 4: return elements<4, Scatter>(what, from, indices, to);
    default: return elements<8, Scatter>(what, from, indices, to);
  }
}

/// Offset of a tuple's row; -1 where an index is outside.
std::int64_t row_of(const TupleRows& what, Indices indices, std::int64_t tuple) {
  std::int64_t offset = tuple / what.each * what.part;
  for (std::size_t i = 0; i < what.depth; ++i) {
    const std::int64_t index = inside(indices[tuple * static_cast<std::int64_t>(what.depth) + static_cast<std::int64_t>(i)], what.extents[i]);
    if (index < 0) return -1;
    offset += index * what.strides[i];
  }
  return offset;
}

}  // namespace

bool gather_rows(const RowGather& what, const std::byte* x, Indices indices, std::byte* y) {
  std::atomic<bool> fits = true;
  const std::int64_t rows = what.outer * what.count;
  constexpr std::int64_t kPart = 64;
  const std::int64_t parts = (rows + kPart - 1) / kPart;
  parallel_for(static_cast<std::size_t>(parts), static_cast<std::size_t>(kPart * what.run / 4), what.threads, [&](std::size_t part) {
    const std::int64_t first = static_cast<std::int64_t>(part) * kPart;
    for (std::int64_t row = first; row < std::min(rows, first + kPart); ++row) {
      const std::int64_t index = inside(indices[row % what.count], what.extent);
      if (index < 0) {
        fits = false;
        return;
      }
      copy(y + row * what.run, x + (row / what.count * what.extent + index) * what.run, what.run);
    }
  });
  return fits;
}

bool gather_elements(const ElementGather& what, const std::byte* x, Indices indices, std::byte* y) {
  return sized_elements<false>(what, x, indices, y);
}
bool scatter_elements(const ElementGather& what, const std::byte* updates, Indices indices, std::byte* y) {
  return sized_elements<true>(what, updates, indices, y);
}

bool gather_tuples(const TupleRows& what, const std::byte* x, Indices indices, std::byte* y) {
  for (std::int64_t t = 0; t < what.tuples; ++t) {
    const std::int64_t offset = row_of(what, indices, t);
    if (offset < 0) return false;
    copy(y + t * what.run, x + offset, what.run);
  }
  return true;
}
bool scatter_tuples(const TupleRows& what, const std::byte* updates, Indices indices, std::byte* y) {
  for (std::int64_t t = 0; t < what.tuples; ++t) {
    const std::int64_t offset = row_of(what, indices, t);
    if (offset < 0) return false;
    copy(y + offset, updates + t * what.run, what.run);
  }
  return true;
}

}  // namespace kerf::engine
