#include "workers/compress/low_rank.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/unit/compress/graph_builder.h"
#include "workers/compress/calibration.h"
#include "workers/compress/compress.h"
#include "workers/compress/factorize.h"
#include "workers/compress/layer.h"
#include "workers/compress/linear_algebra.h"
#include "workers/engine/reference/reference.h"

namespace kerf::compress {
namespace {

using testing::distance;
using ::testing::ElementsAre;
using testing::Graph;
using testing::GraphBuilder;
using ::testing::HasSubstr;
using testing::Node;
using testing::Numbers;
using testing::Tensor;

std::vector<double> numbers_of(Numbers& dice, std::size_t count) {
  std::vector<double> out(count);
  for (double& value : out) value = static_cast<double>(dice.normal());
  return out;
}

/// tr((W − V) G (W − V)ᵀ); G empty = identity.
double distance_in(const std::vector<double>& w, const std::vector<double>& v, std::size_t rows,
                   std::size_t columns, const std::vector<double>& g) {
  double sum = 0;
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t i = 0; i < columns; ++i) {
      const double a = w[r * columns + i] - v[r * columns + i];
      if (g.empty()) sum += a * a;
      for (std::size_t j = 0; !g.empty() && j < columns; ++j)
        sum += a * g[i * columns + j] * (w[r * columns + j] - v[r * columns + j]);
    }
  }
  return sum;
}

TEST(Factorize, TruncatedErrorIsTheSumOfTheEigenvaluesLeftOut) {
  Numbers dice(91);
  for (const auto& [rows, columns] : {std::pair<std::size_t, std::size_t>{5, 9}, {9, 5}, {6, 6}, {1, 4}}) {
    const std::vector<double> w = numbers_of(dice, rows * columns);
    // Eckart and Young: the squared singular values beyond the rank, those of W Wᵀ.
    std::vector<double> wwt(rows * rows, 0.0);
    add_product(w, transposed(w, rows, columns), wwt, rows, columns, rows);
    const Eigen eigen = eigen_symmetric(wwt, rows);
    for (std::size_t rank = 1; rank <= std::min(rows, columns); ++rank) {
      const Factors f = factorize(w, rows, columns, {}, rank);
      double left = 0;
      for (std::size_t i = rank; i < rows; ++i) left += eigen.values[i];
      EXPECT_NEAR(distance_in(w, compose(f, rows, columns), rows, columns, {}), left, 1e-9);
    }
  }
}

TEST(Factorize, AnEnergyTakesTheFewestRanksThatKeepIt) {
  Numbers dice(97);
  for (const auto& [rows, columns] : {std::pair<std::size_t, std::size_t>{5, 9}, {9, 5}, {6, 6}}) {
    const std::vector<double> w = numbers_of(dice, rows * columns);
    double whole = 0;
    for (const double value : w) whole += value * value;
    std::size_t before = 0;
    for (const double energy : {0.1, 0.5, 0.8, 0.95, 0.999}) {
      const std::size_t full = std::min(rows, columns);
      const Factors f = factorize(w, rows, columns, {}, {full, energy});
      EXPECT_GE(f.rank, std::max<std::size_t>(1, before));
      EXPECT_EQ(f.first.size(), f.rank * columns);
      EXPECT_EQ(f.second.size(), rows * f.rank);
      EXPECT_LE(distance_in(w, compose(f, rows, columns), rows, columns, {}), (1 - energy) * whole + 1e-9);
      if (f.rank > 1) {
        const Factors fewer = factorize(w, rows, columns, {}, f.rank - 1);
        EXPECT_GT(distance_in(w, compose(fewer, rows, columns), rows, columns, {}), (1 - energy) * whole - 1e-9);
      }
      before = f.rank;
    }
  }
  const std::vector<double> zeros(12, 0.0);
  EXPECT_EQ(factorize(zeros, 3, 4, {}, {3, 0.9}).rank, 1U);
}

TEST(Factorize, WithDataTheOutputsErrorIsTheLeastOfItsRank) {
  Numbers dice(92);
  for (const auto& [rows, columns] : {std::pair<std::size_t, std::size_t>{5, 8}, {8, 5}}) {
    const std::vector<double> w = numbers_of(dice, rows * columns);
    const std::vector<double> a = numbers_of(dice, columns * columns);
    std::vector<double> g(columns * columns, 0.0);
    add_product(transposed(a, columns, columns), a, g, columns, columns, columns);
    // The least there is: the eigenvalues of W G Wᵀ beyond the rank.
    std::vector<double> wg(rows * columns, 0.0);
    add_product(w, g, wg, rows, columns, columns);
    std::vector<double> wgw(rows * rows, 0.0);
    add_product(wg, transposed(w, rows, columns), wgw, rows, columns, rows);
    const Eigen eigen = eigen_symmetric(wgw, rows);
    const std::size_t rank = 2;
    double least = 0;
    for (std::size_t i = rank; i < rows; ++i) least += eigen.values[i];
    const Factors aware = factorize(w, rows, columns, g, rank);
    const double got = distance_in(w, compose(aware, rows, columns), rows, columns, g);
    EXPECT_NEAR(got, least, 1e-2 * least);
    const Factors plain = factorize(w, rows, columns, {}, rank);
    EXPECT_LT(got, distance_in(w, compose(plain, rows, columns), rows, columns, g));
  }
}

