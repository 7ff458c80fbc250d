#include "workers/engine/kernels/copy.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <type_traits>

#include "workers/engine/kernels/interleave.h"
#include "workers/engine/kernels/parallel.h"

namespace kerf::engine {
namespace {

/// Whether few planes become pixels: [batch,] pixels, channels, which interleave() does.
bool planes_to_pixels(const StridedCopy& c) {
  const std::size_t n = c.dims.size();
  if (n < 2 || n > 3 || c.element_size > 4) return false;
  const std::int64_t channels = c.dims[n - 1];
  return channels >= 2 && channels <= 4 && c.from_strides[n - 2] == 1 && c.from_strides[n - 1] >= c.dims[n - 2] &&
         c.to_strides[n - 1] == 1 && c.to_strides[n - 2] == channels;
}

template <class T>
void copy_pixels(const StridedCopy& c, const std::byte* from_bytes, std::byte* to_bytes, int threads) {
  const T* from = reinterpret_cast<const T*>(from_bytes) + c.from_offset;
  T* to = reinterpret_cast<T*>(to_bytes) + c.to_offset;
  const std::size_t n = c.dims.size();
  const auto channels = static_cast<std::size_t>(c.dims[n - 1]);
  const auto pixels = static_cast<std::size_t>(c.dims[n - 2]);
  const std::size_t batch = n == 3 ? static_cast<std::size_t>(c.dims[0]) : 1;
  constexpr std::size_t kPixels = 4096;
  const std::size_t blocks = (pixels + kPixels - 1) / kPixels;
  parallel_for(batch * blocks, std::min(pixels, kPixels) * channels, threads, [&](std::size_t i) {
    const auto image = static_cast<std::int64_t>(i / blocks);
    const std::size_t first = i % blocks * kPixels;
    interleave(from + (n == 3 ? image * c.from_strides[0] : 0) + first, static_cast<std::size_t>(c.from_strides[n - 1]), channels,
               std::min(kPixels, pixels - first), to + (n == 3 ? image * c.to_strides[0] : 0) + first * channels);
  });
}

/// Whether the last two dimensions exchange places: one is dense on this side, the other on that.
bool exchanges(const StridedCopy& c) {
  const std::size_t n = c.dims.size();
  return n >= 2 && c.from_strides[n - 2] == 1 && c.to_strides[n - 1] == 1 && c.dims[n - 1] >= 8 && c.dims[n - 2] >= 8;
}

/// Moves the dimension that is dense in the source beside the last one, which is dense in the
/// target: the two then go in tiles whose lines stay in the first-level cache.
void bring_together(StridedCopy& c) {
  const std::size_t n = c.dims.size();
  if (n < 2 || c.to_strides[n - 1] != 1 || c.from_strides[n - 1] == 1) return;
  for (std::size_t d = 0; d + 2 < n; ++d) {
    if (c.from_strides[d] != 1) continue;
    const auto rotate = [&](graph::Shape& v) {
      std::rotate(v.begin() + static_cast<std::ptrdiff_t>(d), v.begin() + static_cast<std::ptrdiff_t>(d) + 1, v.end() - 1);
    };
    StridedCopy moved = c;
    rotate(moved.dims);
    rotate(moved.from_strides);
    rotate(moved.to_strides);
    if (exchanges(moved)) c = std::move(moved);
    return;
  }
}

/// Four lines of four words, exchanged in registers.
inline void exchange_words(const std::uint32_t* from, std::int64_t stride, std::uint32_t* to, std::int64_t to_stride) {
  typedef std::uint32_t Words [[gnu::vector_size(16)]];
  typedef std::uint32_t WordsAnywhere [[gnu::vector_size(16), gnu::aligned(4), gnu::may_alias]];
  const auto line = [&](std::int64_t i) { return Words(*reinterpret_cast<const WordsAnywhere*>(from + i * stride)); };
  const auto put = [&](std::int64_t i, Words v) { *reinterpret_cast<WordsAnywhere*>(to + i * to_stride) = v; };
  const Words a = line(0), b = line(1), c = line(2), d = line(3);
  const Words ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
  const Words ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7), cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  put(0, __builtin_shufflevector(ab, cd, 0, 1, 4, 5));
  put(1, __builtin_shufflevector(ab, cd, 2, 3, 6, 7));
  put(2, __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5));
  put(3, __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7));
}

