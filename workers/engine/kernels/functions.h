#pragma once

#include <cstddef>

/// Functions of one float over a block, in place; alpha and beta are the function's parameters. They
/// are what ONNX says of the op of that name, within a few units in the last place.
namespace kerf::engine::vector {

using BlockFunction = void (*)(float* acc, std::size_t n, float alpha, float beta);

void error_function(float* acc, std::size_t n, float, float);
void logarithm(float* acc, std::size_t n, float, float);
void softplus(float* acc, std::size_t n, float, float);
void softsign(float* acc, std::size_t n, float, float);
void mish(float* acc, std::size_t n, float, float);
void floor(float* acc, std::size_t n, float, float);
void ceiling(float* acc, std::size_t n, float, float);
void round(float* acc, std::size_t n, float, float);  ///< Ties to even.
void sign(float* acc, std::size_t n, float, float);
void reciprocal(float* acc, std::size_t n, float, float);
void divide_by(float* acc, std::size_t n, float divisor, float);
void square(float* acc, std::size_t n, float, float);
void cube(float* acc, std::size_t n, float, float);
void selu(float* acc, std::size_t n, float alpha, float gamma);
void celu(float* acc, std::size_t n, float alpha, float);
void threshold(float* acc, std::size_t n, float alpha, float);  ///< ThresholdedRelu.
void shrink(float* acc, std::size_t n, float bias, float lambda);
void gelu_tanh(float* acc, std::size_t n, float, float);
void quick_gelu(float* acc, std::size_t n, float alpha, float);
void sine(float* acc, std::size_t n, float, float);
void cosine(float* acc, std::size_t n, float, float);

}  // namespace kerf::engine::vector
