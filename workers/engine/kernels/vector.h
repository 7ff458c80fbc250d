#pragma once

#include <cstddef>
#include <cstdint>

/// Loops over a block of floats, compiled for several instruction sets and chosen at load time.
/// Blocks are short (kBlock), so that a chain of them stays in the first-level cache.
namespace kerf::engine::vector {

inline constexpr std::size_t kBlock = 1024;

void load_f32(const float* from, std::size_t n, float* to);
void load_bf16(const std::uint16_t* from, std::size_t n, float* to);
void load_u8(const std::uint8_t* from, std::size_t n, float scale, float zero, float* to);
void load_s8(const std::int8_t* from, std::size_t n, float scale, float zero, float* to);

/// ONNX's QuantizeLinear: x / scale, ties to even, plus zero, saturated.
void store_u8(const float* from, std::size_t n, float scale, float zero, std::uint8_t* to);
void store_s8(const float* from, std::size_t n, float scale, float zero, std::int8_t* to);
void store_bf16(const float* from, std::size_t n, std::uint16_t* to);

void add(float* acc, const float* b, std::size_t n);
void subtract(float* acc, const float* b, std::size_t n);
void subtract_from(float* acc, const float* b, std::size_t n);  ///< b - acc
void multiply(float* acc, const float* b, std::size_t n);
void divide(float* acc, const float* b, std::size_t n);
void divide_into(float* acc, const float* b, std::size_t n);  ///< b / acc
void maximum(float* acc, const float* b, std::size_t n);
void minimum(float* acc, const float* b, std::size_t n);
void prelu(float* acc, const float* slope, std::size_t n);

void relu(float* acc, std::size_t n, float slope);
void clip(float* acc, std::size_t n, float low, float high);
void linear(float* acc, std::size_t n, float factor, float shift);
void absolute(float* acc, std::size_t n);
void sign(float* acc, std::size_t n);  ///< −1, 0 or +1; 0 where it is no number.
void square_root(float* acc, std::size_t n);
void hard_sigmoid(float* acc, std::size_t n, float alpha, float beta);
void hard_swish(float* acc, std::size_t n);
void exponential(float* acc, std::size_t n);
void sigmoid(float* acc, std::size_t n);
void swish(float* acc, std::size_t n);
void hyperbolic_tangent(float* acc, std::size_t n);
void elu(float* acc, std::size_t n, float alpha);
void gelu(float* acc, std::size_t n);  ///< With the error function.

/// acc[c] += sum over rows of from[row * channels + c], for `count` channels from `from`.
void add_rows_f32(const float* from, std::size_t rows, std::size_t channels, std::size_t count, float* acc);
void add_rows_bf16(const std::uint16_t* from, std::size_t rows, std::size_t channels, std::size_t count, float* acc);
void add_rows_u8(const std::uint8_t* from, std::size_t rows, std::size_t channels, std::size_t count, std::int32_t* acc);
void add_rows_s8(const std::int8_t* from, std::size_t rows, std::size_t channels, std::size_t count, std::int32_t* acc);

}  // namespace kerf::engine::vector
