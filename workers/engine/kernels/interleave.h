#pragma once

#include <cstddef>
#include <cstdint>

namespace kerf::engine {

/// Planes of 2 to 4 channels become pixels: to[p * channels + c] = from[c * stride + p].
///
/// Shapes:   from [channels, stride], of which `pixels` a channel are read -> to [pixels, channels].
void interleave(const std::uint8_t* from, std::size_t stride, std::size_t channels, std::size_t pixels, std::uint8_t* to);
void interleave(const std::uint16_t* from, std::size_t stride, std::size_t channels, std::size_t pixels, std::uint16_t* to);
void interleave(const std::uint32_t* from, std::size_t stride, std::size_t channels, std::size_t pixels, std::uint32_t* to);

/// A whole batch of images of 2 to 4 channels from row-major to channels-last order.
///
/// Shapes:   from [batch, channels, pixels] -> to [batch, pixels, channels].
struct Images {
  std::int64_t batch = 1, channels = 3, pixels = 1;
  int threads = 1;
};
template <class T>
void interleave_images(const Images& images, const T* from, T* to);

/// The same for floats that are rounded to 8 bits on the way, as QuantizeLinear does.
void quantize_images(const Images& images, const float* from, float scale, float zero, std::uint8_t* to);
void quantize_images(const Images& images, const float* from, float scale, float zero, std::int8_t* to);

}  // namespace kerf::engine
