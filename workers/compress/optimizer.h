#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace kerf::compress {

/// Moves parameters against their gradients.
///
/// Maths:    adam  m = β₁m + (1−β₁)g, v = β₂v + (1−β₂)g², w −= η · m̂ / (√v̂ + 1e-8), β = 0.9, 0.999
///           sgd   Nesterov's momentum: m = 0.9m + g, w −= η · (g + 0.9m)
///           Gradients are shortened to a norm of `largest_norm`, over all parameters.
/// Source:   Kingma and Ba 2015, arXiv:1412.6980; Sutskever et al. 2013 (ICML).
class Optimizer {
 public:
  /// `kind`: "adam" or "sgd". `sizes`: elements of each parameter.
  Optimizer(const std::string& kind, const std::vector<std::size_t>& sizes, double largest_norm);

  /// One step with the learning rate η. `values` and `gradients`: in the order of `sizes`.
  void step(const std::vector<std::span<float>>& values,
            const std::vector<std::span<float>>& gradients, double learning_rate);

  void forget();  ///< Momentum and scales, as at the start.

 private:
  bool adam_;
  double largest_norm_;
  std::int64_t steps_ = 0;
  std::vector<std::vector<float>> momentum_;
  std::vector<std::vector<float>> squares_;  // adam only
};

/// The learning rate of a step as a share of its largest: it rises over the first `warmup` steps, then
/// falls along half a cosine to 1 % at the last of `steps`.
///
/// Source:   Loshchilov and Hutter 2017, arXiv:1608.03983.
[[nodiscard]] double learning_share(std::int64_t step, std::int64_t steps, std::int64_t warmup);

}  // namespace kerf::compress
