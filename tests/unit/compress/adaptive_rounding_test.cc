#include "workers/compress/adaptive_rounding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "tests/unit/compress/graph_builder.h"
#include "workers/compress/calibration.h"
#include "workers/compress/layer.h"
#include "workers/compress/layer_input.h"
#include "workers/compress/model.h"
#include "workers/compress/round_layer.h"
#include "workers/engine/reference/reference.h"

namespace kerf::compress {
namespace {

using testing::Graph;
using testing::GraphBuilder;
using testing::Node;
using testing::Numbers;
using testing::Shape;
using testing::Tensor;

using Square = std::vector<double>;

/// A Hessian of correlated inputs, as activations are.
Square correlated(Numbers& dice, std::size_t n) {
  Square h(n * n, 0.0);
  std::vector<double> x(n);
  const int rows = 3 * static_cast<int>(n);
  for (int r = 0; r < rows; ++r) {
    const double common = static_cast<double>(dice.normal());
    for (double& value : x) value = common + 0.5 * static_cast<double>(dice.normal());
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < n; ++j) h[i * n + j] += x[i] * x[j] / rows;
    }
  }
  for (std::size_t i = 0; i < n; ++i) h[i * n + i] += 0.01;
  return h;
}

/// Gauss–Jordan; n is small.
Square inverse(Square a, std::size_t n) {
  Square out(n * n, 0.0);
  for (std::size_t i = 0; i < n; ++i) out[i * n + i] = 1;
  for (std::size_t i = 0; i < n; ++i) {
    const double pivot = a[i * n + i];
    for (std::size_t j = 0; j < n; ++j) {
      a[i * n + j] /= pivot;
      out[i * n + j] /= pivot;
    }
    for (std::size_t k = 0; k < n; ++k) {
      if (k == i) continue;
      const double factor = a[k * n + i];
      for (std::size_t j = 0; j < n; ++j) {
        a[k * n + j] -= factor * a[i * n + j];
        out[k * n + j] -= factor * out[i * n + j];
      }
    }
  }
  return out;
}

/// OBQ as its paper writes it: round one weight, spread its error over those that are left by the
/// inverse of what is left of the Hessian; here in the order of falling diagonals.
std::vector<int> optimal_brain_quantizer(std::vector<double> w, double scale, const Square& h,
                                         std::size_t n, int top) {
  std::vector<std::size_t> left(n);
  std::iota(left.begin(), left.end(), std::size_t{0});
  std::stable_sort(left.begin(), left.end(),
                   [&](std::size_t a, std::size_t b) { return h[a * n + a] < h[b * n + b]; });
  std::vector<int> q(n);
  while (!left.empty()) {
    const std::size_t m = left.size();
    Square part(m * m);
    for (std::size_t i = 0; i < m; ++i) {
      for (std::size_t j = 0; j < m; ++j) part[i * m + j] = h[left[i] * n + left[j]];
    }
    const Square inv = inverse(part, m);
    const std::size_t last = left[m - 1];
    q[last] = static_cast<int>(std::clamp(std::nearbyint(w[last] / scale), -1.0 * top, 1.0 * top));
    const double error = (w[last] - scale * q[last]) / inv[m * m - 1];
    for (std::size_t i = 0; i < m; ++i) w[left[i]] -= error * inv[i * m + m - 1];
    left.pop_back();
  }
  return q;
}

double output_error(const std::vector<double>& w, double scale, const std::int8_t* q, const Square& h) {
  const std::size_t n = w.size();
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j)
      sum += (w[i] - scale * q[i]) * h[i * n + j] * (w[j] - scale * q[j]);
  }
  return sum;
}

TEST(AdaptiveRounding, EqualsTheOptimalBrainQuantizerIntegerForInteger) {
  Numbers dice(51);
  for (int trial = 0; trial < 40; ++trial) {
    const std::size_t n = static_cast<std::size_t>(1 + dice.below(24));
    const std::size_t rows = static_cast<std::size_t>(1 + dice.below(70));
    const int top = trial % 2 == 0 ? 7 : 3;
    const Square h = correlated(dice, n);
    std::vector<double> w(rows * n);
    for (double& value : w) value = static_cast<double>(dice.normal());
    std::vector<double> scales(rows);
    for (double& scale : scales) scale = 0.2 + 0.1 * std::fabs(static_cast<double>(dice.normal()));
    const RoundedRows got = round_rows(w, {scales, {}, -top, top}, h, n, false, 0);
    for (std::size_t r = 0; r < rows; ++r) {
      const std::vector<double> row(w.begin() + static_cast<std::ptrdiff_t>(r * n),
                                    w.begin() + static_cast<std::ptrdiff_t>((r + 1) * n));
      const std::vector<int> expected = optimal_brain_quantizer(row, scales[r], h, n, top);
      for (std::size_t i = 0; i < n; ++i) ASSERT_EQ(got.values[r * n + i], expected[i]) << trial;
      const double error = output_error(row, scales[r], got.values.data() + r * n, h);
      EXPECT_NEAR(got.errors[r], error, 1e-9 * (1 + error));
    }
  }
}

