#include "search/native/look.h"

#include <algorithm>
#include <cmath>

namespace kerf::search::native {
namespace {

constexpr double kNatural = 0.08;  // variance of log terms that is neither the layer's nor the value's

/// Positive terms in logarithms, taken apart: mean + (layer − mean) + kind + rest.
struct Parts {
  bool bendable = false;
  double least = 0;           // terms up to here are zero
  double mean = 0;
  std::vector<double> layer;  // means of its terms
  std::vector<double> kind;   // means over layers of what is beyond the layer
  double of_layers = 0;       // variances
  double of_rest = 0;
  double per_layer = 0;       // positive terms

  [[nodiscard]] double rest(double term, std::size_t d, std::size_t k) const {
    return std::log(term) - layer[d] - kind[k];
  }
};

Parts taken_apart(const Layout& layout, const std::vector<double>& terms,
                  const std::vector<std::size_t>& kinds, std::size_t kind_count) {
  Parts out;
  double most = 0;
  bool negative = false;
  for (const double term : terms) {
    most = std::max(most, std::abs(term));
    negative = negative || term < 0;
  }
  out.bendable = !negative && most > 0;
  if (!out.bendable) return out;
  out.least = 1e-9 * most;
  const auto each = [&](auto&& see) {
    for (std::size_t d = 0; d < layout.size(); ++d) {
      for (std::size_t v = 0; v < layout.counts[d]; ++v) {
        const std::size_t at = layout.offsets[d] + v;
        if (terms[at] > out.least) see(d, kinds[at], terms[at]);
      }
    }
  };
  std::vector<double> counts(layout.size(), 0.0);
  out.layer.assign(layout.size(), 0.0);
  each([&](std::size_t d, std::size_t, double term) {
    out.layer[d] += std::log(term);
    counts[d] += 1;
  });
  double layers = 0;
  double all = 0;
  for (std::size_t d = 0; d < layout.size(); ++d) {
    if (counts[d] == 0) continue;
    out.layer[d] /= counts[d];
    out.mean += out.layer[d];
    layers += 1;
    all += counts[d];
  }
  out.mean /= layers;
  out.per_layer = all / layers;
  std::vector<double> members(kind_count, 0.0);
  out.kind.assign(kind_count, 0.0);
  each([&](std::size_t d, std::size_t k, double term) {
    out.kind[k] += std::log(term) - out.layer[d];
    members[k] += 1;
  });
  for (std::size_t k = 0; k < kind_count; ++k) out.kind[k] /= std::max(1.0, members[k]);
  for (std::size_t d = 0; d < layout.size(); ++d) {
    if (counts[d] > 0) out.of_layers += (out.layer[d] - out.mean) * (out.layer[d] - out.mean) / layers;
  }
  each([&](std::size_t d, std::size_t k, double term) {
    const double rest = out.rest(term, d, k);
    out.of_rest += rest * rest / all;
  });
  return out;
}

}  // namespace

std::vector<double> bent_terms(const Layout& layout, const std::vector<double>& terms,
                               const std::vector<std::size_t>& kinds, std::size_t kind_count,
                               double layer_power, double value_power) {
  if (layer_power == 1 && value_power == 1) return terms;
  const Parts parts = taken_apart(layout, terms, kinds, kind_count);
  if (!parts.bendable) return terms;
  // A power below 1 says that part of the layers' spread is error of the look; there is as much error
  // in what is left, of which it is a larger part.
  const double rest_power =
      layer_power < 1 ? std::max(0.0, 1 - (1 - layer_power) * parts.of_layers / std::max(parts.of_rest, 1e-12))
                      : std::min(layer_power, value_power);
  std::vector<double> out(terms.size(), 0.0);
  double before = 0;
  double after = 0;
  for (std::size_t d = 0; d < layout.size(); ++d) {
    for (std::size_t v = 0; v < layout.counts[d]; ++v) {
      const std::size_t at = layout.offsets[d] + v;
      if (terms[at] <= parts.least) continue;
      out[at] = std::exp(parts.mean + layer_power * (parts.layer[d] - parts.mean) +
                         value_power * parts.kind[kinds[at]] +
                         rest_power * parts.rest(terms[at], d, kinds[at]));
      before += terms[at];
      after += out[at];
    }
  }
  for (double& value : out) value *= before / after;
  return out;
}

LookQuality look_quality(const Layout& layout, const std::vector<double>& terms,
                         const std::vector<std::size_t>& kinds, std::size_t kind_count) {
  const Parts parts = taken_apart(layout, terms, kinds, kind_count);
  LookQuality out;
  if (!parts.bendable || parts.per_layer < 2 || !(parts.of_layers > 0)) return out;
  // Means of few take a share of the rest's variance with them.
  const double rest = parts.of_rest * parts.per_layer / (parts.per_layer - 1);
  const double error = std::max(0.0, rest - kNatural) * (1 + 1 / parts.per_layer);
  out.layer_power = std::clamp(1 - error / parts.of_layers, 0.2, 1.0);
  out.spread = std::clamp(std::sqrt(out.layer_power * error + 0.02), 0.15, 1.2);
  return out;
}

}  // namespace kerf::search::native
