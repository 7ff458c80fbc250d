#include "tests/unit/engine/support.h"
#include "workers/engine/tuning.h"

namespace kerf::engine::testing {
namespace {

using Ints = std::vector<std::int64_t>;

/// Convolution, residual sum, pooling and a Gemm, batch free; 8-bit where asked for.
Graph network(Random& random, bool integer) {
  Builder b;
  const auto rounded = [&](const std::string& value) { return integer ? b.rounded(value, 0.05F, 0, DType::kU8) : value; };
  const auto weights = [&](const Shape& shape) {
    if (!integer) return b.constant(random.f32(shape, 0.2F));
    return b.integer_weights(random.bytes(DType::kS8, shape, -127, 127), {0.002F}, 0);
  };
  const std::string x = rounded(b.input({-1, 4, 9, 9}));
  const std::string y = rounded(b.node("Relu", {b.node("Conv", {x, weights({8, 4, 3, 3})}, {{"pads", Ints{1, 1, 1, 1}}})}));
  const std::string z = b.node("Conv", {y, weights({8, 8, 3, 3})}, {{"pads", Ints{1, 1, 1, 1}}});
  const std::string sum = rounded(b.node("Relu", {b.node("Add", {z, y})}));
  const std::string flat = b.node("Flatten", {b.node("GlobalAveragePool", {sum})});
  b.output(b.node("Gemm", {flat, b.constant(random.f32({8, 5}))}));
  const auto simple = simplify(b.graph);
  EXPECT_TRUE(simple.has_value());
  return *simple;
}

Tensor run(const Graph& graph, const Tensor& samples, const ExecutorOptions& options) {
  const auto executor = Executor::compile(graph, options);
  EXPECT_TRUE(executor.has_value()) << (executor.has_value() ? "" : executor.error().message);
  if (!executor.has_value()) return {};
  EXPECT_EQ((*executor)->inputs()[0].shape, samples.shape());
  Tensor out((*executor)->outputs()[0].dtype, (*executor)->outputs()[0].shape);
  const void* from = samples.raw();
  void* to = out.mutable_raw();
  (*executor)->run({&from, 1}, {&to, 1});
  return out;
}

TEST(Cut, EveryCutGivesWhatOneBatchGives) {
  Random random;
  for (const bool integer : {false, true}) {
    const Graph graph = network(random, integer);
    const Tensor samples = random.positive({12, 4, 9, 9}, 0.0F, 6.0F);
    const Tensor wanted = run(graph, samples, {.batch = 12, .threads = 1, .cut = Cut{12, 1}});
    for (const Cut& cut : {Cut{1, 1}, Cut{4, 1}, Cut{3, 2}, Cut{1, 2}, Cut{5, 2}, Cut{100, 7}}) {
      const Tensor got = run(graph, samples, {.batch = 12, .threads = 2, .cut = cut});
      expect_close(got, wanted, sum_tolerance(72), "micro-batches of " + std::to_string(cut.micro) + " on " + std::to_string(cut.lanes));
    }
    const Tensor tuned = run(graph, samples, {.batch = 12, .threads = 2, .tune = true});
    expect_close(tuned, wanted, sum_tolerance(72), "tuned");
  }
}

TEST(Cut, StepsOnOneThreadBetweenStepsOfATeamGiveTheSame) {
  Random random;
  for (const bool integer : {false, true}) {
    const Graph graph = network(random, integer);
    const Tensor samples = random.positive({2, 4, 9, 9}, 0.0F, 6.0F);
    const Tensor wanted = run(graph, samples, {.batch = 2, .threads = 1});
    const auto whole = Executor::compile(graph, {.batch = 2, .threads = 2, .cut = Cut{2, 1, {}}});
    ASSERT_TRUE(whole.has_value());
    const std::size_t steps = (*whole)->steps().size();
    for (std::size_t first = 0; first < 4; ++first) {
      std::vector<int> teams(steps, 2);
      for (std::size_t i = first; i < steps; i += 2) teams[i] = 1;
      const Tensor got = run(graph, samples, {.batch = 2, .threads = 2, .cut = Cut{2, 1, teams}});
      expect_close(got, wanted, sum_tolerance(72), "one thread from step " + std::to_string(first));
    }
    // A list for another model is of no use, and does no harm.
    const Tensor other = run(graph, samples, {.batch = 2, .threads = 2, .cut = Cut{2, 1, {1}}});
    expect_close(other, wanted, sum_tolerance(72), "a list of another length");
  }
}

TEST(Cut, EveryStepOnOneThreadIsWhatOneThreadRuns) {
  Random random;
  for (const bool integer : {false, true}) {
    const Graph graph = network(random, integer);
    const auto one = Executor::compile(graph, {.batch = 1, .threads = 1});
    const auto whole = Executor::compile(graph, {.batch = 1, .threads = 2, .cut = Cut{1, 1, {}}});
    ASSERT_TRUE(one.has_value() && whole.has_value());
    const Cut ones{1, 1, std::vector<int>((*whole)->steps().size(), 1)};
    const auto executor = Executor::compile(graph, {.batch = 1, .threads = 2, .cut = ones});
    ASSERT_TRUE(executor.has_value());
    EXPECT_EQ((*executor)->cut(), ones);
    ASSERT_EQ((*executor)->steps().size(), (*one)->steps().size());
    for (std::size_t i = 0; i < (*one)->steps().size(); ++i) {
      EXPECT_EQ((*executor)->steps()[i].kernel, (*one)->steps()[i].kernel);
    }
    const Tensor samples = random.positive({1, 4, 9, 9}, 0.0F, 6.0F);
    expect_close(run(graph, samples, {.batch = 1, .threads = 2, .cut = ones}), run(graph, samples, {.batch = 1}), 0.0F, "ones");
  }
}

TEST(Cut, GuessesBeginWithWholeSamplesForEachThreadThatFitTheCache) {
  // 300 KiB a sample: three of them fit; 12 has the divisor 3.
  const auto cuts = possible_cuts(12, 2, 300 << 10);
  ASSERT_FALSE(cuts.empty());
  EXPECT_EQ(cuts[0], (Cut{3, 2, {}}));
  for (const Cut& cut : cuts) {
    EXPECT_EQ(12 % cut.micro, 0);
    EXPECT_LE(cut.micro * cut.lanes, 12);
  }
  // One sample can't be spread.
  for (const Cut& cut : possible_cuts(1, 2, 300 << 10)) EXPECT_EQ(cut.lanes, 1);
}

TEST(Cut, WithoutTuningTheSameCutEveryTime) {
  Random random;
  const Graph graph = network(random, false);
  for (const int threads : {1, 2}) {
    const auto first = Executor::compile(graph, {.batch = 12, .threads = threads});
    const auto second = Executor::compile(graph, {.batch = 12, .threads = threads});
    ASSERT_TRUE(first.has_value() && second.has_value());
    EXPECT_EQ((*first)->cut(), (*second)->cut());
    EXPECT_EQ((*first)->cut(), (Cut{12 / threads, threads}));
  }
}

TEST(Cut, AModelThatMixesSamplesStaysWhole) {
  Random random;
  Builder b;
  b.output(b.node("Softmax", {b.input({4, 6})}, {{"axis", std::int64_t{0}}}));
  const auto executor = Executor::compile(b.graph, {.batch = 4, .threads = 2, .tune = true});
  ASSERT_TRUE(executor.has_value()) << executor.error().message;
  // On how many threads its one step runs is a matter of speed.
  EXPECT_EQ((*executor)->cut().micro, 4);
  EXPECT_EQ((*executor)->cut().lanes, 1);
}

TEST(Cut, ProfiledStepsCoverEveryMicroBatch) {
  Random random;
  const Graph graph = network(random, false);
  const Tensor samples = random.f32({12, 4, 9, 9});
  const auto executor = Executor::compile(graph, {.batch = 12, .threads = 1, .cut = Cut{2, 1}});
  ASSERT_TRUE(executor.has_value());
  Tensor out((*executor)->outputs()[0].dtype, (*executor)->outputs()[0].shape);
  const void* from = samples.raw();
  void* to = out.mutable_raw();
  const std::vector<double> times = (*executor)->run_profiled({&from, 1}, {&to, 1});
  EXPECT_EQ(times.size(), (*executor)->steps().size());
  expect_close(out, run(graph, samples, {.batch = 12, .threads = 1, .cut = Cut{2, 1}}), 0.0F, "profiled");
}

TEST(PackedWeights, ShareNothingThatDiffersInOneNumber) {
  Random random;
  const Tensor x = random.f32({1, 8, 6, 6});
  Tensor weights = random.f32({16, 8, 3, 3});
  for (std::int64_t changed = 0; changed < weights.elements(); changed += 97) {
    weights.mutable_as<float>()[static_cast<std::size_t>(changed)] += 1.0F;
    Builder b;
    b.output(b.node("Conv", {b.input({1, 8, 6, 6}), b.constant(weights)}));
    expect_like_reference(b.graph, {x}, sum_tolerance(72));
  }
}

}  // namespace
}  // namespace kerf::engine::testing