TEST(AdaptiveRounding, SweepsOnlyLowerTheErrorAndNearTheBestOfAll) {
  Numbers dice(52);
  double plain = 0;
  double swept = 0;
  double nearest = 0;
  double best_of_all = 0;
  for (int trial = 0; trial < 30; ++trial) {
    const std::size_t n = 6;
    const Square h = correlated(dice, n);
    std::vector<double> w(n);
    for (double& value : w) value = static_cast<double>(dice.normal());
    const RoundingGrid grid = {{0.5}, {}, -3, 3};
    const RoundedRows one = round_rows(w, grid, h, n, false, 0);
    const RoundedRows two = round_rows(w, grid, h, n, false, 4);
    EXPECT_LE(two.errors[0], one.errors[0] + 1e-12);
    plain += one.errors[0];
    swept += two.errors[0];
    std::int8_t near[n];
    for (std::size_t i = 0; i < n; ++i)
      near[i] = static_cast<std::int8_t>(std::clamp(std::nearbyint(w[i] / 0.5), -3.0, 3.0));
    nearest += output_error(w, 0.5, near, h);
    double least = std::numeric_limits<double>::infinity();
    std::int8_t q[n];
    for (int code = 0; code < 117649; ++code) {  // 7^6: every choice there is
      int rest = code;
      for (std::size_t i = 0; i < n; ++i, rest /= 7) q[i] = static_cast<std::int8_t>(rest % 7 - 3);
      least = std::min(least, output_error(w, 0.5, q, h));
    }
    EXPECT_GE(two.errors[0], least - 1e-12);
    best_of_all += least;
  }
  EXPECT_LT(swept, 1.5 * best_of_all);
  EXPECT_LT(plain, nearest / 2);
}

TEST(AdaptiveRounding, ZerosOfAPrunedLayerStayAndTheOthersMakeUpForThem) {
  Numbers dice(53);
  const std::size_t n = 16;
  const Square h = correlated(dice, n);
  std::vector<double> w(n);
  for (std::size_t i = 0; i < n; ++i) w[i] = i % 2 == 0 ? 0.0 : static_cast<double>(dice.normal());
  const RoundedRows got = round_rows(w, {{0.3}, {}, -7, 7}, h, n, true);
  for (std::size_t i = 0; i < n; i += 2) EXPECT_EQ(got.values[i], 0);
  std::int8_t nearest[n];  // keeps zeros too
  for (std::size_t i = 0; i < n; ++i)
    nearest[i] = static_cast<std::int8_t>(std::clamp(std::nearbyint(w[i] / 0.3), -7.0, 7.0));
  EXPECT_LT(got.errors[0], output_error(w, 0.3, nearest, h) / 2);
}

/// A model of one layer, its calibration, and its output's squared error after rounding.
struct OneLayer {
  PreparedModel model;
  Tensor data;

  double error(const LayerPlan& plan) const {
    Calibration calibration(model, {data}, 1);
    const auto moments = calibration.second_moments(model.graph, "", {"layer"});
    EXPECT_TRUE(moments.has_value());
    const Node& node = *find_node(model.graph, "layer");
    const SecondMoments* own = moments->contains("layer") ? moments->at("layer").get() : nullptr;
    Graph changed = model.graph;
    const auto rounded = round_layer(changed, "layer", plan, own, false);
    EXPECT_TRUE(rounded.has_value()) << (rounded.has_value() ? "" : rounded.error().message);
    const QuantizedWeights& weights = (*rounded)->weights;
    for (const float scale : weights.scales) EXPECT_TRUE(std::isfinite(scale) && scale > 0);
    changed.initializers[node.inputs[1]] = dequantize(weights, output_channel_axis(node));
    const auto before = engine::run_reference(model.graph, {data});
    const auto after = engine::run_reference(changed, {data});
    double sum = 0;
    const auto y = (*before)[0].to_floats();
    const auto z = (*after)[0].to_floats();
    for (std::size_t i = 0; i < y.size(); ++i) {
      EXPECT_TRUE(std::isfinite(z[i]));
      sum += std::pow(static_cast<double>(y[i]) - static_cast<double>(z[i]), 2);
    }
    return sum;
  }
};

LayerPlan four_bits(const std::string& rounding, const std::string& range = "minmax") {
  LayerPlan plan;
  plan.weight_bits = 4;
  plan.rounding = rounding;
  plan.weight_range = range;
  return plan;
}

OneLayer layer_of(Graph graph, Tensor data) {
  auto model = prepare(std::move(graph));
  EXPECT_TRUE(model.has_value()) << (model.has_value() ? "" : model.error().message);
  return {std::move(*model), std::move(data)};
}

/// Images whose channels and neighbours resemble each other.
Tensor smooth_images(std::uint32_t seed, const Shape& shape) {
  Numbers dice(seed);
  Tensor out = dice.tensor(shape);
  const auto values = out.mutable_as<float>();
  const auto size = static_cast<std::size_t>(out.elements() / shape[0]);
  for (std::size_t s = 0; s < static_cast<std::size_t>(shape[0]); ++s) {
    const float common = 2 * dice.normal();
    for (std::size_t i = 0; i < size; ++i) values[s * size + i] = 0.4F * values[s * size + i] + common;
  }
  return out;
}

