#include "search/native/surrogate.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "search/native/basis.h"
#include "search/native/look.h"

namespace kerf::search::native {
namespace {

constexpr std::size_t kMostKinds = 1024;  // pairs of kinds that share what neighbours do

}  // namespace

MetricSurrogate::MetricSurrogate(const Layout& layout, MetricPrior prior)
    : layout_(&layout), prior_(std::move(prior)) {
  const bool looked = !prior_.terms.empty();
  if (looked && prior_.bendable && !prior_.exact) {
    look_ = look_quality(layout, prior_.terms, prior_.kinds, prior_.kind_count);
    look_terms_ = prior_.terms;
  }
  if (!looked || !look_terms_.empty()) start_from(looked);
  if (prior_.exact) {
    shape_.spread = shape_.shared = shape_.pair = shape_.chain = shape_.kin = shape_.noise = 1e-7;
  }
  terms_ = terms_of(shape_);
}

void MetricSurrogate::start_from(bool look) {
  shape_ = {};
  if (look) {
    prior_.terms = look_terms_;
    shape_.layer_power = look_.layer_power;
    shape_.spread = look_.spread;
  } else {
    // Terms are anyone's guess, and values of all layers share what they do.
    prior_.terms.clear();
    shape_.spread = 0.8;
    shape_.shared = 1;
  }
}

MetricSurrogate::Terms MetricSurrogate::terms_of(const Shape& shape) const {
  const Layout& layout = *layout_;
  Terms out;
  out.base.resize(layout.values);
  if (prior_.terms.empty()) {
    for (std::size_t d = 0; d < layout.size(); ++d) {
      const int own = prior_.baseline.empty() ? 0 : prior_.baseline[d];
      const int far = std::max(own, static_cast<int>(layout.counts[d]) - 1 - own);
      for (int v = 0; v < static_cast<int>(layout.counts[d]); ++v) {
        out.base[layout.at(d, v)] = v == own ? 0 : 0.35 + 0.65 * std::abs(v - own) / far;
      }
    }
  } else {
    out.base = bent_terms(layout, prior_.terms, prior_.kinds, prior_.kind_count, shape.layer_power,
                          shape.value_power);
  }
  out.amplitude.resize(layout.values);
  out.root.resize(layout.values);
  std::vector<double> mean(layout.size(), 0.0);
  for (std::size_t d = 0; d < layout.size(); ++d) {
    for (std::size_t v = 0; v < layout.counts[d]; ++v) {
      const std::size_t at = layout.offsets[d] + v;
      out.amplitude[at] = std::abs(out.base[at]);
      out.root[at] = std::sqrt(out.amplitude[at]);
      mean[d] += out.amplitude[at] / static_cast<double>(layout.counts[d]);
    }
  }
  for (std::size_t d = 0; d + 1 < layout.size(); ++d) {
    out.between.push_back((mean[d] + mean[d + 1]) / 2);
  }
  // What corrections are relative to stays the size of a change, also where labels call it harmless.
  if (!prior_.lean.empty() && !prior_.terms.empty()) {
    for (std::size_t at = 0; at < layout.values; ++at) out.base[at] *= 1 + shape.lean * prior_.lean[at];
  }
  return out;
}

MetricSurrogate::Row MetricSurrogate::row_of(const Terms& terms, const Choices& x) const {
  const Layout& layout = *layout_;
  Row out;
  out.by_kind.assign(prior_.kind_count, 0.0);
  const std::size_t kinds = prior_.kind_count * prior_.kind_count;
  if (kinds <= kMostKinds) out.by_kinds.assign(kinds, 0.0);
  for (std::size_t d = 0; d < layout.size(); ++d) {
    const std::size_t at = layout.at(d, x[d]);
    out.amplitude.push_back(terms.amplitude[at]);
    out.root.push_back(terms.root[at]);
    out.by_kind[prior_.kinds[at]] += terms.amplitude[at];
    out.base += terms.base[at];
    if (!out.by_kinds.empty() && d + 1 < layout.size()) {
      out.by_kinds[prior_.kinds[at] * prior_.kind_count + prior_.kinds[layout.at(d + 1, x[d + 1])]] +=
          terms.between[d];
    }
    if (!prior_.chain.empty() && d + 1 < layout.size()) {
      out.base += prior_.chain[layout.chain_at(d, x[d], x[d + 1])];
    }
  }
  return out;
}

MetricSurrogate::Parts MetricSurrogate::parts(const Terms& terms, const Row& a, const Choices& xa,
                                              const Row& b, const Choices& xb) const {
  Parts out;
  const std::size_t n = xa.size();
  const double together = dot(a.amplitude, b.amplitude);
  double same = 0;
  for (std::size_t d = 0; d < n; ++d) {
    if (xa[d] != xb[d]) continue;
    same += a.amplitude[d] * a.amplitude[d];
    if (d + 1 < n && xa[d + 1] == xb[d + 1]) out.chain += terms.between[d] * terms.between[d];
  }
  out.unary = (together + same) / 2;
  out.shared = dot(a.by_kind, b.by_kind);
  out.kin = dot(a.by_kinds, b.by_kinds);
  const double roots = dot(a.root, b.root);
  out.pair = std::max(0.0, (roots * roots - together) / 2);
  return out;
}

double MetricSurrogate::covariance(const Shape& shape, double scale, const Parts& parts) {
  return scale * scale *
         (shape.spread * shape.spread * parts.unary + shape.shared * shape.shared * parts.shared +
          shape.pair * shape.pair * parts.pair + shape.chain * shape.chain * parts.chain +
          shape.kin * shape.kin * parts.kin);
}

double MetricSurrogate::noise_variance(const Shape& shape, double y) const {
  const double size = shape.noise * std::max(std::abs(y), 0.05 * range_) * shape.link.slope(y);
  return size * size + 1e-18 * range_ * range_;
}

void MetricSurrogate::measure_range(std::span<const std::size_t> trials) {
  double low = 0;
  double high = 0;
  for (std::size_t k = 0; k < trials.size(); ++k) {
    const double y = y_[trials[k]];
    low = k == 0 ? y : std::min(low, y);
    high = k == 0 ? y : std::max(high, y);
  }
  lowest_ = low;
  range_ = high - low > 1e-12 * std::abs(high) ? high - low : std::max(1e-9, std::abs(high));
}

double MetricSurrogate::scale_of(const std::vector<double>& base,
                                 const std::vector<double>& latent) const {
  return fitted_scale(base, latent, !prior_.terms.empty(), range_);
}

// What β₁ is about, from the trials that the last tune saw or the first ones.
void MetricSurrogate::settle_scale() {
  std::vector<double> base;
  std::vector<double> latent;
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    base.push_back(rows_[i].base);
    latent.push_back(shape_.link.latent(y_[i]));
  }
  scale_ = scale_of(base, latent);
}

