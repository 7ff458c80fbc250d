#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "workers/engine/kernels/pointwise.h"
#include "workers/engine/kernels/signs_isa.h"

namespace kerf::engine {

/// A convolution, or (all extents 1) a matrix product, of signs with signs. No groups.
struct SignGeometry {
  std::int64_t batch = 1;  ///< Images; rows of a matrix.
  std::int64_t channels = 0, outputs = 0;
  // Height, width:
  std::array<std::int64_t, 2> in{1, 1}, out{1, 1}, kernel{1, 1}, strides{1, 1}, dilations{1, 1};
  std::array<std::int64_t, 2> before{};  ///< Pads; those behind follow from `out`.
  friend auto operator<=>(const SignGeometry&, const SignGeometry&) = default;
};

/// What becomes of the sums of a layer of signs, in this order. The arrays have SignProduct::padded_outputs().
struct SignFinish {
  const std::int32_t* alive = nullptr;  ///< 0 where all of an output's weights are 0, else -1; null: none are.
  const float* scales = nullptr;
  const float* bias = nullptr;          ///< May be null.
  std::vector<PointStage> stages;       ///< kRelu, kClip, kAbsolute, and kAdd of `residual`.
  const void* residual = nullptr;       ///< Lies like y, in the same type.
  bool bf16 = false;                    ///< Of y and residual: bf16, not f32.
};

/// Products of signs by counting bits.
///
/// Shapes:   x [batch, in…, channels], y [batch, out…, outputs]: channels last.
/// Maths:    inputs are -1, 0 or 1, weights -1 or 1. Of inputs two bits are kept ("is there", "is negative"),
///           of weights one: sum x·w = |there| - 2·|there and the signs differ|. A pad is 0, as it is
///           for bytes. Sums are exact; y = sum · scale + bias, each rounded by itself, as oneDNN has it,
///           then the stages, in f32.
/// Memory:   a pixel's channels are padded to whole bytes, a window's row to whole words of 64 bits.
/// Threads:  run() is reentrant for scratchpads of their own.
/// Source:   Rastegari et al. 2016, "XNOR-Net", arXiv:1603.05279, section 3.2; zeros as a second plane
///           of bits are ours.
class SignProduct {
 public:
  /// `threads`: the team that run() may use.
  SignProduct(const SignGeometry& geometry, const SignKernels& kernels, int threads);

  [[nodiscard]] std::int64_t padded_outputs() const { return blocks_ * 8; }
  [[nodiscard]] std::int64_t weight_words() const { return blocks_ * 8 * words_; }
  /// weights[o * strides[0] + c * strides[1] + ky * strides[2] + kx * strides[3]]; to[weight_words()].
  void pack_weights(const std::int8_t* weights, const std::array<std::int64_t, 4>& strides, std::uint64_t* to) const;

  [[nodiscard]] std::int64_t scratch_bytes() const;
  /// x as s8 (-1, 0, 1), or as floats of which the signs are taken (0 and NaN are 0).
  void run(const std::int8_t* x, const std::uint64_t* weights, const SignFinish& finish, void* y, std::byte* scratch) const;
  void run(const float* x, const std::uint64_t* weights, const SignFinish& finish, void* y, std::byte* scratch) const;

 private:
  struct Planes {
    std::uint8_t* present;
    std::uint8_t* negative;
  };
  struct Room {  // of one thread
    SignTile windows;
    float* values;    // of a tile, where y isn't floats
    float* residual;  // likewise
  };
  struct Walk {
    std::int64_t image, row, column;  // of an output pixel
  };
  template <class T>
  void pack(const T* x, const Planes& planes) const;
  void multiply(const Planes& planes, const std::uint64_t* weights, const SignFinish& finish, void* y, std::byte* rooms) const;
  void tile(const Planes& planes, Walk& walk, std::int64_t first, int pixels, std::int64_t block, std::int64_t blocks, const std::uint64_t* weights,
            const SignFinish& finish, void* y, const Room& room) const;
  template <class T>
  void run_any(const T* x, const std::uint64_t* weights, const SignFinish& finish, void* y, std::byte* scratch) const;
  [[nodiscard]] std::int64_t room_bytes() const;
  [[nodiscard]] std::int64_t plane_bytes() const;

  SignGeometry g_;
  const SignKernels* kernels_;
  int threads_;
  std::int64_t pixel_bytes_;                 // of one plane
  std::array<std::int64_t, 2> padded_;       // extents of a plane
  std::int64_t words_ = 0;                   // of a window
  std::int64_t blocks_ = 0;                  // of eight outputs, an even number
  std::vector<std::int64_t> offsets_, sizes_;  // see SignWords
  std::vector<std::uint64_t> masks_;
};

}  // namespace kerf::engine
