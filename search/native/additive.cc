#include "search/native/additive.h"

#include <algorithm>
#include <cmath>

namespace kerf::search::native {

Layout::Layout(const std::vector<DimensionSpec>& dimensions) {
  for (const DimensionSpec& dimension : dimensions) {
    offsets.push_back(values);
    counts.push_back(static_cast<std::size_t>(dimension.choices));
    values += counts.back();
  }
  for (std::size_t d = 0; d + 1 < counts.size(); ++d) {
    chains.push_back(chain_values);
    chain_values += counts[d] * counts[d + 1];
  }
}

bool Link::identity() const { return power == 1 && std::isinf(ceiling); }

double Link::metric(double latent) const {
  if (identity() || latent <= origin) return latent;
  const double u = power == 1 ? latent - origin : std::pow(latent - origin, power);
  return origin + (std::isinf(ceiling) ? u : -ceiling * std::expm1(-u / ceiling));
}

double Link::latent(double metric) const {
  if (identity() || metric <= origin) return metric;
  double u = metric - origin;
  // What lies at the ceiling or beyond it is only known to be far.
  if (!std::isinf(ceiling)) u = -ceiling * std::log1p(-std::min(u / ceiling, 0.98));
  return origin + (power == 1 ? u : std::pow(u, 1 / power));
}

double Link::slope(double metric) const {
  if (identity() || metric <= origin) return 1;
  double u = metric - origin;
  double slope = 1;
  if (!std::isinf(ceiling)) {
    const double share = std::min(u / ceiling, 0.98);
    slope = 1 / (1 - share);
    u = -ceiling * std::log1p(-share);
  }
  return power == 1 ? slope : slope * std::pow(u, 1 / power - 1) / power;
}

double AdditiveModel::latent(const Layout& layout, const Choices& x) const {
  double sum = constant;
  const std::size_t n = layout.size();
  for (std::size_t d = 0; d < n; ++d) sum += unary[layout.at(d, x[d])];
  if (!chain.empty()) {
    for (std::size_t d = 0; d + 1 < n; ++d) sum += chain[layout.chain_at(d, x[d], x[d + 1])];
  }
  if (!weight.empty()) {
    double pairs = 0;
    const std::vector<double> pull = field(layout, x);
    for (std::size_t d = 0; d < n; ++d) pairs += pull[d] * root[layout.at(d, x[d])];
    sum += pairs / 2;
  }
  return sum;
}

std::vector<double> AdditiveModel::field(const Layout& layout, const Choices& x) const {
  const std::size_t n = layout.size();
  std::vector<double> out(n, 0.0);
  if (weight.empty()) return out;
  for (std::size_t j = 0; j < n; ++j) {
    const double q = root[layout.at(j, x[j])];
    if (q == 0) continue;
    const double* row = weight.data() + j * n;
    for (std::size_t i = 0; i < n; ++i) out[i] += row[i] * q;
  }
  return out;
}

double AdditiveModel::swap(const Layout& layout, const Choices& x,
                           const std::vector<double>& field, std::size_t d, int value) const {
  const std::size_t now = layout.at(d, x[d]);
  const std::size_t then = layout.at(d, value);
  double change = unary[then] - unary[now];
  if (!chain.empty()) {
    if (d > 0) {
      change += chain[layout.chain_at(d - 1, x[d - 1], value)] -
                chain[layout.chain_at(d - 1, x[d - 1], x[d])];
    }
    if (d + 1 < layout.size()) {
      change += chain[layout.chain_at(d, value, x[d + 1])] -
                chain[layout.chain_at(d, x[d], x[d + 1])];
    }
  }
  if (!weight.empty()) change += field[d] * (root[then] - root[now]);
  return change;
}

}  // namespace kerf::search::native
