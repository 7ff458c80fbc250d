#include "workers/measure/measure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <random>
#include <set>

#include "workers/compress/model.h"
#include "workers/engine/executor.h"

namespace kerf::measure {
namespace {

using graph::DType;
using graph::Graph;
using graph::Tensor;
using testing::Contains;
using testing::HasSubstr;
using testing::Key;
using testing::Not;

constexpr std::int64_t kFeatures = 16;
constexpr std::int64_t kHidden = 24;
constexpr std::int64_t kClasses = 4;

Tensor random_tensor(const graph::Shape& shape, std::uint64_t seed, float scale = 1) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, scale);
  Tensor tensor(DType::kF32, shape);
  for (float& value : tensor.mutable_as<float>()) value = normal(random);
  return tensor;
}

/// Gemm, Relu, Gemm.
Graph perceptron() {
  Graph graph;
  graph.name = "perceptron";
  graph.inputs = {{"x", DType::kF32, {-1, kFeatures}}};
  graph.outputs = {{"out", DType::kF32, {-1, kClasses}}};
  graph.initializers["w1"] = random_tensor({kHidden, kFeatures}, 1, 0.3F);
  graph.initializers["b1"] = random_tensor({kHidden}, 2, 0.1F);
  graph.initializers["w2"] = random_tensor({kClasses, kHidden}, 3, 0.3F);
  graph.initializers["b2"] = random_tensor({kClasses}, 4, 0.1F);
  const std::map<std::string, graph::Attribute> transposed = {{"transB", std::int64_t{1}}};
  graph.nodes = {{"fc1", "Gemm", "", {"x", "w1", "b1"}, {"h"}, transposed},
                 {"relu", "Relu", "", {"h"}, {"r"}, {}},
                 {"fc2", "Gemm", "", {"r", "w2", "b2"}, {"out"}, transposed}};
  return graph;
}

class MeasureTest : public testing::Test {
 protected:
  MeasureTest() {
    auto prepared = compress::prepare(perceptron());
    if (!prepared.has_value()) throw std::runtime_error(prepared.error().message);
    model_.emplace(std::move(*prepared));
    evaluation_.samples = 700;
    evaluation_.inputs = {random_tensor({700, kFeatures}, 5)};
    const auto outputs = engine::run_all(model_->graph, evaluation_.inputs, 1);
    if (!outputs.has_value()) throw std::runtime_error(outputs.error().message);
    // The model itself is right about all samples but every tenth.
    const auto scores = outputs->front().as<float>();
    for (std::size_t i = 0; i < 700; ++i) {
      const auto first = scores.begin() + static_cast<std::ptrdiff_t>(i) * kClasses;
      const auto top = std::max_element(first, first + kClasses) - first;
      evaluation_.classes.push_back(i % 10 == 0 ? (top + 1) % kClasses : top);
    }
    request_.latency_seconds = 0.02;
  }

  [[nodiscard]] compress::CompressedModel compressed(const std::string& plan) const {
    const auto parsed = CompressionPlan::parse(*parse_json(plan));
    if (!parsed.has_value()) throw std::runtime_error(parsed.error().message);
    auto out = compress::compress(*model_, *parsed, nullptr);
    if (!out.has_value()) throw std::runtime_error(out.error().message);
    return std::move(*out);
  }

  Result<Measurement> measured(const std::string& plan, HostLock* lock = nullptr) {
    return measure_candidate(compressed(plan), baseline(), evaluation_, request_, lock, progress_);
  }

  Baseline& baseline() {
    if (!baseline_) baseline_.emplace(model_->graph);
    return *baseline_;
  }

  std::optional<compress::PreparedModel> model_;
  data::BoundData evaluation_;
  MeasureRequest request_;
  Progress progress_;
  std::optional<Baseline> baseline_;
};

