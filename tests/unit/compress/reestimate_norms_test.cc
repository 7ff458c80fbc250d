#include "workers/compress/reestimate_norms.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "tests/unit/compress/graph_builder.h"
#include "workers/compress/compress.h"
#include "workers/compress/layer.h"
#include "workers/compress/represent_weights.h"
#include "workers/engine/reference/reference.h"

namespace kerf::compress {
namespace {

using testing::distance;
using testing::Graph;
using testing::GraphBuilder;
using testing::Node;
using testing::Numbers;
using testing::Tensor;

/// Mean and population variance of each channel of [samples, channels, h, w], in one plain loop.
struct Plain {
  std::vector<double> mean, variance;
};
Plain plain_moments(const Tensor& y) {
  const auto n = y.dim(0), channels = y.dim(1), inner = y.elements() / (n * channels);
  const auto values = y.to_floats();
  Plain out{std::vector<double>(static_cast<std::size_t>(channels)), std::vector<double>(static_cast<std::size_t>(channels))};
  for (std::int64_t c = 0; c < channels; ++c) {
    double sum = 0, squares = 0;
    for (std::int64_t s = 0; s < n; ++s) {
      for (std::int64_t i = 0; i < inner; ++i) {
        const auto v = static_cast<double>(values[static_cast<std::size_t>((s * channels + c) * inner + i)]);
        sum += v;
        squares += v * v;
      }
    }
    const auto count = static_cast<double>(n * inner);
    out.mean[static_cast<std::size_t>(c)] = sum / count;
    out.variance[static_cast<std::size_t>(c)] = squares / count - sum / count * (sum / count);
  }
  return out;
}

std::vector<ReconstructedLayer> all_changed(const std::vector<std::pair<std::string, std::size_t>>& layers) {
  std::vector<ReconstructedLayer> out;
  for (const auto& [name, channels] : layers) {
    ReconstructedLayer layer;
    layer.name = name;
    layer.reference_channels = channels;
    for (std::size_t c = 0; c < channels; ++c) layer.channels.push_back(c);
    layer.changed = true;
    out.push_back(layer);
  }
  return out;
}

/// conv → normalization → Relu → conv → normalization, with the statistics that `data` gives.
Graph normalized(const Tensor& data) {
  GraphBuilder b(201);
  b.input("x", {-1, 3, 8, 8});
  const auto norm = [&](const std::string& name, const std::string& x) {
    for (const char* part : {".scale", ".shift", ".mean", ".var"}) {
      Tensor t = b.numbers.tensor({6});
      if (part == std::string(".var") || part == std::string(".scale")) {
        for (float& v : t.mutable_as<float>()) v = 0.5F + std::fabs(v);
      }
      b.constant(name + part, t);
    }
    b.node(name, "BatchNormalization", {x, name + ".scale", name + ".shift", name + ".mean", name + ".var"})
        .attributes["epsilon"] = 0.0F;
    return name;
  };
  const auto first = b.relu("r1", norm("norm1", b.conv("conv1", "x", 3, 6)));
  norm("norm2", b.conv("conv2", first, 6, 6));
  Graph graph = b.finish({"norm2"});
  for (const char* layer : {"1", "2"}) {
    const auto values = engine::run_reference_values(graph, {data});
    const Plain m = plain_moments(values->at("conv" + std::string(layer)));
    const std::string name = "norm" + std::string(layer);
    graph.initializers[name + ".mean"] = Tensor::f32({6}, std::vector<float>(m.mean.begin(), m.mean.end()));
    graph.initializers[name + ".var"] = Tensor::f32({6}, std::vector<float>(m.variance.begin(), m.variance.end()));
  }
  return graph;
}

TEST(ChannelMoments, AreThoseOfAPlainLoopWhereverTheChannelLies) {
  Numbers numbers(202);
  Tensor y = numbers.tensor({5, 4, 3, 2});
  for (float& v : y.mutable_as<float>()) v = 3 * v + 7;
  const Plain expected = plain_moments(y);
  const auto got = ChannelMoments::of(y, false);
  for (std::size_t c = 0; c < 4; ++c) {
    EXPECT_NEAR(got.mean[c], expected.mean[c], 1e-9);
    EXPECT_NEAR(got.variance[c], expected.variance[c], 1e-9);
  }
  std::vector<float> turned;  // [5, 6, 4]
  const auto values = y.to_floats();
  for (std::size_t s = 0; s < 5; ++s) {
    for (std::size_t i = 0; i < 6; ++i) {
      for (std::size_t c = 0; c < 4; ++c) turned.push_back(values[(s * 4 + c) * 6 + i]);
    }
  }
  const auto last = ChannelMoments::of(Tensor::f32({5, 6, 4}, turned), true);
  for (std::size_t c = 0; c < 4; ++c) EXPECT_NEAR(last.variance[c], expected.variance[c], 1e-9);
}

TEST(ReestimateNorms, DoesToFoldedNormalizationsWhatNewStatisticsDoToThemUnfolded) {
  const Tensor data = Numbers(203).tensor({24, 3, 8, 8});
  const Graph whole = normalized(data);
  // Reference: the unfolded model with other weights, its statistics taken anew, layer after layer.
  Graph expected = whole;
  Numbers noise(204);
  for (const char* layer : {"1", "2"}) {
    for (float& w : expected.initializers.at("conv" + std::string(layer) + ".weight").mutable_as<float>()) {
      w = std::round(w * 2) / 3;
    }
  }
  for (const char* layer : {"1", "2"}) {
    const auto values = engine::run_reference_values(expected, {data});
    const Plain m = plain_moments(values->at("conv" + std::string(layer)));
    const std::string name = "norm" + std::string(layer);
    expected.initializers[name + ".mean"] = Tensor::f32({6}, std::vector<float>(m.mean.begin(), m.mean.end()));
    expected.initializers[name + ".var"] = Tensor::f32({6}, std::vector<float>(m.variance.begin(), m.variance.end()));
  }
  const auto wanted = engine::run_reference(expected, {data});
  ASSERT_TRUE(wanted.has_value());

  // Ours: both folded, the second with the old statistics.
  Graph stale = whole;
  for (const char* layer : {"conv1.weight", "conv2.weight"}) stale.initializers[layer] = expected.initializers.at(layer);
  const auto reference = prepare(whole);
  auto changed = prepare(stale);
  ASSERT_TRUE(reference.has_value() && changed.has_value());
  ASSERT_EQ(changed->graph.nodes.size(), 3U) << "normalizations are folded";
  const auto before = engine::run_reference(changed->graph, {data});
  Calibration calibration(*reference, {data}, 1);
  std::vector<std::string> told;
  const auto done = reestimate_norms(
      reference->graph, changed->graph, all_changed({{"conv1", 6}, {"conv2", 6}}), [](const std::string&) { return true; },
      calibration, [&](const std::string& layer, const ChannelCorrection&) { told.push_back(layer); });
  ASSERT_TRUE(done.has_value()) << done.error().message;
  EXPECT_THAT(told, ::testing::ElementsAre("conv1", "conv2"));
  const auto after = engine::run_reference(changed->graph, {data});
  EXPECT_LT(distance((*after)[0], (*wanted)[0]), 0.01);  // ε keeps factors that much nearer to 1
  EXPECT_GT(distance((*before)[0], (*wanted)[0]), 0.3);
}

TEST(ReestimateNorms, LayersWithoutScalesGetTheirMeansAlone) {
  const Tensor data = Numbers(205).tensor({24, 3, 8, 8});
  const auto reference = prepare(normalized(data));
  auto changed = prepare(normalized(data));
  for (float& w : changed->graph.initializers.at(find_node(changed->graph, "conv1")->inputs[1]).mutable_as<float>()) w *= 0.5F;
  Calibration calibration(*reference, {data}, 1);
  const auto done = reestimate_norms(
      reference->graph, changed->graph, all_changed({{"conv1", 6}}), [](const std::string&) { return false; }, calibration,
      [&](const std::string&, const ChannelCorrection& correction) {
        for (const double factor : correction.factors) EXPECT_EQ(factor, 1.0);
      });
  ASSERT_TRUE(done.has_value()) << done.error().message;
  const auto wanted = plain_moments(engine::run_reference_values(reference->graph, {data})->at(find_node(reference->graph, "conv1")->outputs[0]));
  const auto got = plain_moments(engine::run_reference_values(changed->graph, {data})->at(find_node(changed->graph, "conv1")->outputs[0]));
  for (std::size_t c = 0; c < 6; ++c) {
    EXPECT_NEAR(got.mean[c], wanted.mean[c], 1e-4);
    EXPECT_NEAR(got.variance[c], wanted.variance[c] / 4, 1e-3 * wanted.variance[c]);
  }
}

class BatchNormRecovery : public ::testing::Test {
 protected:
  CompressedModel made(const std::string& recovery, const std::string& layers) {
    const auto plan = CompressionPlan::parse(*parse_json(
        R"({"global": {"recovery": )" + recovery + R"(}, "layers": {"*": {)" + layers + "}}}"));
    EXPECT_TRUE(plan.has_value()) << plan.error().message;
    auto out = compress(model_, *plan, &calibration_);
    EXPECT_TRUE(out.has_value()) << layers << ": " << (out.has_value() ? "" : out.error().message);
    return std::move(*out);
  }
  /// Largest distance of a channel's mean and variance from the model's, over its deviation, in the f32
  /// form of the compressed graph.
  double distance_of_moments(const Graph& graph) {
    const auto a = engine::run_reference_values(model_.graph, {data_});
    const auto b = engine::run_reference_values(graph, {data_});
    double most = 0;
    for (const char* layer : {"conv1", "conv2"}) {
      const Plain wanted = plain_moments(a->at(find_node(model_.graph, layer)->outputs[0]));
      const Plain got = plain_moments(b->at(find_node(graph, layer)->outputs[0]));
      for (std::size_t c = 0; c < wanted.mean.size(); ++c) {
        most = std::max(most, std::fabs(got.mean[c] - wanted.mean[c]) / std::sqrt(wanted.variance[c]));
        most = std::max(most, std::fabs(got.variance[c] / wanted.variance[c] - 1));
      }
    }
    return most;
  }