TEST(Factorize, FullRankOfEveryFormGivesTheWeightsBack) {
  Numbers dice(93);
  const KernelShape shape{4, 3, 3, 2};
  const std::vector<double> w = numbers_of(dice, 4 * shape.columns());
  const auto expect_same = [&](const std::vector<double>& v) {
    ASSERT_EQ(v.size(), w.size());
    for (std::size_t i = 0; i < w.size(); ++i) EXPECT_NEAR(v[i], w[i], 1e-5);
  };
  expect_same(compose(factorize(w, 4, shape.columns(), {}, 4), 4, shape.columns()));
  expect_same(compose_spatial(factorize_spatial(w, shape, {}, 8), shape));
  expect_same(compose_tucker(factorize_tucker(w, shape, {}, 3, 4), shape));
}

TEST(Factorize, ZeroWeightsAndARankOfOneRowHaveFactors) {
  const std::vector<double> zeros(6 * 4, 0.0);
  for (const auto& [rows, columns] : {std::pair<std::size_t, std::size_t>{6, 4}, {4, 6}}) {
    const Factors f = factorize(zeros, rows, columns, {}, 2);
    for (const double value : compose(f, rows, columns)) EXPECT_EQ(value, 0);
  }
}

TEST(LowRank, PartsComputeWhatTheirProductSays) {
  // Weights that have the rank already, so that the parts compute what the layer did.
  for (const std::string form : {"svd", "spatial", "tucker"}) {
    for (const std::int64_t stride : {1, 2}) {
      GraphBuilder b(94);
      b.conv("layer", b.input("x", {-1, 6, 7, 8}), 6, 8, 3, 1, stride);
      Numbers dice(95);
      const KernelShape shape{8, 6, 3, 3};
      std::vector<double> w;
      if (form == "svd") {
        w = compose({2, numbers_of(dice, 2 * 54), numbers_of(dice, 8 * 2)}, 8, 54);
      } else if (form == "spatial") {
        w = compose_spatial({2, numbers_of(dice, 2 * 18), numbers_of(dice, 8 * 2 * 3)}, shape);
      } else {
        w = compose_tucker({2, 2, numbers_of(dice, 2 * 6), numbers_of(dice, 2 * 2 * 9), numbers_of(dice, 8 * 2)}, shape);
      }
      b.constant("layer.weight", Tensor::f32({8, 6, 3, 3}, std::vector<float>(w.begin(), w.end())));
      Graph graph = b.finish({"layer"});
      const Tensor x = Numbers(96).tensor({2, 6, 7, 8});
      const auto before = engine::run_reference(graph, {x});
      const double share = form == "svd" ? 2.0 / 8 : form == "spatial" ? 2.0 / 18 : 0.3;
      const auto split = split_layer(graph, "layer", {share, form, false}, nullptr, true);
      ASSERT_TRUE(split.has_value()) << split.error().message;
      EXPECT_EQ(split->parts.size(), form == "tucker" ? 3U : 2U);
      EXPECT_EQ(split->parts[0], "layer.1");
      ASSERT_TRUE(graph.check().has_value());
      const auto after = engine::run_reference(graph, {x});
      ASSERT_TRUE(after.has_value()) << after.error().message;
      EXPECT_LT(distance((*before)[0], (*after)[0]), 1e-3) << form << " stride " << stride;
    }
  }
}

TEST(LowRank, ByEnergyEachLayerGetsTheRankThatItNeeds) {
  for (const char* form : {"svd", "spatial", "tucker"}) {
    GraphBuilder b(99);
    b.conv("first", b.input("x", {1, 6, 8, 8}), 6, 8);
    b.conv("second", "first", 8, 8);
    // The second layer's kernels are all alike but for their size: rank 1 of every form but for noise.
    auto w = b.graph.initializers.at("second.weight").mutable_as<float>();
    for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(1 + i / 72) + 1e-3F * w[i];
    Graph graph = b.finish({"second"});
    for (const char* layer : {"first", "second"}) {
      const auto split = split_layer(graph, layer, {1, form, false, 0.9}, nullptr, false);
      ASSERT_TRUE(split.has_value()) << split.error().message;
      ASSERT_FALSE(split->parts.empty());
      const Tensor& last = *graph.constant(find_node(graph, split->parts.back())->inputs[1]);
      EXPECT_EQ(last.dim(1) == 1, std::string(layer) == "second") << form << " " << last.dim(1);
    }
  }
}

