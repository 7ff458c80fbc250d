#pragma once

#include <cstddef>
#include <cstdint>

namespace kerf::engine {

/// A window that moves over images in channels-last order. Extents and paddings in elements of
/// their axis; a window that lies outside the image altogether gives the type's lowest value.
struct ImagePool {
  std::int64_t batch = 1, channels = 1;
  std::int64_t in_h = 1, in_w = 1, out_h = 1, out_w = 1;
  std::int64_t kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1;
  std::int64_t dilation_h = 1, dilation_w = 1, pad_h = 0, pad_w = 0;

  /// What max_pool wants as scratch for each thread.
  [[nodiscard]] std::int64_t scratch_elements() const { return (in_w * channels + 63) / 64 * 64; }
};

/// MaxPool of bytes: the maximum over the window's rows first, whole rows at a time, then over its
/// columns, as many channels at a time as divide them.
///
/// Shapes:   from [batch, in_h, in_w, channels] -> to [batch, out_h, out_w, channels].
/// Threads:  `threads` of them; scratch holds threads * scratch_elements().
void max_pool(const ImagePool& pool, const std::uint8_t* from, std::uint8_t* to, std::uint8_t* scratch, int threads);
void max_pool(const ImagePool& pool, const std::int8_t* from, std::int8_t* to, std::int8_t* scratch, int threads);

}  // namespace kerf::engine
