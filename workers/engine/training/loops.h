#pragma once

#include <cstddef>
#include <cstdint>

/// Loops over floats for both directions, compiled for several instruction sets and chosen at load
/// time. Where `accumulate`, results are added to what is there. Input and output may be the same.
namespace kerf::engine::training::loops {

enum class Unary : std::uint8_t {
  kRelu,         ///< a = slope of the negative side.
  kClip,         ///< a, b = bounds.
  kHardSigmoid,  ///< clamp(a·x + b, 0, 1).
  kHardSwish,
  kSigmoid,
  kSwish,
  kTanh,
  kGelu,      ///< With the error function.
  kGeluTanh,  ///< With tanh.
  kErf,
  kElu,       ///< a = alpha.
  kSoftplus,
  kAbsolute,
  kNegate,
  kExponential,
  kSquareRoot,
};

void unary_forward(Unary op, float a, float b, const float* x, std::size_t n, float* y);
void unary_backward(Unary op, float a, float b, const float* x, const float* y, const float* dy,
                    std::size_t n, float* dx, bool accumulate);

/// y = (clamp(round(x / scale) + zero, low, high) − zero) · scale, ties to even.
void round_forward(const float* x, std::size_t n, float scale, float zero, float low, float high,
                   float* y);
/// dx = dy where the rounded x lies inside the range, else 0.
void round_backward(const float* x, const float* dy, std::size_t n, float scale, float zero,
                    float low, float high, float* dx, bool accumulate);
/// y = scale · sign(x); dx = dy where |x| is not above 2 · scale, else 0.
void sign_forward(const float* x, std::size_t n, float scale, float* y);
void sign_backward(const float* x, const float* dy, std::size_t n, float scale, float* dx,
                   bool accumulate);
void round_bf16(const float* x, std::size_t n, float* y);

void copy(const float* from, std::size_t n, float* to, bool accumulate);
void scale(const float* from, float factor, std::size_t n, float* to, bool accumulate);
void add(const float* a, const float* b, std::size_t n, float* y);
void subtract(const float* a, const float* b, std::size_t n, float* y);
void multiply(const float* a, const float* b, std::size_t n, float* y, bool accumulate);
void multiply_add(const float* a, const float* b, const float* c, std::size_t n, float* y);  ///< a·b + c

[[nodiscard]] float sum(const float* x, std::size_t n);
[[nodiscard]] float dot(const float* a, const float* b, std::size_t n);

}  // namespace kerf::engine::training::loops
