#include "tests/unit/engine/support.h"

namespace kerf::engine::testing {
namespace {

using Ints = std::vector<std::int64_t>;

Graph classifier(Random& random, std::int64_t batch) {
  Builder b;
  const std::string x = b.input({batch, 3, 8, 8});
  const std::string y = b.node("Relu", {b.node("Conv", {x, b.constant(random.f32({6, 3, 3, 3}, 0.3F))})});
  const std::string flat = b.node("Reshape", {y, b.constant(Tensor::s64({2}, {batch < 0 ? -1 : batch, 216}))});
  b.output(b.node("Softmax", {b.node("Gemm", {flat, b.constant(random.f32({216, 4}, 0.1F))})}));
  const auto simple = simplify(b.graph);
  EXPECT_TRUE(simple.has_value());
  return *simple;
}

TEST(RunAll, EveryNumberOfSamplesAndBatchGivesTheSame) {
  Random random;
  for (const std::int64_t own : {std::int64_t{-1}, std::int64_t{1}}) {
    const Graph graph = classifier(random, own);
    const Tensor samples = random.f32({19, 3, 8, 8});
    const auto wanted = run_all(graph, {samples}, 1, 1);
    ASSERT_TRUE(wanted.has_value()) << wanted.error().message;
    EXPECT_EQ((*wanted)[0].shape(), (Shape{19, 4}));
    for (const std::int64_t batch : {std::int64_t{0}, std::int64_t{4}, std::int64_t{19}, std::int64_t{64}}) {
      const auto got = run_all(graph, {samples}, 1, batch);
      ASSERT_TRUE(got.has_value()) << got.error().message;
      expect_close((*got)[0], (*wanted)[0], 2e-6F, "batch " + std::to_string(batch));
    }
  }
}

TEST(RunAll, AModelThatMixesSamplesRunsAtItsOwnBatch) {
  Random random;
  Builder b;
  const std::string x = b.input({2, 6});
  // Softmax over the batch: one sample's result depends on the other's.
  b.output(b.node("Softmax", {x}, {{"axis", std::int64_t{0}}}));
  const Tensor samples = random.f32({6, 6});
  const auto got = run_all(b.graph, {samples}, 1, 3);
  ASSERT_TRUE(got.has_value()) << got.error().message;
  const auto first = run_reference(b.graph, {Tensor::f32({2, 6}, {samples.as<float>().begin(), samples.as<float>().begin() + 12})});
  ASSERT_TRUE(first.has_value());
  for (std::size_t i = 0; i < 12; ++i) EXPECT_NEAR((*got)[0].as<float>()[i], (*first)[0].as<float>()[i], 1e-6F);
  EXPECT_FALSE(run_all(b.graph, {random.f32({5, 6})}, 1, 0).has_value()) << "5 samples aren't pairs";
}

TEST(RunAll, RefusesInputsThatDontFit) {
  Random random;
  const Graph graph = classifier(random, -1);
  EXPECT_FALSE(run_all(graph, {}, 1).has_value());
  EXPECT_FALSE(run_all(graph, {random.f32({2, 3, 8, 7})}, 1).has_value());
  EXPECT_FALSE(run_all(graph, {random.f32({0, 3, 8, 8})}, 1).has_value());
  EXPECT_FALSE(run_all(graph, {Tensor(DType::kU8, {2, 3, 8, 8})}, 1).has_value());
}

TEST(Library, NamesItsVersionAndInstructionSet) {
  EXPECT_EQ(onednn_version().find("3."), 0U);
  EXPECT_FALSE(isa_in_use().empty());
}

}  // namespace
}  // namespace kerf::engine::testing
