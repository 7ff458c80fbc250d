#include "workers/compress/optimizer.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace kerf::compress {
namespace {

constexpr float kMomentum = 0.9F;
constexpr float kSquares = 0.999F;
constexpr float kEpsilon = 1e-8F;

}  // namespace

Optimizer::Optimizer(const std::string& kind, const std::vector<std::size_t>& sizes,
                     double largest_norm)
    : adam_(kind == "adam"), largest_norm_(largest_norm) {
  for (const std::size_t size : sizes) {
    momentum_.emplace_back(size, 0.0F);
    squares_.emplace_back(adam_ ? size : 0, 0.0F);
  }
}

void Optimizer::forget() {
  steps_ = 0;
  for (auto& values : momentum_) std::fill(values.begin(), values.end(), 0.0F);
  for (auto& values : squares_) std::fill(values.begin(), values.end(), 0.0F);
}

void Optimizer::step(const std::vector<std::span<float>>& values,
                     const std::vector<std::span<float>>& gradients, double learning_rate) {
  ++steps_;
  double norm = 0;
  for (const auto& gradient : gradients) {
    for (const float g : gradient) norm += static_cast<double>(g) * static_cast<double>(g);
  }
  norm = std::sqrt(norm);
  const auto shorten = static_cast<float>(norm > largest_norm_ ? largest_norm_ / norm : 1.0);
  const auto rate = static_cast<float>(learning_rate);
  // The moments start at zero; this takes that out of them.
  const auto steps = static_cast<float>(steps_);
  const float first = 1.0F / (1.0F - std::pow(kMomentum, steps));
  const float second = 1.0F / (1.0F - std::pow(kSquares, steps));
  for (std::size_t k = 0; k < values.size(); ++k) {
    float* w = values[k].data();
    const float* g = gradients[k].data();
    float* m = momentum_[k].data();
    const std::size_t n = values[k].size();
    if (adam_) {
      float* v = squares_[k].data();
      for (std::size_t i = 0; i < n; ++i) {
        const float slope = g[i] * shorten;
        m[i] = kMomentum * m[i] + (1.0F - kMomentum) * slope;
        v[i] = kSquares * v[i] + (1.0F - kSquares) * slope * slope;
        w[i] -= rate * (m[i] * first) / (std::sqrt(v[i] * second) + kEpsilon);
      }
    } else {
      for (std::size_t i = 0; i < n; ++i) {
        const float slope = g[i] * shorten;
        m[i] = kMomentum * m[i] + slope;
        w[i] -= rate * (slope + kMomentum * m[i]);
      }
    }
  }
}

double learning_share(std::int64_t step, std::int64_t steps, std::int64_t warmup) {
  if (step < warmup) return static_cast<double>(step + 1) / static_cast<double>(warmup + 1);
  const double done = static_cast<double>(step - warmup) /
                      static_cast<double>(std::max<std::int64_t>(1, steps - warmup));
  return 0.01 + 0.99 * 0.5 * (1.0 + std::cos(std::numbers::pi * std::min(1.0, done)));
}

}  // namespace kerf::compress