TEST_F(MeasureTest, TheBaselineAgainstItselfLosesNothing) {
  const auto out = measured("{}");
  ASSERT_TRUE(out.has_value()) << out.error().message;
  EXPECT_EQ(out->samples, 700);
  EXPECT_DOUBLE_EQ(out->metrics.at("accuracy"), 0.9);
  EXPECT_EQ(out->ci95.at("accuracy"), wilson_interval(630, 700));
  EXPECT_EQ(out->metrics.at("accuracy_drop"), 0);
  EXPECT_EQ(out->metrics.at("agreement"), 1);
  EXPECT_NEAR(out->metrics.at("kl"), 0, 1e-9);
  EXPECT_GT(out->metrics.at("sqnr_db"), 100);
}

TEST_F(MeasureTest, EveryMetricThatCanBeHadIsThere) {
  const auto out = measured("{}");
  ASSERT_TRUE(out.has_value()) << out.error().message;
  for (const MetricInfo& metric : metrics()) {
    const std::string name(metric.name);
    if (name == "mae" || name == "rmse" || name == "energy_uj") continue;
    EXPECT_THAT(out->metrics, Contains(Key(name)));
  }
  EXPECT_GT(out->metrics.at("latency_p50_us"), 0);
  EXPECT_LE(out->metrics.at("latency_p50_us"), out->metrics.at("latency_p90_us"));
  EXPECT_LE(out->metrics.at("latency_p90_us"), out->metrics.at("latency_p99_us"));
  EXPECT_LE(out->ci95.at("latency_p50_us")[0], out->metrics.at("latency_p50_us"));
  EXPECT_GE(out->ci95.at("latency_p50_us")[1], out->metrics.at("latency_p50_us"));
  EXPECT_THAT(out->ci95, Contains(Key("latency_ratio")));
  EXPECT_GE(out->runs, 1);
  EXPECT_EQ(out->hardware.threads, 1);
  EXPECT_FALSE(out->hardware.isa.empty());
  for (const char* phase : {"compile", "baseline", "accuracy", "latency", "layers", "wait_lock"}) {
    EXPECT_THAT(out->phase_ms, Contains(Key(phase)));
    EXPECT_GE(out->phase_ms.at(phase), 0) << phase;
  }
}

TEST_F(MeasureTest, LayersSumToTheWhole) {
  const auto out = measured("{}");
  ASSERT_TRUE(out.has_value()) << out.error().message;
  double sum = 0;
  std::set<std::string> names;
  for (const LayerMeasurement& layer : out->layers) {
    sum += layer.us;
    names.insert(layer.name);
  }
  EXPECT_NEAR(sum, out->metrics.at("latency_p50_us"), 1e-6 * sum);
  EXPECT_TRUE(names.contains("fc1") && names.contains("fc2"));
}

TEST_F(MeasureTest, RoundedWeightsCostWhatTheyCostEveryTime) {
  const std::string plan = R"({"layers": {"*": {"weight_bits": 2}}})";
  const auto first = measured(plan);
  const auto second = measured(plan);
  ASSERT_TRUE(first.has_value() && second.has_value());
  EXPECT_LT(first->metrics.at("agreement"), 1);
  EXPECT_GT(first->metrics.at("kl"), 0);
  EXPECT_LT(first->metrics.at("sqnr_db"), 40);
  EXPECT_LT(first->metrics.at("storage_bytes"), measured("{}")->metrics.at("storage_bytes"));
  for (const char* name : {"accuracy", "accuracy_drop", "agreement", "kl", "sqnr_db", "storage_bytes"}) {
    EXPECT_EQ(first->metrics.at(name), second->metrics.at(name)) << name;
  }
  EXPECT_NEAR(first->metrics.at("accuracy") + first->metrics.at("accuracy_drop"), 0.9, 1e-12);
}

