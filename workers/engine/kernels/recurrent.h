#pragma once

#include <cstddef>
#include <cstdint>

namespace kerf::engine {

/// y[r, j] = bias[j] + sum over k of x[r, k] * w[k, j], for few rows or short sums, where a call into
/// the library costs more than the product. Strides between rows in elements.
struct RowProduct {
  std::int64_t rows = 1, depth = 1, columns = 1;
  std::int64_t x_stride = 1, y_stride = 1;
};
void multiply_rows(const RowProduct& what, const float* x, const float* w, const float* bias, float* y);

/// The gates of one step of one sample, as ONNX defines them with Sigmoid and Tanh. `x` holds what
/// the input gives (with all biases but GRU's recurrent one of the new state), `s` what the state
/// gives; h and c are updated.
void rnn_cell(std::int64_t hidden, const float* x, const float* s, float* h);
/// Gates in the order i, o, f, c; peepholes [3, hidden] in the order i, o, f, or null.
void lstm_cell(std::int64_t hidden, const float* x, const float* s, const float* peepholes, float* h, float* c);
/// First half of GRU's step: update and reset gates, z and r.
void gru_gates(std::int64_t hidden, const float* x, const float* s, float* z, float* r);
/// to = r * h.
void gru_reset(std::int64_t hidden, const float* r, const float* h, float* to);
/// Second half. `n`: what the (reset) state gives to the new one, with the recurrent bias; r is null
/// where the reset came before the product.
void gru_cell(std::int64_t hidden, const float* x_new, const float* n, const float* r, const float* z, float* h);

}  // namespace kerf::engine