  Tensor data_ = Numbers(206).tensor({48, 3, 8, 8});
  PreparedModel model_ = *prepare(normalized(data_));
  Calibration calibration_{model_, {data_}, 1};
};

TEST_F(BatchNormRecovery, GivesEveryFormOfWeightsTheModelsMeansAndVariances) {
  for (const std::string layers :
       {R"("weight_bits": 3)", R"("weight_bits": 2, "activation_bits": 8)", R"("weight_bits": 1)",
        R"("weight_bits": "ternary", "activation_bits": 8)", R"("weight_bits": 3, "symmetric": false)",
        R"("prune": {"structure": "unstructured", "ratio": 0.6})",
        R"("weight_bits": 3, "rounding": "adaptive", "prune": {"structure": "2:4"})"}) {
    SCOPED_TRACE(layers);
    const auto plain = made(R"("none")", layers);
    const auto mended = made(R"("batch_norm")", layers);
    EXPECT_GT(distance_of_moments(plain.graph), 0.1);
    EXPECT_LT(distance_of_moments(mended.graph), 0.05);
    EXPECT_GT(mended.recovery_seconds, 0);
    ASSERT_EQ(mended.layers.size(), plain.layers.size());
    for (std::size_t i = 0; i < plain.layers.size(); ++i) {
      EXPECT_EQ(mended.layers[i].executes_as, plain.layers[i].executes_as);
      EXPECT_EQ(mended.layers[i].weight_bits_total, plain.layers[i].weight_bits_total);
      EXPECT_EQ(mended.layers[i].sparsity, plain.layers[i].sparsity);
    }
  }
}

TEST_F(BatchNormRecovery, SharedValuesStayShared) {
  const auto mended = made(R"("batch_norm")", R"("codebook": 4)");
  for (const char* layer : {"conv1", "conv2"}) {
    const auto weights = mended.graph.constant(find_node(mended.graph, layer)->inputs[1])->to_floats();
    EXPECT_LE(std::set<float>(weights.begin(), weights.end()).size(), 4U);
  }
}

TEST_F(BatchNormRecovery, ComesBeforeOrBesideTheOthers) {
  for (const std::string recovery :
       {R"(["reconstruct", "batch_norm"])", R"(["bias_correction", "batch_norm"])",
        R"(["batch_norm", "distill"], "distill": {"epochs": 2, "seconds": 1000})"}) {
    const auto out = made(recovery, R"("weight_bits": 3, "activation_bits": 8)");
    EXPECT_LT(distance_of_moments(out.graph), 0.25) << recovery;
  }
}

TEST_F(BatchNormRecovery, ChannelsThatAreConstantStayFinite) {
  for (float& w : model_.graph.initializers.at(find_node(model_.graph, "conv1")->inputs[1]).mutable_as<float>()) w = 0;
  calibration_ = Calibration(model_, {data_}, 1);
  const auto out = made(R"("batch_norm")", R"("weight_bits": 2, "activation_bits": 8)");
  const auto y = engine::run_reference(out.graph, {data_});
  for (const float v : (*y)[0].to_floats()) ASSERT_TRUE(std::isfinite(v));
}

}  // namespace
}  // namespace kerf::compress