void MetricSurrogate::factor(std::size_t i) {
  std::vector<double> row(i);
  for (std::size_t k = 0; k < i; ++k) {
    row[k] = covariance(shape_, scale_, parts(terms_, rows_[i], x_[i], rows_[k], x_[k]));
  }
  const double own = covariance(shape_, scale_, parts(terms_, rows_[i], x_[i], rows_[i], x_[i]));
  cholesky_.append(row, own + noise_variance(shape_, y_[i]));
}

void MetricSurrogate::rebuild() {
  terms_ = terms_of(shape_);
  rows_.clear();
  for (const Choices& x : x_) rows_.push_back(row_of(terms_, x));
  settle_scale();
  cholesky_ = {};
  for (std::size_t i = 0; i < x_.size(); ++i) factor(i);
}

void MetricSurrogate::append(const Choices& x, double y) {
  x_.push_back(x);
  y_.push_back(y);
  if (x_.size() <= 3) {
    std::vector<std::size_t> all(x_.size());
    std::iota(all.begin(), all.end(), std::size_t{0});
    measure_range(all);
    rebuild();
    return;
  }
  rows_.push_back(row_of(terms_, x));
  factor(x_.size() - 1);
}

void MetricSurrogate::lean(const std::vector<double>& lean) {
  if (!prior_.lean.empty()) prior_.lean = lean;
}

