#include "workers/engine/kernels/normalization.h"

#include <algorithm>
#include <cmath>

#include "workers/engine/kernels/fast_math.h"
#include "workers/engine/kernels/lanes.h"
#include "workers/engine/kernels/parallel.h"

namespace kerf::engine {
namespace {

struct Moments {
  float mean, inverse;
};

KERF_VECTORIZED Moments moments(const float* x, std::size_t n, float epsilon, bool centred) {
  Moments out{};
  const auto count = static_cast<float>(n);
  if (centred) out.mean = vector::sum_of(x, n) / count;
  const float variance = vector::sum_of_squares(x, n, out.mean) / count;
  out.inverse = 1.0F / std::sqrt(variance + epsilon);
  return out;
}

// y may be x itself: each element is read before it is written, which ivdep says.
KERF_VECTORIZED void spread(const float* x, std::size_t n, Moments m, const float* scale, const float* bias, float* y) {
  if (bias == nullptr) {
#pragma GCC ivdep
    for (std::size_t i = 0; i < n; ++i) y[i] = (x[i] - m.mean) * m.inverse * scale[i];
  } else {
#pragma GCC ivdep
    for (std::size_t i = 0; i < n; ++i) y[i] = (x[i] - m.mean) * m.inverse * scale[i] + bias[i];
  }
}

KERF_VECTORIZED void spread_one(const float* x, std::size_t n, Moments m, float scale, float bias, float* y) {
  const float factor = m.inverse * scale;
#pragma GCC ivdep
  for (std::size_t i = 0; i < n; ++i) y[i] = (x[i] - m.mean) * factor + bias;
}

/// acc[c] += sum over the rows of x[r, c].
KERF_VECTORIZED void add_columns(const float* x, std::size_t rows, std::size_t channels, float* acc) {
  for (std::size_t r = 0; r < rows; ++r, x += channels) {
    for (std::size_t c = 0; c < channels; ++c) acc[c] += x[c];
  }
}
KERF_VECTORIZED void add_squares(const float* x, std::size_t rows, std::size_t channels, const float* mean, float* acc) {
  for (std::size_t r = 0; r < rows; ++r, x += channels) {
    for (std::size_t c = 0; c < channels; ++c) {
      const float d = x[c] - mean[c];
      acc[c] += d * d;
    }
  }
}
/// y = (x - mean) * factor + bias, each a channel's.
KERF_VECTORIZED void spread_columns(const float* x, std::size_t rows, std::size_t channels, const float* mean, const float* factor,
                                    const float* bias, float* y) {
  for (std::size_t r = 0; r < rows; ++r, x += channels, y += channels) {
#pragma GCC ivdep
    for (std::size_t c = 0; c < channels; ++c) y[c] = (x[c] - mean[c]) * factor[c] + bias[c];
  }
}

KERF_VECTORIZED void respond(const LocalResponse& what, const float* x, float* y, float* scratch) {
  const auto channels = static_cast<std::size_t>(what.channels);
  const auto size = static_cast<std::size_t>(what.size);
  const std::size_t before = (size - 1) / 2;
  // Squares with zeros on both sides, and their sums.
  float* __restrict squares = scratch;
  float* __restrict sums = scratch + channels + size;
  for (std::size_t c = 0; c < channels + size; ++c) squares[c] = 0.0F;
  for (std::size_t c = 0; c < channels; ++c) squares[c + before] = x[c] * x[c];
  for (std::size_t c = 0; c < channels; ++c) sums[c] = 0.0F;
  for (std::size_t i = 0; i < size; ++i) {
    for (std::size_t c = 0; c < channels; ++c) sums[c] += squares[c + i];
  }
  const float alpha = what.alpha / static_cast<float>(what.size);
  const float bias = what.bias;
  if (what.beta == 0.75F) {
    for (std::size_t c = 0; c < channels; ++c) {
      const float root = std::sqrt(bias + alpha * sums[c]);
      y[c] = x[c] / (root * std::sqrt(root));
    }
  } else {
    const float beta = what.beta;
    for (std::size_t c = 0; c < channels; ++c) y[c] = x[c] * vector::fast_exp(-beta * vector::fast_log(bias + alpha * sums[c]));
  }
}

/// One task a thread, so that each has its part of the scratch: f(task, first, last).
template <class F>
void shares(std::int64_t count, std::int64_t work_each, int threads, F&& f) {
  const auto tasks = static_cast<std::size_t>(std::max(threads, 1));
  const auto n = static_cast<std::int64_t>(tasks);
  parallel_for(tasks, static_cast<std::size_t>(count * work_each / n), threads, [&](std::size_t task) {
    const auto t = static_cast<std::int64_t>(task);
    f(t, count * t / n, count * (t + 1) / n);
  });
}

void normalize_sample_last(const GroupNormalization& g, const float* x, const float* scale, const float* bias, float* y, float* scratch) {
  const auto channels = static_cast<std::size_t>(g.channels);
  const auto pixels = static_cast<std::size_t>(g.pixels);
  const std::size_t width = channels / static_cast<std::size_t>(g.groups);
  const auto count = static_cast<float>(width * pixels);
  float* mean = scratch;
  float* factor = scratch + channels;
  const auto over_groups = [&](float* per_channel, auto&& f) {
    for (std::size_t first = 0; first < channels; first += width) {
      float sum = 0;
      for (std::size_t c = first; c < first + width; ++c) sum += per_channel[c];
      for (std::size_t c = first; c < first + width; ++c) per_channel[c] = f(sum / count, c);
    }
  };
  std::fill_n(scratch, 2 * channels, 0.0F);
  add_columns(x, pixels, channels, mean);
  over_groups(mean, [](float v, std::size_t) { return v; });
  add_squares(x, pixels, channels, mean, factor);
  over_groups(factor, [&](float v, std::size_t c) { return scale[c] / std::sqrt(v + g.epsilon); });
  spread_columns(x, pixels, channels, mean, factor, bias, y);
}

}  // namespace

void normalize_rows(const RowNormalization& what, const float* x, const float* scale, const float* bias, float* y, float* means,
                    float* inverses) {
  const auto n = static_cast<std::size_t>(what.n);
  shares(what.rows, what.n, what.threads, [&](std::int64_t, std::int64_t first, std::int64_t last) {
    for (std::int64_t row = first; row < last; ++row) {
      const Moments m = moments(x + row * what.n, n, what.epsilon, what.centred);
      spread(x + row * what.n, n, m, scale, bias, y + row * what.n);
      if (means != nullptr) means[row] = m.mean;
      if (inverses != nullptr) inverses[row] = m.inverse;
    }
  });
}

void normalize_groups(const GroupNormalization& g, const float* x, const float* scale, const float* bias, float* y, float* scratch) {
  const std::int64_t sample = g.channels * g.pixels;
  if (g.last) {
    shares(g.batch, sample, g.threads, [&](std::int64_t task, std::int64_t first, std::int64_t last) {
      for (std::int64_t b = first; b < last; ++b) {
        normalize_sample_last(g, x + b * sample, scale, bias, y + b * sample, scratch + task * g.scratch_elements());
      }
    });
    return;
  }
  const std::int64_t width = g.channels / g.groups;
  const std::int64_t set = width * g.pixels;
  shares(g.batch * g.groups, set, g.threads, [&](std::int64_t, std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const Moments m = moments(x + i * set, static_cast<std::size_t>(set), g.epsilon, true);
      for (std::int64_t k = 0; k < width; ++k) {
        const std::int64_t c = i % g.groups * width + k;
        const std::int64_t at = i * set + k * g.pixels;
        spread_one(x + at, static_cast<std::size_t>(g.pixels), m, scale[c], bias[c], y + at);
      }
    }
  });
}

void local_response(const LocalResponse& what, const float* x, float* y, float* scratch) {
  shares(what.rows, what.channels * what.size, what.threads, [&](std::int64_t task, std::int64_t first, std::int64_t last) {
    for (std::int64_t row = first; row < last; ++row) {
      respond(what, x + row * what.channels, y + row * what.channels, scratch + task * what.scratch_elements());
    }
  });
}

}  // namespace kerf::engine