TEST(AdaptiveRounding, EveryKindOfLayerHasLessOutputErrorThanNearest) {
  std::vector<std::pair<std::string, OneLayer>> layers;
  for (const std::int64_t group : {1, 2, 8}) {
    GraphBuilder b(60);
    b.conv("layer", b.input("x", {-1, 8, 6, 6}), 8, 8, 3, group, 2);
    layers.emplace_back("group " + std::to_string(group),
                        layer_of(b.finish({"layer"}), smooth_images(61, {30, 8, 6, 6})));
  }
  for (const bool transposed : {true, false}) {
    GraphBuilder b(62);
    b.gemm("layer", b.input("x", {-1, 24}), 24, 6, transposed);
    layers.emplace_back(transposed ? "Gemm [out, in]" : "Gemm [in, out]",
                        layer_of(b.finish({"layer"}), smooth_images(63, {60, 24})));
  }
  {
    GraphBuilder b(64);
    b.node("layer", "MatMul", {b.input("x", {-1, 5, 20}), b.constant("w", b.numbers.tensor({20, 7}))});
    layers.emplace_back("MatMul of rank 3",
                        layer_of(b.finish({"layer"}), smooth_images(65, {30, 5, 20})));
  }
  for (const auto& [name, layer] : layers) {
    const double nearest = layer.error(four_bits("nearest"));
    const double adaptive = layer.error(four_bits("adaptive"));
    EXPECT_LT(adaptive, 0.8 * nearest) << name;
    EXPECT_LE(layer.error(four_bits("adaptive", "mse")), adaptive * 1.02) << name;
    LayerPlan one_scale = four_bits("adaptive", "mse");
    one_scale.granularity = "tensor";
    LayerPlan nearest_one = one_scale;
    nearest_one.rounding = "nearest";
    EXPECT_LT(layer.error(one_scale), layer.error(nearest_one)) << name;
    LayerPlan uneven = four_bits("adaptive");
    uneven.symmetric = false;
    LayerPlan uneven_nearest = uneven;
    uneven_nearest.rounding = "nearest";
    EXPECT_LT(layer.error(uneven), 0.8 * layer.error(uneven_nearest)) << name;
    if (name.find("M") == std::string::npos && name[0] != 'G') continue;  // matrices have groups
    LayerPlan grouped = uneven;
    grouped.granularity = "group:7";
    LayerPlan grouped_nearest = grouped;
    grouped_nearest.rounding = "nearest";
    EXPECT_LT(layer.error(grouped), 0.8 * layer.error(grouped_nearest)) << name;
  }
}

TEST(AdaptiveRounding, HostileInputsGiveFiniteWeights) {
  const auto with_data = [](Tensor data) {
    GraphBuilder b(66);
    b.conv("layer", b.input("x", {-1, 4, 4, 4}), 4, 3);
    auto weights = b.graph.initializers["layer.weight"].mutable_as<float>();
    for (std::size_t i = 0; i < 36; ++i) weights[i] = 0;  // a channel of zeros
    weights[40] = 1e30F;                                  // and one with an outlier
    weights[80] = 1e-42F;
    return layer_of(b.finish({"layer"}), std::move(data));
  };
  Tensor outlier = Numbers(67).tensor({4, 4, 4, 4});
  outlier.mutable_as<float>()[7] = 1e6F;
  Tensor constant(graph::DType::kF32, {3, 4, 4, 4});
  for (float& value : constant.mutable_as<float>()) value = 3;
  Tensor tiny = Numbers(68).tensor({2, 4, 4, 4});
  for (float& value : tiny.mutable_as<float>()) value *= 1e-40F;
  for (const Tensor& data : {outlier, constant, tiny, Tensor(graph::DType::kF32, {5, 4, 4, 4}),
                             Numbers(69).tensor({1, 4, 4, 4})}) {
    const OneLayer layer = with_data(data);
    for (const std::string range : {"minmax", "mse", "percentile"}) {
      (void)layer.error(four_bits("adaptive", range));  // checks that all is finite
    }
  }
}

TEST(AdaptiveRounding, InputsThatWereAlwaysZeroLeaveNearestRounding) {
  GraphBuilder b(70);
  b.gemm("layer", b.input("x", {-1, 6}), 6, 3);
  const OneLayer layer = layer_of(b.finish({"layer"}), Tensor(graph::DType::kF32, {4, 6}));
  Calibration calibration(layer.model, {layer.data}, 1);
  const auto moments = calibration.second_moments(layer.model.graph, "", {"layer"});
  ASSERT_TRUE(moments.has_value());
  Graph graph = layer.model.graph;
  const auto near = round_layer(graph, "layer", four_bits("nearest"), nullptr, false);
  const auto same = round_layer(graph, "layer", four_bits("adaptive"), moments->at("layer").get(), false);
  ASSERT_TRUE(near.has_value() && same.has_value());
  EXPECT_EQ((*near)->weights.values.to_integers(), (*same)->weights.values.to_integers());
}

}  // namespace
}  // namespace kerf::compress
