#include "workers/engine/kernels/interleave.h"

#include <algorithm>

#include "workers/engine/kernels/parallel.h"
#include "workers/engine/kernels/vector.h"
#include "workers/engine/kernels/vectorized.h"

namespace kerf::engine {
namespace {

template <class T>
KERF_INLINE void pixels_of(const T* from, std::size_t stride, std::size_t channels, std::size_t pixels, T* __restrict to) {
  const T* a = from;
  const T* b = from + stride;
  const T* c = from + 2 * stride;
  const T* d = from + 3 * stride;
  if (channels == 2) {
    for (std::size_t i = 0; i < pixels; ++i) {
      to[2 * i] = a[i];
      to[2 * i + 1] = b[i];
    }
  } else if (channels == 3) {
    for (std::size_t i = 0; i < pixels; ++i) {
      to[3 * i] = a[i];
      to[3 * i + 1] = b[i];
      to[3 * i + 2] = c[i];
    }
  } else {
    for (std::size_t i = 0; i < pixels; ++i) {
      to[4 * i] = a[i];
      to[4 * i + 1] = b[i];
      to[4 * i + 2] = c[i];
      to[4 * i + 3] = d[i];
    }
  }
}

constexpr std::size_t kPixels = 1024;

/// f(first pixel of all, how many, image, first pixel in it).
template <class F>
void each_block(const Images& images, F&& f) {
  const auto pixels = static_cast<std::size_t>(images.pixels);
  const std::size_t blocks = (pixels + kPixels - 1) / kPixels;
  const std::size_t work = std::min(pixels, kPixels) * static_cast<std::size_t>(images.channels);
  parallel_for(static_cast<std::size_t>(images.batch) * blocks, work, images.threads, [&](std::size_t i) {
    const std::size_t first = i % blocks * kPixels;
    f(i / blocks, first, std::min(kPixels, pixels - first));
  });
}

void round_to(const float* from, std::size_t n, float scale, float zero, std::uint8_t* to) { vector::store_u8(from, n, scale, zero, to); }
void round_to(const float* from, std::size_t n, float scale, float zero, std::int8_t* to) { vector::store_s8(from, n, scale, zero, to); }

template <class T>
void quantize_all(const Images& images, const float* from, float scale, float zero, T* to) {
  const auto channels = static_cast<std::size_t>(images.channels);
  const auto pixels = static_cast<std::size_t>(images.pixels);
  each_block(images, [&](std::size_t image, std::size_t first, std::size_t count) {
    alignas(64) T planes[4 * kPixels];
    for (std::size_t c = 0; c < channels; ++c) {
      round_to(from + (image * channels + c) * pixels + first, count, scale, zero, planes + c * kPixels);
    }
    interleave(reinterpret_cast<const std::uint8_t*>(planes), kPixels, channels, count,
               reinterpret_cast<std::uint8_t*>(to) + (image * pixels + first) * channels);
  });
}

}  // namespace

KERF_VECTORIZED void interleave(const std::uint8_t* from, std::size_t stride, std::size_t channels, std::size_t pixels, std::uint8_t* to) {
  pixels_of(from, stride, channels, pixels, to);
}
KERF_VECTORIZED void interleave(const std::uint16_t* from, std::size_t stride, std::size_t channels, std::size_t pixels, std::uint16_t* to) {
  pixels_of(from, stride, channels, pixels, to);
}
KERF_VECTORIZED void interleave(const std::uint32_t* from, std::size_t stride, std::size_t channels, std::size_t pixels, std::uint32_t* to) {
  pixels_of(from, stride, channels, pixels, to);
}

template <class T>
void interleave_images(const Images& images, const T* from, T* to) {
  const auto channels = static_cast<std::size_t>(images.channels);
  const auto pixels = static_cast<std::size_t>(images.pixels);
  each_block(images, [&](std::size_t image, std::size_t first, std::size_t count) {
    interleave(from + image * channels * pixels + first, pixels, channels, count, to + (image * pixels + first) * channels);
  });
}
template void interleave_images(const Images&, const std::uint8_t*, std::uint8_t*);
template void interleave_images(const Images&, const std::uint16_t*, std::uint16_t*);
template void interleave_images(const Images&, const std::uint32_t*, std::uint32_t*);

void quantize_images(const Images& images, const float* from, float scale, float zero, std::uint8_t* to) {
  quantize_all(images, from, scale, zero, to);
}
void quantize_images(const Images& images, const float* from, float scale, float zero, std::int8_t* to) {
  quantize_all(images, from, scale, zero, to);
}

}  // namespace kerf::engine
