#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "search/native/additive.h"
#include "search/native/cholesky.h"
#include "search/native/look.h"

namespace kerf::search::native {

/// How far a metric's terms may stray from the profile; fitted to finished trials (tune).
struct Shape {
  double layer_power = 1;   ///< Of a layer's damage beside other layers'.
  double value_power = 1;   ///< Of a value's damage beside other values of its layer.
  double lean = 1;          ///< How much of what labels say beyond a damage's size is taken over.
  double spread = 0.3;      ///< Corrections per layer and per (layer, value), relative to the term.
  double shared = 0.2;      ///< Corrections per value that all layers of a kind share, relative.
  double pair = 0.15;       ///< Of any two layers, relative to the geometric mean of their terms.
  double chain = 0.03;      ///< Of neighbours' (value, value), relative to the mean of their terms.
  double kin = 0.03;        ///< The same, shared by all neighbours of the same kinds.
  double noise = 0.01;      ///< Of a measurement, relative.
  Link link;
};

/// What a space looks like to one metric before any trial.
struct MetricPrior {
  std::vector<double> terms;       ///< [Layout::at]; empty = nobody looked.
  std::vector<double> lean;        ///< [Layout::at], shares of the terms (believed_leans); empty = not about labels.
  std::vector<double> chain;       ///< [Layout::chain_at]; empty = nothing known.
  std::vector<std::size_t> kinds;  ///< [Layout::at]: values that mean the same across layers.
  std::size_t kind_count = 0;
  Choices baseline;
  bool exact = false;              ///< The terms are the truth.
  bool bendable = true;            ///< Powers and links may be fitted: a damage, not a cost.
};

/// One metric's posterior mean, given a prior that a profile shapes and the trials so far.
///
/// Maths:    a Gaussian process over the sum that AdditiveModel is: latent = β₀ + β₁·Σ_d b(d, x_d)·(1 + λ·lean)
///           + corrections, b = profile terms under the fitted powers, with prior variances
///             per layer           ½·spread²·b(d, x_d)·b(d, x'_d)
///             per (layer, value)  ½·spread²·b(d, x_d)² where x_d = x'_d
///             per value           shared²·Σ_k B_k·B'_k, B_k the sum of b over layers at value k
///             per pair i < j      pair²·√(b_i·b_j·b'_i·b'_j)
///             per neighbours      chain²·(mean of both)² where both values agree
///             per kinds           kin²·Σ_{k,l} R_kl·R'_kl, R_kl the sum of the means of neighbours
///                                 at values k and l (a reorder costs alike in all layers)
///           all scaled by β₁². Corrections are shrunk towards the profile, and what is proposed is
///           the posterior mean, never a draw. As each part of the covariance belongs to one term,
///           the mean is an AdditiveModel again, which the solver minimises exactly along a chain.
/// Cost:     append O(n² + n·d), model O(n·d²) for n trials and d dimensions; tune a few dozen
///           factorisations of at most 64 trials.
/// Source:   Rasmussen and Williams 2006, chapters 2.7 (basis functions), 5.4.1 (evidence).
class MetricSurrogate {
 public:
  MetricSurrogate(const Layout& layout, MetricPrior prior);

  /// Takes a trial's minimised metric in.
  void append(const Choices& x, double y);

  /// Starts anew with these trials: what bounds time and memory.
  void keep(std::span<const std::size_t> trials);

  /// Fits powers, link, spreads and noise to the evidence of some of the trials; `thorough` tries
  /// whole grids, otherwise the neighbours of what holds. A look at a damage that the trials speak
  /// against clearly (believes_look) is put aside until they speak for it again.
  void tune(bool thorough);

  /// Other leans than the prior's, from the next tune on; nothing where the metric isn't about labels.
  void lean(const std::vector<double>& lean);

  /// Whether the profile's terms are what the sum starts from; false also where nobody looked.
  [[nodiscard]] bool believes_look() const { return !prior_.terms.empty(); }

  [[nodiscard]] AdditiveModel model() const;

  [[nodiscard]] std::size_t size() const { return y_.size(); }
  [[nodiscard]] const Shape& shape() const { return shape_; }

  /// What each trial of the last tune would have been predicted to bring, had it not been told, and
  /// what it brought.
  struct LeftOut {
    std::vector<double> predicted;
    std::vector<double> measured;
  };
  [[nodiscard]] const LeftOut& left_out() const { return left_out_; }

  /// β₁·b of every value and what corrections may add to it, one standard deviation.
  [[nodiscard]] double scale() const { return scale_; }

 private:
  /// Terms under a shape's powers.
  struct Terms {
    std::vector<double> base;       ///< The prior mean's, times β₁.
    std::vector<double> amplitude;  ///< ≥ 0, what corrections are relative to.
    std::vector<double> root;       ///< √amplitude.
    std::vector<double> between;    ///< Mean amplitude of dimensions d and d + 1.
  };
  struct Row {
    std::vector<double> amplitude;
    std::vector<double> root;
    std::vector<double> by_kind;
    std::vector<double> by_kinds;
    double base = 0;  ///< Σ base + chain prior.
  };
  /// The covariance's parts of two trials.
  struct Parts {
    double unary = 0;
    double shared = 0;
    double pair = 0;
    double chain = 0;
    double kin = 0;
  };
  struct Evidence;

  [[nodiscard]] Terms terms_of(const Shape& shape) const;
  [[nodiscard]] Row row_of(const Terms& terms, const Choices& x) const;
  [[nodiscard]] Parts parts(const Terms& terms, const Row& a, const Choices& xa, const Row& b,
                            const Choices& xb) const;
  [[nodiscard]] static double covariance(const Shape& shape, double scale, const Parts& parts);
  [[nodiscard]] double noise_variance(const Shape& shape, double y) const;
  /// Fits the shape to terms as they are; log of the evidence and of the shape's prior.
  double fit(bool thorough);
  /// Starts the shape anew, with the look or without it.
  void start_from(bool look);
  void measure_range(std::span<const std::size_t> trials);
  [[nodiscard]] double scale_of(const std::vector<double>& base,
                                const std::vector<double>& latent) const;
  void rebuild();
  void factor(std::size_t i);
  void settle_scale();

  const Layout* layout_;
  MetricPrior prior_;
  LookQuality look_;
  std::vector<double> look_terms_;  ///< The profile's, where they may be put aside; else empty.
  Shape shape_;
  Terms terms_;
  std::vector<Choices> x_;
  std::vector<double> y_;
  std::vector<Row> rows_;
  GrowingCholesky cholesky_;
  double range_ = 1;
  double lowest_ = 0;
  double scale_ = 1;
  LeftOut left_out_;
};

}  // namespace kerf::search::native