void MetricSurrogate::keep(std::span<const std::size_t> trials) {
  std::vector<Choices> x;
  std::vector<double> y;
  for (const std::size_t i : trials) {
    x.push_back(std::move(x_[i]));
    y.push_back(y_[i]);
  }
  x_ = std::move(x);
  y_ = std::move(y);
  rebuild();
}

AdditiveModel MetricSurrogate::model() const {
  const Layout& layout = *layout_;
  const std::size_t n = x_.size();
  const std::size_t dimensions = layout.size();
  AdditiveModel out;
  out.link = shape_.link;
  out.unary.resize(layout.values);
  out.root = terms_.root;
  std::vector<double> latent;
  std::vector<double> base;
  for (std::size_t i = 0; i < n; ++i) {
    latent.push_back(shape_.link.latent(y_[i]));
    base.push_back(rows_[i].base);
  }
  const Basis basis = fit_basis(cholesky_, base, latent, scale_, range_);
  out.constant = basis.constant;
  for (std::size_t at = 0; at < layout.values; ++at) out.unary[at] = basis.slope * terms_.base[at];
  if (!prior_.chain.empty()) {
    out.chain = prior_.chain;
    for (double& value : out.chain) value *= basis.slope;
  }
  if (n == 0 || prior_.exact) return out;

  const double square = scale_ * scale_;
  const double unary = square * shape_.spread * shape_.spread / 2;
  const double shared = square * shape_.shared * shape_.shared;
  const double pair = square * shape_.pair * shape_.pair;
  const double chain = square * shape_.chain * shape_.chain;
  std::vector<double> by_layer(dimensions, 0.0);
  std::vector<double> by_kind(prior_.kind_count, 0.0);
  if (out.chain.empty()) out.chain.assign(layout.chain_values, 0.0);
  out.weight.assign(dimensions * dimensions, 0.0);
  std::vector<double> own(layout.values, 0.0);
  std::vector<double> by_kinds(n == 0 ? 0 : rows_[0].by_kinds.size(), 0.0);
  for (std::size_t i = 0; i < n; ++i) {
    const double a = basis.weights[i];
    const Row& row = rows_[i];
    for (std::size_t k = 0; k < by_kind.size(); ++k) by_kind[k] += a * row.by_kind[k];
    for (std::size_t k = 0; k < by_kinds.size(); ++k) by_kinds[k] += a * row.by_kinds[k];
    for (std::size_t d = 0; d < dimensions; ++d) {
      by_layer[d] += a * row.amplitude[d];
      own[layout.at(d, x_[i][d])] += a * row.amplitude[d];
      if (d + 1 < dimensions) {
        out.chain[layout.chain_at(d, x_[i][d], x_[i][d + 1])] +=
            a * chain * terms_.between[d] * terms_.between[d];
      }
      const double q = a * pair * row.root[d];
      if (q == 0) continue;
      double* weights = out.weight.data() + d * dimensions;
      for (std::size_t e = 0; e < dimensions; ++e) weights[e] += q * row.root[e];
    }
  }
  const double kin = square * shape_.kin * shape_.kin;
  for (std::size_t d = 0; !by_kinds.empty() && d + 1 < dimensions; ++d) {
    for (std::size_t v = 0; v < layout.counts[d]; ++v) {
      for (std::size_t w = 0; w < layout.counts[d + 1]; ++w) {
        const std::size_t kinds = prior_.kinds[layout.offsets[d] + v] * prior_.kind_count +
                                  prior_.kinds[layout.offsets[d + 1] + w];
        out.chain[layout.chain_at(d, static_cast<int>(v), static_cast<int>(w))] +=
            kin * terms_.between[d] * by_kinds[kinds];
      }
    }
  }
  for (std::size_t d = 0; d < dimensions; ++d) {
    out.weight[d * dimensions + d] = 0;
    for (std::size_t v = 0; v < layout.counts[d]; ++v) {
      const std::size_t at = layout.offsets[d] + v;
      out.unary[at] += terms_.amplitude[at] *
                       (unary * (by_layer[d] + own[at]) + shared * by_kind[prior_.kinds[at]]);
    }
  }
  return out;
}

}  // namespace kerf::search::native
