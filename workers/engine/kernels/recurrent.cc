#include "workers/engine/kernels/recurrent.h"

#include <algorithm>

#include "workers/engine/kernels/fast_math.h"

namespace kerf::engine {
namespace {

constexpr std::int64_t kColumns = 32;

/// Rows rows by up to kColumns columns, which stay in registers over the whole sum.
template <int Rows>
KERF_INLINE void tile(const RowProduct& p, const float* x, const float* w, const float* bias, float* y, std::int64_t columns) {
  float acc[Rows][kColumns];
  if (columns == kColumns) {
    for (int r = 0; r < Rows; ++r) {
      for (std::int64_t j = 0; j < kColumns; ++j) acc[r][j] = bias != nullptr ? bias[j] : 0.0F;
    }
    for (std::int64_t k = 0; k < p.depth; ++k) {
      const float* row = w + k * p.columns;
      for (int r = 0; r < Rows; ++r) {
        const float v = x[r * p.x_stride + k];
        for (std::int64_t j = 0; j < kColumns; ++j) acc[r][j] += v * row[j];
      }
    }
  } else {
    for (int r = 0; r < Rows; ++r) {
      for (std::int64_t j = 0; j < columns; ++j) acc[r][j] = bias != nullptr ? bias[j] : 0.0F;
    }
    for (std::int64_t k = 0; k < p.depth; ++k) {
      const float* row = w + k * p.columns;
      for (int r = 0; r < Rows; ++r) {
        const float v = x[r * p.x_stride + k];
        for (std::int64_t j = 0; j < columns; ++j) acc[r][j] += v * row[j];
      }
    }
  }
  for (int r = 0; r < Rows; ++r) {
    for (std::int64_t j = 0; j < columns; ++j) y[r * p.y_stride + j] = acc[r][j];
  }
}

KERF_INLINE float sigmoid(float x) { return 1.0F / (1.0F + vector::fast_exp(-x)); }

}  // namespace

KERF_VECTORIZED void multiply_rows(const RowProduct& p, const float* x, const float* w, const float* bias, float* y) {
  for (std::int64_t j = 0; j < p.columns; j += kColumns) {
    const std::int64_t columns = std::min(kColumns, p.columns - j);
    const float* b = bias != nullptr ? bias + j : nullptr;
    std::int64_t r = 0;
    for (; r + 4 <= p.rows; r += 4) tile<4>(p, x + r * p.x_stride, w + j, b, y + r * p.y_stride + j, columns);
    for (; r < p.rows; ++r) tile<1>(p, x + r * p.x_stride, w + j, b, y + r * p.y_stride + j, columns);
  }
}

KERF_VECTORIZED void rnn_cell(std::int64_t hidden, const float* x, const float* s, float* h) {
  for (std::int64_t k = 0; k < hidden; ++k) h[k] = vector::fast_tanh(x[k] + s[k]);
}

KERF_VECTORIZED void lstm_cell(std::int64_t n, const float* x, const float* s, const float* p, float* __restrict h, float* __restrict c) {
  if (p == nullptr) {
    for (std::int64_t k = 0; k < n; ++k) {
      const float in = sigmoid(x[k] + s[k]);
      const float out = sigmoid(x[n + k] + s[n + k]);
      const float forget = sigmoid(x[2 * n + k] + s[2 * n + k]);
      const float fresh = vector::fast_tanh(x[3 * n + k] + s[3 * n + k]);
      const float cell = forget * c[k] + in * fresh;
      c[k] = cell;
      h[k] = out * vector::fast_tanh(cell);
    }
    return;
  }
  for (std::int64_t k = 0; k < n; ++k) {
    const float in = sigmoid(x[k] + s[k] + p[k] * c[k]);
    const float forget = sigmoid(x[2 * n + k] + s[2 * n + k] + p[2 * n + k] * c[k]);
    const float fresh = vector::fast_tanh(x[3 * n + k] + s[3 * n + k]);
    const float cell = forget * c[k] + in * fresh;
    c[k] = cell;
    const float out = sigmoid(x[n + k] + s[n + k] + p[n + k] * cell);
    h[k] = out * vector::fast_tanh(cell);
  }
}

KERF_VECTORIZED void gru_gates(std::int64_t hidden, const float* x, const float* s, float* __restrict z, float* __restrict r) {
  for (std::int64_t k = 0; k < hidden; ++k) {
    z[k] = sigmoid(x[k] + s[k]);
    r[k] = sigmoid(x[hidden + k] + s[hidden + k]);
  }
}

KERF_VECTORIZED void gru_reset(std::int64_t hidden, const float* r, const float* h, float* __restrict to) {
  for (std::int64_t k = 0; k < hidden; ++k) to[k] = r[k] * h[k];
}

KERF_VECTORIZED void gru_cell(std::int64_t hidden, const float* x_new, const float* n, const float* r, const float* z, float* __restrict h) {
  for (std::int64_t k = 0; k < hidden; ++k) {
    const float state = r != nullptr ? r[k] * n[k] : n[k];
    const float fresh = vector::fast_tanh(x_new[k] + state);
    h[k] = (1.0F - z[k]) * fresh + z[k] * h[k];
  }
}

}  // namespace kerf::engine