TEST(LowRank, MatricesOfEveryLayoutAndTheirBiases) {
  for (const int kind : {0, 1, 2}) {
    GraphBuilder b(97);
    const auto x = b.input("x", kind == 2 ? testing::Shape{-1, 3, 12} : testing::Shape{-1, 12});
    if (kind == 2) {
      b.node("layer", "MatMul", {x, b.constant("w", b.numbers.tensor({12, 10}))});
    } else {
      b.gemm("layer", x, 12, 10, kind == 0);
    }
    Graph graph = b.finish({"layer"});
    const Tensor data = Numbers(98).tensor(kind == 2 ? testing::Shape{4, 3, 12} : testing::Shape{4, 12});
    const auto before = engine::run_reference(graph, {data});
    const auto split = split_layer(graph, "layer", {0.9999, "svd", false}, nullptr, false);
    ASSERT_TRUE(split.has_value()) << split.error().message;
    const auto after = engine::run_reference(graph, {data});
    ASSERT_TRUE(after.has_value()) << after.error().message;
    EXPECT_LT(distance((*before)[0], (*after)[0]), 1e-4) << kind;
  }
}

TEST(LowRank, FormsFollowFromTheLayer) {
  GraphBuilder b(99);
  auto x = b.conv("point", b.input("x", {-1, 4, 8, 8}), 4, 6, 1);
  x = b.conv("kernel", x, 6, 6);
  x = b.conv("grouped", x, 6, 6, 3, 2);
  b.gemm("fc", b.flatten("flat", x), 384, 3);
  const auto model = prepare(b.finish({"fc"}));
  ASSERT_TRUE(model.has_value());
  EXPECT_THAT(model->info.layers[0].rank_forms.value(), ElementsAre("svd"));
  EXPECT_THAT(model->info.layers[1].rank_forms.value(), ElementsAre("svd", "spatial", "tucker"));
  EXPECT_TRUE(model->info.layers[2].rank_forms->empty());
  EXPECT_THAT(model->info.layers[3].rank_forms.value(), ElementsAre("svd"));
}

TEST(LowRank, PartsTakeTheLayersBitsAndAShareThatSavesNothingNeedsAName) {
  GraphBuilder b(100);
  auto x = b.relu("r", b.conv("conv", b.input("x", {-1, 3, 8, 8}), 3, 16));
  b.gemm("fc", b.flatten("flat", b.max_pool("pool", x)), 256, 10);
  const auto model = prepare(b.finish({"fc"}));
  ASSERT_TRUE(model.has_value());
  const auto run = [&](const char* text) {
    const auto plan = CompressionPlan::parse(*parse_json(text));
    EXPECT_TRUE(plan.has_value());
    return compress(*model, *plan, nullptr);
  };
  const auto small = run(R"({"layers": {"fc": {"rank": 0.3, "weight_bits": 8}}})");
  ASSERT_TRUE(small.has_value()) << small.error().message;
  ASSERT_EQ(small->layers.size(), 3U);
  EXPECT_EQ(small->layers[1].name, "fc.1");
  EXPECT_EQ(small->layers[1].weight_bits, 8);
  EXPECT_EQ(small->layers[2].weight_bits, 8);
  EXPECT_EQ(small->layers[1].weight_bits_total, 8 * 3 * 256);
  EXPECT_LT(small->macs, model->info.macs);
  const auto all = run(R"({"layers": {"*": {"rank": 0.99}}})");
  ASSERT_TRUE(all.has_value()) << all.error().message;
  EXPECT_EQ(all->layers.size(), 2U) << "parts that save nothing aren't made where only * asks";
  const auto named = run(R"({"layers": {"fc": {"rank": 0.99}}})");
  ASSERT_TRUE(named.has_value());
  EXPECT_EQ(named->layers.size(), 3U);
  const auto wrong = run(R"({"layers": {"fc": {"rank": {"share": 0.5, "form": "tucker"}}}})");
  ASSERT_FALSE(wrong.has_value());
  EXPECT_THAT(wrong.error().message, HasSubstr("plan.layers.fc.rank: form \"tucker\""));
}

}  // namespace
}  // namespace kerf::compress
