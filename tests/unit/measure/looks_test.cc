#include "workers/measure/looks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "tests/unit/measure/looks_model.h"
#include "workers/compress/compress.h"
#include "workers/measure/accuracy.h"
#include "workers/measure/baseline_points.h"
#include "workers/measure/batch_runner.h"
#include "workers/measure/look_length.h"

namespace kerf::measure {
namespace {

using graph::DType;
using graph::Graph;
using graph::Tensor;

constexpr std::int64_t kSamples = 24;

class LooksTest : public testing::Test {
 protected:
  LooksTest() : inputs_{normal_tensor({kSamples, 3, 12, 12}, 5, 1.0F)} {
    auto prepared = compress::prepare(chain());
    if (!prepared.has_value()) throw std::runtime_error(prepared.error().message);
    model_.emplace(std::move(*prepared));
    calibration_.emplace(*model_, inputs_, 1);
  }

  static Json alone(const std::string& layer, const Json& keys) { return {{"layers", {{layer, keys}}}}; }
  /// Integers on every processor: without VNNI sums of 8 bits saturate.
  static Json seven() { return {{"weight_bits", 7}, {"activation_bits", 8}}; }

  Result<LookResult> looks(const LookRequest& request, const LookSettings& settings = {}) {
    return take_looks(*model_, &*calibration_, inputs_, request, settings, nullptr, {});
  }

  /// The first output of all samples, computed whole.
  Tensor whole(const Graph& graph) {
    auto compiled = Compiled::make(graph, inputs_, {.batch = 8});
    EXPECT_TRUE(compiled.has_value());
    std::vector<std::int64_t> all(kSamples);
    std::iota(all.begin(), all.end(), 0);
    return *run_samples(*compiled, inputs_, all, [] { return Result<void>(); });
  }