TEST_F(MeasureTest, OnlyWhatIsAskedForIsMeasured) {
  request_.metrics = {"accuracy", "storage_bytes"};
  const auto quality = measured("{}");
  ASSERT_TRUE(quality.has_value());
  EXPECT_THAT(quality->metrics, Contains(Key("accuracy")));
  EXPECT_THAT(quality->metrics, Not(Contains(Key("latency_p50_us"))));
  EXPECT_TRUE(quality->layers.empty());
  request_.metrics = {"latency_p50_us"};
  const auto latency = measured("{}");
  ASSERT_TRUE(latency.has_value());
  EXPECT_THAT(latency->metrics, Not(Contains(Key("accuracy"))));
  EXPECT_THAT(latency->metrics, Contains(Key("latency_p50_us")));
}

TEST_F(MeasureTest, WithoutLabelsTheBaselineIsTheJudge) {
  evaluation_.classes.clear();
  const auto out = measured("{}");
  ASSERT_TRUE(out.has_value());
  EXPECT_THAT(out->metrics, Not(Contains(Key("accuracy"))));
  EXPECT_EQ(out->metrics.at("agreement"), 1);
}

TEST_F(MeasureTest, BatchesAreTimedAsAWhole) {
  request_.batch = 32;
  request_.metrics = {"throughput_sps", "latency_p50_us"};
  const auto out = measured("{}");
  ASSERT_TRUE(out.has_value()) << out.error().message;
  EXPECT_NEAR(out->metrics.at("throughput_sps"), 32e6 / out->metrics.at("latency_p50_us"), 1e-3);
}

TEST_F(MeasureTest, AloneThereIsNoRatioAndNoQuality) {
  const auto out = measure_alone(compressed("{}"), request_, nullptr, progress_);
  ASSERT_TRUE(out.has_value()) << out.error().message;
  EXPECT_THAT(out->metrics, Contains(Key("latency_p50_us")));
  EXPECT_THAT(out->metrics, Contains(Key("weight_bytes")));
  EXPECT_THAT(out->metrics, Not(Contains(Key("latency_ratio"))));
  EXPECT_THAT(out->metrics, Not(Contains(Key("agreement"))));
}

constexpr const char* kPoorPlan = R"({"layers": {"*": {"prune": {"structure": "unstructured", "ratio": 0.8}}}})";

TEST_F(MeasureTest, PoorCandidateIsStoppedAndKeepsWhatItShowed) {
  request_.racing = RacingTerms{0.001, {{"accuracy_drop", 0.02}}, "", {}};
  const auto out = measured(kPoorPlan);
  ASSERT_TRUE(out.has_value()) << out.error().message;
  EXPECT_THAT(out->pruned, HasSubstr("accuracy_drop is surely above 0.02, the study's limit"));
  EXPECT_EQ(out->samples, 256);
  EXPECT_GT(out->metrics.at("accuracy_drop"), 0.1);
  EXPECT_THAT(out->ci95, Contains(Key("accuracy")));
  EXPECT_THAT(out->metrics, Contains(Key("storage_bytes")));
  EXPECT_THAT(out->metrics, Not(Contains(Key("latency_p50_us"))));
  const auto again = Measurement::parse(out->to_json());
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->pruned, out->pruned);
  EXPECT_EQ(out->to_json()["pruned"], true);
}

TEST_F(MeasureTest, GoodCandidateIsMeasuredToTheEndBesideARace) {
  request_.racing = RacingTerms{0.001, {{"accuracy_drop", 0.02}}, "", {}};
  const auto out = measured("{}");
  ASSERT_TRUE(out.has_value()) << out.error().message;
  EXPECT_EQ(out->pruned, "");
  EXPECT_EQ(out->samples, 700);
  EXPECT_THAT(out->metrics, Contains(Key("latency_p50_us")));
}

TEST_F(MeasureTest, RivalThatIsBetterInEverythingStopsACandidate) {
  request_.racing = RacingTerms{0.001, {}, "accuracy_drop", {{4, 0.0, {{"storage_bytes", 1}, {"latency_p50_us", 1e-6}}}}};
  const auto beaten = measured(kPoorPlan);
  ASSERT_TRUE(beaten.has_value()) << beaten.error().message;
  EXPECT_THAT(beaten->pruned, HasSubstr("trial 4 of the front"));
  request_.racing->rivals[0].others["latency_p50_us"] = 1e9;
  const auto faster = measured(kPoorPlan);
  ASSERT_TRUE(faster.has_value()) << faster.error().message;
  EXPECT_EQ(faster->pruned, "");
}