/// One tile of rows by columns; rows are dense in the source, columns in the target.
template <class T>
void exchange_tile(const T* from, std::int64_t from_stride, T* to, std::int64_t to_stride, std::int64_t rows, std::int64_t columns) {
  constexpr std::int64_t kSide = 16;
  T block[kSide][kSide];
  if (rows == kSide && columns == kSide) {
    // Read and written in whole lines; the exchange happens in between, in registers and cache.
    if constexpr (std::is_same_v<T, std::uint32_t>) {
      for (std::int64_t j = 0; j < kSide; j += 4) {
        for (std::int64_t i = 0; i < kSide; i += 4) exchange_words(from + j * from_stride + i, from_stride, &block[i][j], kSide);
      }
    } else {
      for (std::int64_t j = 0; j < kSide; ++j) {
        for (std::int64_t i = 0; i < kSide; ++i) block[i][j] = from[j * from_stride + i];
      }
    }
    for (std::int64_t i = 0; i < kSide; ++i) std::memcpy(to + i * to_stride, block[i], sizeof block[i]);
    return;
  }
  // Channels that aren't a multiple of sixteen, as pruning leaves them: by four what can be.
  std::int64_t whole = 0;
  if constexpr (std::is_same_v<T, std::uint32_t>) {
    if (columns % 4 == 0) whole = rows / 4 * 4;
    for (std::int64_t j = 0; j < columns && whole > 0; j += 4) {
      for (std::int64_t i = 0; i < whole; i += 4) exchange_words(from + j * from_stride + i, from_stride, to + i * to_stride + j, to_stride);
    }
  }
  for (std::int64_t i = whole; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) to[i * to_stride + j] = from[j * from_stride + i];
  }
}

template <class T>
void exchange_all(const StridedCopy& c, const std::byte* from_bytes, std::byte* to_bytes, int threads) {
  const T* from = reinterpret_cast<const T*>(from_bytes) + c.from_offset;
  T* to = reinterpret_cast<T*>(to_bytes) + c.to_offset;
  constexpr std::int64_t kSide = 16;
  const std::size_t n = c.dims.size();
  const std::int64_t rows = c.dims[n - 2];
  const std::int64_t columns = c.dims[n - 1];
  const std::int64_t bands = (rows + kSide - 1) / kSide;
  std::int64_t outer = bands;
  for (std::size_t d = 0; d + 2 < n; ++d) outer *= c.dims[d];
  parallel_for(static_cast<std::size_t>(outer), static_cast<std::size_t>(kSide * columns), threads, [&](std::size_t task) {
    const std::int64_t first = static_cast<std::int64_t>(task) % bands * kSide;
    std::int64_t rest = static_cast<std::int64_t>(task) / bands;
    std::int64_t at_from = first;
    std::int64_t at_to = first * c.to_strides[n - 2];
    for (std::size_t d = n - 2; d-- > 0;) {
      at_from += rest % c.dims[d] * c.from_strides[d];
      at_to += rest % c.dims[d] * c.to_strides[d];
      rest /= c.dims[d];
    }
    for (std::int64_t j = 0; j < columns; j += kSide) {
      exchange_tile(from + at_from + j * c.from_strides[n - 1], c.from_strides[n - 1], to + at_to + j, c.to_strides[n - 2],
                    std::min(kSide, rows - first), std::min(kSide, columns - j));
    }
  });
}

/// Drops extents of 1, merges neighbours that both sides walk without a gap, and puts a long
/// dimension innermost where the last is short.
StridedCopy prepared(StridedCopy copy) {
  StridedCopy out = copy;
  out.dims.clear();
  out.from_strides.clear();
  out.to_strides.clear();
  for (std::size_t d = 0; d < copy.dims.size(); ++d) {
    if (copy.dims[d] == 1) continue;
    if (!out.dims.empty() && out.from_strides.back() == copy.from_strides[d] * copy.dims[d] &&
        out.to_strides.back() == copy.to_strides[d] * copy.dims[d]) {
      out.dims.back() *= copy.dims[d];
      out.from_strides.back() = copy.from_strides[d];
      out.to_strides.back() = copy.to_strides[d];
      continue;
    }
    out.dims.push_back(copy.dims[d]);
    out.from_strides.push_back(copy.from_strides[d]);
    out.to_strides.push_back(copy.to_strides[d]);
  }
  if (out.dims.empty()) {
    out.dims = {1};
    out.from_strides = {0};
    out.to_strides = {0};
  }
  const std::size_t n = out.dims.size();
  if (planes_to_pixels(out)) return out;
  bring_together(out);
  if (exchanges(out)) return out;
  const bool runs = out.from_strides[n - 1] == 1 && out.to_strides[n - 1] == 1;
  if (n > 1 && !runs && out.dims[n - 1] < 16 && out.dims[n - 2] > out.dims[n - 1]) {
    std::swap(out.dims[n - 1], out.dims[n - 2]);
    std::swap(out.from_strides[n - 1], out.from_strides[n - 2]);
    std::swap(out.to_strides[n - 1], out.to_strides[n - 2]);
  }
  return out;
}

template <class T>
void copy_run(const T* from, std::int64_t from_stride, T* to, std::int64_t to_stride, std::int64_t n) {
  if (from_stride == 1 && to_stride == 1) {
    std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(T));
  } else if (from_stride == 1) {
    for (std::int64_t i = 0; i < n; ++i) to[i * to_stride] = from[i];
  } else if (to_stride == 1) {
    for (std::int64_t i = 0; i < n; ++i) to[i] = from[i * from_stride];
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i * to_stride] = from[i * from_stride];
  }
}