  std::vector<Tensor> inputs_;
  std::optional<compress::PreparedModel> model_;
  std::optional<compress::Calibration> calibration_;
};

TEST_F(LooksTest, DamageIsThatOfTheWholePlanWhereverItsRunBegins) {
  LookRequest request;
  request.damage = {alone("c1", seven()), alone("c4", seven()), alone("c4", {{"weight_bits", 2}, {"activation_bits", 8}}),
                    alone("c3", {{"prune", {{"structure", "channel"}, {"ratio", 0.5}}}}), alone("fc", seven()),
                    alone("c2", {{"weight_bits", 16}}), alone("c4", {{"weight_bits", 16}}), alone("c2", {{"weight_bits", 4}}),
                    alone("c3", {{"weight_bits", 8}, {"activation_bits", 8}, {"activation_range", "dynamic"}}),
                    {{"layers", {{"c2", seven()}, {"c3", seven()}}}}, {{"layers", {{"*", seven()}}}},
                    alone("c1", {{"rank", 0.5}}), Json::object()};
  const auto seen = looks(request);
  ASSERT_TRUE(seen.has_value()) << seen.error().message;
  ASSERT_EQ(seen->damage.size(), request.damage.size());
  const Tensor reference = whole(model_->graph);
  for (std::size_t i = 0; i < request.damage.size(); ++i) {
    SCOPED_TRACE(canonical_text(request.damage[i]));
    ASSERT_TRUE(seen->damage[i].look.has_value()) << seen->damage[i].error;
    const DamageLook& look = *seen->damage[i].look;
    const auto made = compress::compress(*model_, *CompressionPlan::parse(request.damage[i]), &*calibration_);
    ASSERT_TRUE(made.has_value());
    QualityMeter meter(output_kind(model_->graph));
    data::BoundData unlabelled;
    unlabelled.samples = kSamples;
    ASSERT_TRUE(meter.add(whole(made->graph), &reference, unlabelled).has_value());
    Measurement expected;
    meter.report(expected);
    // Of the log-scores: floats that are summed in another order are off by at most 5 sums of 144 and of
    // 27 terms times 2^-24 of their size, tau in all, and with D = d² the square of a sum off by tau is off by
    // 2·d·tau + tau². One rounding in 10,000 may go the other way: a step's square beside a twelfth
    // of it as the noise of all, √0.0012 of d.
    const double tau = 5 * 144 * 0x1p-24;
    const double expected_scores = score_noise(reference, whole(made->graph), output_kind(model_->graph));
    EXPECT_NEAR(look.scores, expected_scores,
                2 * std::sqrt(expected_scores) * tau + tau * tau + 2 * std::sqrt(0.0012) * expected_scores);
    // Sums in another order, and an integer that may round the other way.
    EXPECT_NEAR(look.kl, expected.metrics["kl"], 1e-6 + 0.02 * expected.metrics["kl"]);
    if (expected.metrics["sqnr_db"] < 100) {
      EXPECT_NEAR(10 * std::log10(look.noise), -expected.metrics["sqnr_db"], 0.3);
    }
    EXPECT_NEAR(look.flips, 1 - expected.metrics["agreement"], 1.01 / kSamples);
    EXPECT_EQ(look.storage_bytes, made->storage_bytes);
    EXPECT_EQ(look.macs, made->macs);
  }
  EXPECT_LT(seen->damage[1].look->noise, seen->damage[2].look->noise) << "2 bits hurt more than 8";
}

TEST_F(LooksTest, APlanStartsFromTheLastPointThatItComputesAlike) {
  auto points = BaselinePoints::make(model_->graph, inputs_, 1, [] { return Result<void>(); });
  ASSERT_TRUE(points.has_value());
  EXPECT_GE(points->points(), 4U);
  int batches = 0;
  const auto count = [&]() -> Result<void> {
    ++batches;
    return {};
  };
  // Made of the model itself: nothing is left but what follows the last point.
  const auto same = points->run(model_->graph, count);
  ASSERT_TRUE(same.has_value());
  ASSERT_EQ(same->bytes(), points->output().bytes());
  EXPECT_EQ(std::memcmp(same->raw(), points->output().raw(), same->bytes()), 0);
  EXPECT_GT(batches, 0);
}

TEST_F(LooksTest, CostsSayWhatEachLayerTakesAndHolds) {
  LookRequest request;
  request.cost = {Json::object(), {{"layers", {{"*", seven()}}}},
                  {{"layers", {{"c2", seven()}, {"c4", seven()}}}}};
  const auto seen = looks(request);
  ASSERT_TRUE(seen.has_value()) << seen.error().message;
  for (const auto& one : seen->cost) {
    ASSERT_TRUE(one.look.has_value()) << one.error;
    EXPECT_EQ(one.look->layers.size(), 5U);
    std::int64_t bytes = 0;
    for (const auto& [name, layer] : one.look->layers) {
      EXPECT_GT(layer.us, 0) << name;
      EXPECT_GE(layer.before_us, 0) << name;
      EXPECT_GT(layer.weight_bytes, 0) << name;
      bytes += layer.weight_bytes;
    }
    EXPECT_LE(bytes, one.look->weight_bytes);
    EXPECT_GT(one.look->total_us(), 0);
    EXPECT_GT(one.look->macs, 0);
  }
  EXPECT_LT(seen->cost[1].look->layers.at("c2").weight_bytes, seen->cost[0].look->layers.at("c2").weight_bytes);
  EXPECT_EQ(seen->cost[2].look->layers.at("c3").weight_bytes, seen->cost[0].look->layers.at("c3").weight_bytes);
  EXPECT_LT(seen->cost[1].look->storage_bytes, seen->cost[0].look->storage_bytes);
  EXPECT_GT(seen->cost[2].look->layers.at("c2").before_us, 0) << "f32 is quantized before it";
  EXPECT_GT(seen->seconds, 0);
}

TEST_F(LooksTest, PlansThatRunTheSameKernelsCostTheSame) {
  LookRequest request;
  request.cost = {Json::object(), {{"layers", {{"*", {{"weight_bits", 4}}}}}}, {{"layers", {{"*", seven()}}}},
                  {{"layers", {{"*", {{"weight_bits", 4}, {"activation_bits", 8}}}}}}};
  const auto seen = looks(request);
  ASSERT_TRUE(seen.has_value()) << seen.error().message;
  const auto us = [&](std::size_t i) { return seen->cost[i].look->layers.at("c2").us; };
  EXPECT_EQ(us(0), us(1)) << "4-bit weights run in f32";
  EXPECT_EQ(us(2), us(3));
  EXPECT_NE(us(0), us(2));
  EXPECT_LT(seen->cost[1].look->storage_bytes, seen->cost[0].look->storage_bytes);
}

TEST_F(LooksTest, ActivationsOfTheCalibrationSetAreSeenOnceAndApart) {
  LookRequest request;
  for (const char* layer : {"c1", "c2", "c3", "c4"}) request.damage.push_back(alone(layer, seven()));
  const auto seen = looks(request);
  ASSERT_TRUE(seen.has_value());
  EXPECT_GT(seen->statistics_seconds, 0);
  EXPECT_GT(seen->seconds, 0);
  request.damage = {alone("c1", {{"weight_bits", 16}})};
  const auto weights_only = looks(request);
  ASSERT_TRUE(weights_only.has_value());
  EXPECT_EQ(weights_only->statistics_seconds, 0);
}

TEST_F(LooksTest, AFactorizedLayerIsOneLayer) {
  LookRequest request;
  request.cost = {alone("c2", {{"rank", 0.5}})};
  const auto seen = looks(request);
  ASSERT_TRUE(seen.has_value()) << seen.error().message;
  ASSERT_TRUE(seen->cost[0].look.has_value()) << seen->cost[0].error;
  EXPECT_EQ(seen->cost[0].look->layers.size(), 5U);
  EXPECT_TRUE(seen->cost[0].look->layers.contains("c2"));
}

TEST_F(LooksTest, AnImpossiblePlanIsTheLooksErrorAndTheOthersAreTaken) {
  LookRequest request;
  request.damage = {alone("nobody", seven()), alone("c2", seven()), Json{{"layers", 3}}};
  request.cost = {alone("nobody", seven()), Json::object()};
  const auto seen = looks(request);
  ASSERT_TRUE(seen.has_value());
  EXPECT_NE(seen->damage[0].error.find("nobody"), std::string::npos) << seen->damage[0].error;
  EXPECT_TRUE(seen->damage[1].look.has_value());
  EXPECT_FALSE(seen->damage[2].error.empty());
  EXPECT_FALSE(seen->cost[0].error.empty());
  EXPECT_TRUE(seen->cost[1].look.has_value());
}

TEST_F(LooksTest, WhatThereIsNoTimeForIsLeftOut) {
  LookRequest request;
  request.damage.assign(40, alone("c2", seven()));
  request.cost = {Json::object(), {{"layers", {{"*", seven()}}}}};
  request.seconds = 1e-9;
  const auto seen = looks(request);
  ASSERT_TRUE(seen.has_value());
  ASSERT_EQ(seen->damage.size(), 40U);
  ASSERT_EQ(seen->cost.size(), 2U);
  for (const auto& one : seen->damage) {
    EXPECT_FALSE(one.look.has_value());
    EXPECT_TRUE(one.error.empty());
  }
  EXPECT_FALSE(seen->cost[1].look.has_value());
}

TEST_F(LooksTest, UntimedCostsAreBytesAlone) {
  LookRequest request;
  request.cost = {Json::object(), {{"layers", {{"*", seven()}}}}};
  request.timed = false;
  const auto seen = looks(request);
  ASSERT_TRUE(seen.has_value());
  EXPECT_EQ(seen->cost[1].look->total_us(), 0);
  EXPECT_LT(seen->cost[1].look->storage_bytes, seen->cost[0].look->storage_bytes);
  EXPECT_GT(seen->cost[1].look->layers.at("c2").weight_bytes, 0);
}

TEST_F(LooksTest, CancellingEndsIt) {
  LookRequest request;
  request.damage = {alone("c2", seven())};
  LookSettings settings;
  settings.cancelled = [] { return true; };
  const auto seen = looks(request, settings);
  ASSERT_FALSE(seen.has_value());
  EXPECT_EQ(seen.error().code, ErrorCode::kCancelled);
}

TEST_F(LooksTest, ResultsAreTheSameAfterTheirWayAsJson) {
  LookRequest request;
  request.damage = {alone("c2", seven()), alone("nobody", seven())};
  request.cost = {Json::object()};
  const auto seen = looks(request);
  ASSERT_TRUE(seen.has_value());
  const auto back = LookResult::parse(Json::parse(canonical_text(seen->to_json())));
  ASSERT_TRUE(back.has_value()) << back.error().message;
  EXPECT_EQ(back->to_json(), seen->to_json());
  const auto asked = LookRequest::parse(Json::parse(canonical_text(request.to_json())));
  ASSERT_TRUE(asked.has_value());
  EXPECT_EQ(asked->damage, request.damage);
  EXPECT_FALSE(LookResult::parse({{"damage", {{{"kl", "x"}}}}, {"cost", Json::array()}, {"seconds", 1}}).has_value());
  EXPECT_FALSE(LookResult::parse({{"damage", Json::array()}, {"cost", Json::array()}}).has_value());
}

TEST(LookLength, OneInterruptionIsNotTakenForTheLengthOfALook) {
  LookLength length;
  EXPECT_EQ(length.expected(), 0);
  length.add(0.5);  // an interruption
  EXPECT_EQ(length.expected(), 0) << "one alone says nothing";
  length.add(0.01);
  length.add(0.03);
  length.add(0.02);
  EXPECT_EQ(length.expected(), 0.03);
  length.add(0.25);
  EXPECT_EQ(length.expected(), 0.25) << "two are a habit";
}

}  // namespace
}  // namespace kerf::measure