TEST_F(MeasureTest, WhatIsKnownAfterAllSamplesIsOnlyStoppedWhereLatencyWouldFollow) {
  // Lost by a sample too many: no part of the set shows it.
  const auto whole = measured(kPoorPlan);
  ASSERT_TRUE(whole.has_value());
  const double drop = whole->metrics.at("accuracy_drop");
  request_.racing = RacingTerms{1e-12, {{"accuracy_drop", drop - 0.5 / 700}}, "", {}};
  const auto timed = measured(kPoorPlan);
  ASSERT_TRUE(timed.has_value());
  EXPECT_NE(timed->pruned, "");
  EXPECT_DOUBLE_EQ(timed->metrics.at("accuracy_drop"), drop);
  request_.metrics = {"accuracy", "accuracy_drop"};
  const auto untimed = measured(kPoorPlan);
  ASSERT_TRUE(untimed.has_value());
  EXPECT_EQ(untimed->pruned, "");
}

TEST_F(MeasureTest, EarlySamplesAreAFairDrawOfASortedSet) {
  // All samples on which the candidate differs stand at the end; the first piece sees its share of them.
  const auto whole = measured(kPoorPlan);
  ASSERT_TRUE(whole.has_value());
  const auto outputs = engine::run_all(compressed(kPoorPlan).graph, evaluation_.inputs, 1);
  const auto own = engine::run_all(model_->graph, evaluation_.inputs, 1);
  ASSERT_TRUE(outputs.has_value() && own.has_value());
  const auto top = [](const Tensor& scores, std::size_t n) {
    const auto first = scores.as<float>().begin() + static_cast<std::ptrdiff_t>(n) * kClasses;
    return std::max_element(first, first + kClasses) - first;
  };
  std::vector<std::size_t> order(700);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_partition(order.begin(), order.end(), [&](std::size_t n) { return top(outputs->front(), n) == top(own->front(), n); });
  data::BoundData sorted = evaluation_;
  sorted.inputs[0] = Tensor(DType::kF32, {700, kFeatures});
  for (std::size_t to = 0; to < order.size(); ++to) {
    const auto from = evaluation_.inputs[0].as<float>().subspan(order[to] * kFeatures, kFeatures);
    std::copy(from.begin(), from.end(), sorted.inputs[0].mutable_as<float>().begin() + static_cast<std::ptrdiff_t>(to * kFeatures));
    sorted.classes[to] = evaluation_.classes[order[to]];
  }
  evaluation_ = sorted;
  request_.racing = RacingTerms{0.001, {{"accuracy_drop", 0.02}}, "", {}};
  const auto raced = measured(kPoorPlan);
  ASSERT_TRUE(raced.has_value());
  EXPECT_EQ(raced->samples, 256);
  EXPECT_NEAR(raced->metrics.at("agreement"), whole->metrics.at("agreement"), 0.1);
}

TEST_F(MeasureTest, ProgressIsToldInOrder) {
  std::vector<std::string> phases;
  double last_share = 0;
  progress_ = [&](const std::string& phase, double share) {
    if (phases.empty() || phases.back() != phase) phases.push_back(phase);
    if (phase == "accuracy") {
      EXPECT_GE(share, last_share);
      last_share = share;
    }
  };
  ASSERT_TRUE(measured("{}").has_value());
  EXPECT_EQ(last_share, 1);
  EXPECT_THAT(phases, testing::ElementsAre("compile", "accuracy", "latency", "layers"));
}

TEST_F(MeasureTest, CancelsBetweenPieces) {
  int asked = 0;
  request_.cancelled = [&] { return ++asked > 2; };
  const auto out = measured("{}");
  ASSERT_FALSE(out.has_value());
  EXPECT_EQ(out.error().code, ErrorCode::kCancelled);
}