template <class T>
void copy_all(const StridedCopy& c, const std::byte* from_bytes, std::byte* to_bytes, int threads) {
  if constexpr (sizeof(T) <= 4) {
    if (planes_to_pixels(c)) return copy_pixels<T>(c, from_bytes, to_bytes, threads);
  }
  if (exchanges(c)) return exchange_all<T>(c, from_bytes, to_bytes, threads);
  const T* from = reinterpret_cast<const T*>(from_bytes) + c.from_offset;
  T* to = reinterpret_cast<T*>(to_bytes) + c.to_offset;
  const std::size_t n = c.dims.size();
  std::size_t outer = 1;
  for (std::size_t d = 0; d + 1 < n; ++d) outer *= static_cast<std::size_t>(c.dims[d]);
  const std::int64_t run = c.dims[n - 1];
  // A walk that never divides: several outer indices a task.
  const std::size_t tasks = threads > 1 ? std::min<std::size_t>(outer, 64) : 1;
  parallel_for(tasks, outer / std::max<std::size_t>(tasks, 1) * static_cast<std::size_t>(run), threads, [&](std::size_t task) {
    const std::size_t first = outer * task / tasks;
    const std::size_t last = outer * (task + 1) / tasks;
    std::int64_t index[16] = {};
    std::int64_t at_from = 0;
    std::int64_t at_to = 0;
    std::size_t rest = first;
    for (std::size_t d = n - 1; d-- > 0;) {
      index[d] = static_cast<std::int64_t>(rest % static_cast<std::size_t>(c.dims[d]));
      rest /= static_cast<std::size_t>(c.dims[d]);
      at_from += index[d] * c.from_strides[d];
      at_to += index[d] * c.to_strides[d];
    }
    for (std::size_t i = first; i < last; ++i) {
      copy_run(from + at_from, c.from_strides[n - 1], to + at_to, c.to_strides[n - 1], run);
      for (std::size_t d = n - 1; d-- > 0;) {
        at_from += c.from_strides[d];
        at_to += c.to_strides[d];
        if (++index[d] < c.dims[d]) break;
        at_from -= c.from_strides[d] * c.dims[d];
        at_to -= c.to_strides[d] * c.dims[d];
        index[d] = 0;
      }
    }
  });
}

void fill_with(std::byte* to, std::int64_t elements, const std::vector<std::byte>& value) {
  const std::size_t total = static_cast<std::size_t>(elements) * value.size();
  if (std::all_of(value.begin(), value.end(), [&](std::byte b) { return b == value[0]; })) {
    std::memset(to, static_cast<int>(value[0]), total);
    return;
  }
  for (std::size_t i = 0; i < total; i += value.size()) std::memcpy(to + i, value.data(), value.size());
}

class CopyStep final : public Step {
 public:
  CopyStep(std::vector<CopySource> sources, SlotId to, std::int64_t to_elements, std::vector<std::byte> fill, int threads)
      : sources_(std::move(sources)), to_(to), to_elements_(to_elements), fill_(std::move(fill)), threads_(threads) {
    for (CopySource& source : sources_) {
      const std::int64_t elements = std::accumulate(source.copy.dims.begin(), source.copy.dims.end(), std::int64_t{1}, std::multiplies<>());
      source.copy = prepared(std::move(source.copy));
      if (elements == 0) source.slot = -1;
      else reads.push_back(source.slot);
    }
    std::erase_if(sources_, [](const CopySource& source) { return source.slot < 0; });
    writes = {to};
  }

  void run(Pointers pointers) override {
    if (!fill_.empty()) fill_with(pointers[to_], to_elements_, fill_);
    for (const CopySource& source : sources_) {
      const std::byte* from = pointers[source.slot];
      std::byte* to = pointers[to_];
      switch (source.copy.element_size) {
        case 1: copy_all<std::uint8_t>(source.copy, from, to, threads_); break;
        case 2: copy_all<std::uint16_t>(source.copy, from, to, threads_); break;
        case 4: copy_all<std::uint32_t>(source.copy, from, to, threads_); break;
        default: copy_all<std::uint64_t>(source.copy, from, to, threads_); break;
      }
    }
  }

 private:
  std::vector<CopySource> sources_;
  SlotId to_;
  std::int64_t to_elements_;
  std::vector<std::byte> fill_;
  int threads_;
};

class PlainCopyStep final : public Step {
 public:
  PlainCopyStep(SlotId from, SlotId to, std::int64_t bytes) : bytes_(static_cast<std::size_t>(bytes)) {
    reads = {from};
    writes = {to};
  }
  void run(Pointers pointers) override { std::memcpy(pointers[writes[0]], pointers[reads[0]], bytes_); }

 private:
  std::size_t bytes_;
};

}  // namespace

std::unique_ptr<Step> make_copy(std::vector<CopySource> sources, SlotId to, std::int64_t to_elements, std::vector<std::byte> fill, int threads) {
  auto step = std::make_unique<CopyStep>(std::move(sources), to, to_elements, std::move(fill), threads);
  step->info.kernel = "kerf:copy";
  return step;
}

std::unique_ptr<Step> make_plain_copy(SlotId from, SlotId to, std::int64_t bytes) {
  auto step = std::make_unique<PlainCopyStep>(from, to, bytes);
  step->info.kernel = "kerf:copy";
  return step;
}

}  // namespace kerf::engine
