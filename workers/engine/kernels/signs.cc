#include "workers/engine/kernels/signs.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "workers/engine/kernels/parallel.h"
#include "workers/engine/kernels/vector.h"

namespace kerf::engine {
namespace {

static_assert(std::endian::native == std::endian::little, "a plane's bytes are read as words");

constexpr int kTile = 4;  // windows

constexpr std::int64_t rounded_up(std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; }

void apply(const PointStage& stage, const float* residual, std::size_t n, float* y) {
  switch (stage.op) {
    case PointOp::kRelu:
      // Not 0 · x, which is -0 for a negative one.
      if (stage.alpha == 0.0F) vector::clip(y, n, 0.0F, std::numeric_limits<float>::infinity());
      else vector::relu(y, n, stage.alpha);
      break;
    case PointOp::kClip: vector::clip(y, n, stage.alpha, stage.beta); break;
    case PointOp::kAbsolute: vector::absolute(y, n); break;
    default: vector::add(y, residual, n); break;
  }
}

}  // namespace

SignProduct::SignProduct(const SignGeometry& geometry, const SignKernels& kernels, int threads)
    : g_(geometry), kernels_(&kernels), threads_(std::max(threads, 1)), pixel_bytes_((geometry.channels + 7) / 8) {
  for (std::size_t d = 0; d < 2; ++d) {
    padded_[d] = std::max(g_.before[d] + g_.in[d], (g_.out[d] - 1) * g_.strides[d] + (g_.kernel[d] - 1) * g_.dilations[d] + 1);
  }
  // Pixels that lie side by side are one run of bytes.
  const bool together = g_.dilations[1] == 1;
  const std::int64_t runs = together ? 1 : g_.kernel[1];
  const std::int64_t bytes = (together ? g_.kernel[1] : 1) * pixel_bytes_;
  for (std::int64_t ky = 0; ky < g_.kernel[0]; ++ky) {
    for (std::int64_t run = 0; run < runs; ++run) {
      const std::int64_t start = (ky * g_.dilations[0] * padded_[1] + run * g_.dilations[1]) * pixel_bytes_;
      for (std::int64_t at = 0; at < bytes; at += 64) {
        offsets_.push_back(start + at);
        sizes_.push_back((std::min<std::int64_t>(bytes - at, 64) + 7) / 8);
        words_ += sizes_.back();
        for (std::int64_t byte = at; byte < at + 64; byte += 8) {
          const std::int64_t left = std::clamp<std::int64_t>(bytes - byte, 0, 8);
          masks_.push_back(left == 0 ? 0 : ~0ULL >> static_cast<unsigned>(64 - 8 * left));
        }
      }
    }
  }
  blocks_ = rounded_up((g_.outputs + 7) / 8, 2);
}

void SignProduct::pack_weights(const std::int8_t* weights, const std::array<std::int64_t, 4>& strides, std::uint64_t* to) const {
  std::fill_n(to, weight_words(), 0);
  const bool together = g_.dilations[1] == 1;
  const std::int64_t runs = together ? 1 : g_.kernel[1];
  const std::int64_t words_a_run = words_ / (g_.kernel[0] * runs);
  for (std::int64_t o = 0; o < g_.outputs; ++o) {
    for (std::int64_t ky = 0; ky < g_.kernel[0]; ++ky) {
      for (std::int64_t kx = 0; kx < g_.kernel[1]; ++kx) {
        const std::int64_t run = ky * runs + (together ? 0 : kx);
        const std::int64_t first = (together ? kx : 0) * pixel_bytes_ * 8;  // bit of the run
        for (std::int64_t c = 0; c < g_.channels; ++c) {
          if (weights[o * strides[0] + c * strides[1] + ky * strides[2] + kx * strides[3]] >= 0) continue;
          const std::int64_t word = run * words_a_run + (first + c) / 64;
          to[(o / 8 * words_ + word) * 8 + o % 8] |= 1ULL << static_cast<unsigned>((first + c) % 64);
        }
      }
    }
  }
}

/// A window's last words are read 64 bytes at a time.
std::int64_t SignProduct::plane_bytes() const { return rounded_up(g_.batch * padded_[0] * padded_[1] * pixel_bytes_ + 64, 64); }

/// Two arrays of a tile's words, each with room behind it, its totals, its values and a row of a residual.
std::int64_t SignProduct::room_bytes() const { return rounded_up(2 * (kTile * words_ + 8) * 8 + 64 + (kTile + 1) * blocks_ * 8 * 4, 64); }

std::int64_t SignProduct::scratch_bytes() const { return 2 * plane_bytes() + threads_ * room_bytes(); }

template <class T>
void SignProduct::pack(const T* x, const Planes& planes) const {
  const std::int64_t row_bytes = padded_[1] * pixel_bytes_;
  const std::int64_t left = g_.before[1] * pixel_bytes_;
  const std::int64_t inside = g_.in[1] * pixel_bytes_;
  const auto pack_run = [&](const T* from, std::int64_t n, std::int64_t at) {
    if constexpr (sizeof(T) == 1) kernels_->pack_s8(from, n, planes.present + at, planes.negative + at);
    else kernels_->pack_f32(from, n, planes.present + at, planes.negative + at);
  };
  parallel_for(static_cast<std::size_t>(g_.batch * padded_[0]), static_cast<std::size_t>(g_.in[1] * g_.channels / 8 + 1), threads_, [&](std::size_t r) {
    const auto row = static_cast<std::int64_t>(r);
    const std::int64_t at = row * row_bytes;
    const std::int64_t i = row % padded_[0] - g_.before[0];
    const bool border = i < 0 || i >= g_.in[0];
    const auto clear = [&](std::int64_t from, std::int64_t bytes) {
      if (bytes == 0) return;
      std::memset(planes.present + at + from, 0, static_cast<std::size_t>(bytes));
      std::memset(planes.negative + at + from, 0, static_cast<std::size_t>(bytes));
    };
    if (border) return clear(0, row_bytes);
    clear(0, left);
    clear(left + inside, row_bytes - left - inside);
    const T* from = x + (row / padded_[0] * g_.in[0] + i) * g_.in[1] * g_.channels;
    if (g_.channels % 8 == 0) return pack_run(from, g_.in[1] * g_.channels, at + left);
    for (std::int64_t j = 0; j < g_.in[1]; ++j) pack_run(from + j * g_.channels, g_.channels, at + left + j * pixel_bytes_);
  });
}

void SignProduct::tile(const Planes& planes, Walk& walk, std::int64_t first, int pixels, std::int64_t block, std::int64_t blocks,
                       const std::uint64_t* weights, const SignFinish& finish, void* y, const Room& room) const {
  SignTile windows = room.windows;
  windows.pixels = pixels;
  std::int64_t at[kTile];
  for (int p = 0; p < pixels; ++p) {
    at[p] = ((walk.image * padded_[0] + walk.row * g_.strides[0]) * padded_[1] + walk.column * g_.strides[1]) * pixel_bytes_;
    if (++walk.column < g_.out[1]) continue;
    walk.column = 0;
    if (++walk.row < g_.out[0]) continue;
    walk.row = 0;
    ++walk.image;
  }
  kernels_->gather({offsets_.data(), sizes_.data(), masks_.data(), static_cast<std::int64_t>(sizes_.size())}, planes.present, planes.negative, at, windows);
  const std::int64_t output = block * 8;
  const std::int64_t count = std::min(blocks * 8, g_.outputs - output);
  SignScaling scaling{finish.scales + output, finish.bias, finish.alive, count};
  if (scaling.bias != nullptr) scaling.bias += output;
  if (scaling.alive != nullptr) scaling.alive += output;
  const std::int64_t start = first * g_.outputs + output;
  if (finish.bf16) {
    kernels_->multiply(windows, weights + output * words_, blocks, scaling, room.values, count);
    for (int p = 0; p < pixels; ++p) {
      const std::int64_t at_y = start + p * g_.outputs;
      float* values = room.values + p * count;
      const auto n = static_cast<std::size_t>(count);
      if (finish.residual != nullptr) vector::load_bf16(static_cast<const std::uint16_t*>(finish.residual) + at_y, n, room.residual);
      for (const PointStage& stage : finish.stages) apply(stage, room.residual, n, values);
      vector::store_bf16(values, n, static_cast<std::uint16_t*>(y) + at_y);
    }
    return;
  }
  auto* to = static_cast<float*>(y) + start;
  kernels_->multiply(windows, weights + output * words_, blocks, scaling, to, g_.outputs);
  const auto* residual = static_cast<const float*>(finish.residual);
  if (residual != nullptr) residual += start;
  // All outputs of a tile lie in one row.
  const bool whole = count == g_.outputs;
  const auto n = static_cast<std::size_t>(whole ? pixels * count : count);
  for (std::int64_t p = 0; p < (whole ? 1 : pixels); ++p) {
    for (const PointStage& stage : finish.stages) apply(stage, residual == nullptr ? nullptr : residual + p * g_.outputs, n, to + p * g_.outputs);
  }
}

void SignProduct::multiply(const Planes& planes, const std::uint64_t* weights, const SignFinish& finish, void* y, std::byte* rooms) const {
  const std::int64_t pixels = g_.batch * g_.out[0] * g_.out[1];
  const std::int64_t tiles = (pixels + kTile - 1) / kTile;
  // Where there are few windows the threads share the outputs.
  const bool by_outputs = tiles < threads_;
  const std::int64_t pieces = by_outputs ? blocks_ / 2 : tiles;
  const std::int64_t parts = std::min<std::int64_t>(threads_, pieces);
  parallel_for(static_cast<std::size_t>(parts), static_cast<std::size_t>(pixels * blocks_ * words_ / parts), threads_, [&](std::size_t part) {
    SignTile windows{};
    windows.words = words_;
    windows.present = reinterpret_cast<std::uint64_t*>(rooms + static_cast<std::int64_t>(part) * room_bytes());
    windows.negative = windows.present + kTile * words_ + 8;
    windows.totals = reinterpret_cast<std::int32_t*>(windows.negative + kTile * words_ + 8);
    Room room{windows, reinterpret_cast<float*>(windows.totals + 16), nullptr};
    room.residual = room.values + kTile * blocks_ * 8;
    const std::int64_t begin = pieces * static_cast<std::int64_t>(part) / parts;
    const std::int64_t end = pieces * static_cast<std::int64_t>(part + 1) / parts;
    const std::int64_t block = by_outputs ? begin * 2 : 0;
    const std::int64_t blocks = by_outputs ? (end - begin) * 2 : blocks_;
    std::int64_t pixel = by_outputs ? 0 : begin * kTile;
    const std::int64_t last = by_outputs ? pixels : std::min(end * kTile, pixels);
    Walk walk{pixel / (g_.out[0] * g_.out[1]), pixel / g_.out[1] % g_.out[0], pixel % g_.out[1]};
    while (pixel < last) {
      const int count = last - pixel >= kTile ? kTile : last - pixel >= 2 ? 2 : 1;
      tile(planes, walk, pixel, count, block, blocks, weights, finish, y, room);
      pixel += count;
    }
  });
}

template <class T>
void SignProduct::run_any(const T* x, const std::uint64_t* weights, const SignFinish& finish, void* y, std::byte* scratch) const {
  auto* bytes = reinterpret_cast<std::uint8_t*>(scratch);
  const Planes planes{bytes, bytes + plane_bytes()};
  pack(x, planes);
  multiply(planes, weights, finish, y, scratch + 2 * plane_bytes());
}

void SignProduct::run(const std::int8_t* x, const std::uint64_t* weights, const SignFinish& finish, void* y, std::byte* scratch) const {
  run_any(x, weights, finish, y, scratch);
}

void SignProduct::run(const float* x, const std::uint64_t* weights, const SignFinish& finish, void* y, std::byte* scratch) const {
  run_any(x, weights, finish, y, scratch);
}

}  // namespace kerf::engine