TEST_F(MeasureTest, LatencyWaitsForTheHost) {
  std::string folder = (std::filesystem::temp_directory_path() / "kerf-measure-XXXXXX").string();
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  {
    auto mine = HostLock::open(folder);
    auto other = HostLock::open(folder);
    ASSERT_TRUE(mine.has_value() && other.has_value());
    EXPECT_TRUE(measured("{}", &*mine).has_value()) << "a free host is no obstacle";
    // Somebody computes: quality may be measured beside it, latency may not.
    const auto turn = other->shared();
    request_.wait.limit = std::chrono::milliseconds(0);
    request_.metrics = {"accuracy"};
    EXPECT_TRUE(measured("{}", &*mine).has_value());
    request_.metrics = {"latency_p50_us"};
    const auto refused = measured("{}", &*mine);
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, ErrorCode::kDeadlineExceeded);
  }
  std::filesystem::remove_all(folder);
}

TEST_F(MeasureTest, AnotherEvaluationSetIsNotMixedUpWithTheFirst) {
  ASSERT_TRUE(measured("{}").has_value());
  evaluation_ = evaluation_.slice(0, 100);
  evaluation_.inputs[0].mutable_as<float>()[0] += 5;
  const auto out = measured("{}");
  ASSERT_TRUE(out.has_value());
  EXPECT_EQ(out->samples, 100);
  EXPECT_EQ(out->metrics.at("agreement"), 1) << "outputs of the first set would disagree";
}

TEST_F(MeasureTest, BadRequestsAreNamed) {
  request_.batch = 0;
  EXPECT_EQ(measured("{}").error().message, "measure.batch: 0; expected 1 to 65536");
  request_.batch = 1;
  request_.threads = 0;
  EXPECT_EQ(measured("{}").error().message, "measure.threads: 0; expected 1 to 1024");
  request_.threads = 1;
  request_.metrics = {"speed"};
  EXPECT_THAT(measured("{}").error().message, HasSubstr("'speed'"));
}

TEST_F(MeasureTest, ABrokenCandidateIsMeasuredAndSaidToBeBroken) {
  compress::CompressedModel broken = compressed("{}");
  broken.graph.initializers.at("w2").mutable_as<float>()[0] = std::nanf("");
  const auto out = measure_candidate(broken, baseline(), evaluation_, request_, nullptr, progress_);
  ASSERT_TRUE(out.has_value()) << out.error().message;
  EXPECT_THAT(out->warnings, Contains(HasSubstr("NaN or Inf in 700 of 700 samples")));
  EXPECT_LT(out->metrics.at("accuracy"), 0.9);
  EXPECT_THAT(out->metrics, Not(Contains(Key("kl"))));
}

TEST(RandomInputs, FollowTheGraphAndTheSeed) {
  Graph graph = perceptron();
  graph.inputs.push_back({"ids", DType::kS64, {1, 1}});
  const auto one = random_inputs(graph, 3, 1);
  const auto same = random_inputs(graph, 3, 1);
  const auto other = random_inputs(graph, 3, 2);
  ASSERT_TRUE(one.has_value() && same.has_value() && other.has_value());
  EXPECT_THAT((*one)[0].shape(), testing::ElementsAre(3, kFeatures));
  EXPECT_THAT((*one)[1].shape(), testing::ElementsAre(3, 1));
  EXPECT_EQ((*one)[0].to_floats(), (*same)[0].to_floats());
  EXPECT_NE((*one)[0].to_floats(), (*other)[0].to_floats());
  for (const std::int64_t value : (*one)[1].to_integers()) EXPECT_TRUE(value == 0 || value == 1);
  graph.inputs[0].shape = {-1, -1};
  EXPECT_THAT(random_inputs(graph, 3, 1).error().message, HasSubstr("takes [?, ?]; expected data"));
}

}  // namespace
}  // namespace kerf::measure
