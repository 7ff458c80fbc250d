#include "workers/compress/calibration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "tests/unit/compress/graph_builder.h"
#include "workers/compress/model.h"
#include "workers/engine/reference/reference.h"

namespace kerf::compress {
namespace {

using testing::GraphBuilder;
using ::testing::HasSubstr;
using testing::Numbers;
using testing::Tensor;

/// The model with other weights in its first (0) or second (1) layer.
graph::Graph changed(const PreparedModel& model, std::size_t layer, float factor) {
  graph::Graph out = model.graph;
  std::size_t seen = 0;
  for (graph::Node& node : out.nodes) {
    if (!graph::is_layer(out, node) || seen++ != layer) continue;
    Tensor weights = *out.constant(node.inputs[1]);
    for (float& weight : weights.mutable_as<float>()) weight *= factor;
    out.initializers[node.inputs[1]] = weights;
  }
  return out;
}

PreparedModel model(std::int64_t batch) {
  GraphBuilder b(31);
  const auto r = b.relu("r", b.conv("a", b.input("x", {batch, 2, 5, 5}), 2, 3));
  b.gemm("fc", b.flatten("flat", r), 75, 4);
  return *prepare(b.finish({"fc"}));
}

TEST(Calibration, StatisticsAreThoseOfAPlainRunOverAllSamples) {
  for (const std::int64_t batch : {-1, 1}) {  // a fixed batch of one takes any number of samples
    const PreparedModel prepared = model(batch);
    const Tensor x = Numbers(32).tensor({45, 2, 5, 5});  // a batch of 32, and 13 more
    Calibration calibration(prepared, {x}, 1);
    EXPECT_EQ(calibration.samples(), 45);
    const auto got = calibration.statistics(prepared.graph, "", {"x", "r", "flat"});
    ASSERT_TRUE(got.has_value()) << got.error().message;
    // Reference: the free-batch model by the plain kernels.
    const auto values = *engine::run_reference_values(model(-1).graph, {x});
    for (const std::string value : {"x", "r", "flat"}) {
      const ValueStatistics& statistics = *got->at(value);
      const auto all = values.at(value).to_floats();
      EXPECT_EQ(statistics.count, static_cast<std::int64_t>(all.size())) << value;
      EXPECT_EQ(statistics.samples, 45);
      EXPECT_NEAR(statistics.max, *std::max_element(all.begin(), all.end()), 1e-4) << value;
      EXPECT_NEAR(statistics.min, *std::min_element(all.begin(), all.end()), 1e-4) << value;
      const std::size_t size = all.size() / 45;
      const auto mean = statistics.mean();
      ASSERT_EQ(mean.size(), size);
      for (std::size_t i = 0; i < size; ++i) {
        double sum = 0;
        for (std::size_t s = 0; s < 45; ++s) sum += all[s * size + i];
        EXPECT_NEAR(mean[i], sum / 45, 1e-4);
      }
    }
  }
}

TEST(Calibration, AVariantIsSeenOnFewSamplesUnlessMoreAreAskedFor) {
  const PreparedModel prepared = model(-1);
  const graph::Graph other = changed(prepared, 0, 2.0F);
  for (const bool more : {false, true}) {
    Calibration calibration(prepared, {Numbers(33).tensor({150, 2, 5, 5})}, 1);
    if (more) calibration.see_variants_on(Calibration::kModelSamples);
    const auto got = calibration.statistics(other, "other", {"r"});
    ASSERT_TRUE(got.has_value()) << got.error().message;
    EXPECT_EQ(got->at("r")->samples, more ? 150 : Calibration::kVariantSamples);
  }
}

TEST(Calibration, KeepsWhatItHasSeen) {
  const PreparedModel prepared = model(-1);
  Calibration calibration(prepared, {Numbers(33).tensor({10, 2, 5, 5})}, 1);
  const auto first = calibration.statistics(prepared.graph, "", {"r"});
  ASSERT_TRUE(first.has_value());
  for (int i = 0; i < 60; ++i) {  // more variants than are kept
    ASSERT_TRUE(calibration
                    .statistics(changed(prepared, 0, 0.5F + static_cast<float>(i)),
                                "variant " + std::to_string(i), {"r"})
                    .has_value());
  }
  const auto again = calibration.statistics(prepared.graph, "", {"r", "flat"});
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(first->at("r"), again->at("r")) << "the model's own statistics are never dropped";
}

TEST(Calibration, WhatComesBeforeAVariantsChangeIsNotTakenAgain) {
  const PreparedModel prepared = model(-1);
  Calibration calibration(prepared, {Numbers(33).tensor({10, 2, 5, 5})}, 1);
  const auto own = calibration.statistics(prepared.graph, "", {"x", "r", "fc"});
  ASSERT_TRUE(own.has_value());
  const auto second = calibration.statistics(changed(prepared, 1, 2.0F), "second", {"x", "r", "fc"});
  ASSERT_TRUE(second.has_value());
  EXPECT_EQ(second->at("x"), own->at("x"));
  EXPECT_EQ(second->at("r"), own->at("r"));
  EXPECT_NE(second->at("fc"), own->at("fc"));
  EXPECT_NE(second->at("fc")->max, own->at("fc")->max);
  const auto first = calibration.statistics(changed(prepared, 0, 2.0F), "first", {"x", "r"});
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(first->at("x"), own->at("x"));
  EXPECT_NE(first->at("r"), own->at("r"));
  EXPECT_GT(first->at("r")->max, own->at("r")->max);
}

TEST(Calibration, AVariantsMeansAreTakenWhenTheyAreAskedFor) {
  const PreparedModel prepared = model(-1);
  const Tensor x = Numbers(33).tensor({10, 2, 5, 5});
  Calibration calibration(prepared, {x}, 1);
  const graph::Graph other = changed(prepared, 0, 2.0F);
  const auto ranges = calibration.statistics(other, "other", {"r"}, false);
  ASSERT_TRUE(ranges.has_value());
  EXPECT_TRUE(ranges->at("r")->mean().empty());
  const ValueStatistics before = *ranges->at("r");
  const auto both = calibration.statistics(other, "other", {"r"});
  ASSERT_TRUE(both.has_value());
  Calibration fresh(prepared, {x}, 1);
  const auto at_once = fresh.statistics(other, "other", {"r"});
  ASSERT_TRUE(at_once.has_value());
  EXPECT_EQ(both->at("r")->mean(), at_once->at("r")->mean());
  EXPECT_EQ(both->at("r")->mean().size(), 75U);
  // The rest is the same with and without them.
  EXPECT_EQ(both->at("r")->positive, before.positive);
  EXPECT_EQ(both->at("r")->count, before.count);
  EXPECT_EQ(both->at("r")->max, before.max);
}

TEST(Calibration, NamesAValueThatIsNotFinite) {
  const PreparedModel prepared = model(-1);
  Tensor x = Numbers(34).tensor({3, 2, 5, 5});
  x.mutable_as<float>()[60] = std::numeric_limits<float>::max();
  Calibration calibration(prepared, {x}, 1);
  const auto got = calibration.statistics(prepared.graph, "", {"r"});
  ASSERT_FALSE(got.has_value());
  EXPECT_EQ(got.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_THAT(got.error().message, HasSubstr("'r' is not finite"));
}

TEST(Calibration, RefusesDataThatDoesNotFit) {
  const PreparedModel prepared = model(-1);
  Calibration none(prepared, {Tensor(graph::DType::kF32, {0, 2, 5, 5})}, 1);
  EXPECT_FALSE(none.statistics(prepared.graph, "", {"r"}).has_value());
  Calibration narrow(prepared, {Tensor(graph::DType::kF32, {4, 2, 5, 4})}, 1);
  const auto got = narrow.statistics(prepared.graph, "", {"r"});
  ASSERT_FALSE(got.has_value());
  EXPECT_EQ(got.error().code, ErrorCode::kInvalidArgument);
  Calibration missing(prepared, {}, 1);
  EXPECT_FALSE(missing.statistics(prepared.graph, "", {"r"}).has_value());
}

}  // namespace
}  // namespace kerf::compress
