#include "workers/compress/prune_unstructured.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/unit/compress/graph_builder.h"

namespace kerf::compress {
namespace {

using testing::Numbers;
using testing::Tensor;

TEST(PruneByMagnitude, ZeroesExactlyTheSmallest) {
  Numbers numbers(3);
  const Tensor weights = numbers.tensor({7, 11, 3, 3});
  const auto before = weights.to_floats();
  for (const double ratio : {0.0, 0.1, 0.333, 0.5, 0.9, 0.999}) {
    const auto after = prune_by_magnitude(weights, ratio).to_floats();
    // Reference: a full sort.
    std::vector<std::size_t> order(before.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return std::fabs(before[a]) < std::fabs(before[b]);
    });
    auto expected = before;
    const auto count =
        static_cast<std::size_t>(std::llround(ratio * static_cast<double>(before.size())));
    for (std::size_t i = 0; i < count; ++i) expected[order[i]] = 0;
    EXPECT_EQ(after, expected) << ratio;
  }
}

TEST(PruneByMagnitude, TiesGoByIndex) {
  const auto after = prune_by_magnitude(Tensor::f32({6}, {1, -1, 1, -1, 1, 1}), 0.5).to_floats();
  EXPECT_EQ(after, (std::vector<float>{0, 0, 0, -1, 1, 1}));
}

TEST(PruneByMagnitude, LeavesItsArgumentAlone) {
  const Tensor weights = Tensor::f32({4}, {1, 2, 3, 4});
  (void)prune_by_magnitude(weights, 0.5);
  EXPECT_EQ(weights.to_floats(), (std::vector<float>{1, 2, 3, 4}));
}

TEST(PruneNOfM, KeepsTheLargestOfEachGroupAlongTheInputAxis) {
  // [out 1, in 8]: groups (1, -5, 3, 2) and (0.1, 0.1, -0.1, 4).
  const Tensor rows = Tensor::f32({1, 8}, {1, -5, 3, 2, 0.1F, 0.1F, -0.1F, 4});
  EXPECT_EQ(prune_n_of_m(rows, 1, 2, 4).to_floats(),
            (std::vector<float>{0, -5, 3, 0, 0.1F, 0, 0, 4}));
  // The same weights as [in 8, out 1].
  const Tensor columns = Tensor::f32({8, 1}, {1, -5, 3, 2, 0.1F, 0.1F, -0.1F, 4});
  EXPECT_EQ(prune_n_of_m(columns, 0, 2, 4).to_floats(),
            (std::vector<float>{0, -5, 3, 0, 0.1F, 0, 0, 4}));
}

TEST(PruneNOfM, EveryGroupOfAConvolutionKeepsAtMostN) {
  Numbers numbers(5);
  const Tensor weights = numbers.tensor({3, 10, 3, 3});
  const auto after = prune_n_of_m(weights, 1, 1, 4).to_floats();
  for (std::size_t o = 0; o < 3; ++o) {
    for (std::size_t tap = 0; tap < 9; ++tap) {
      for (std::size_t begin = 0; begin < 10; begin += 4) {  // the last group has two
        int left = 0;
        for (std::size_t i = begin; i < std::min<std::size_t>(10, begin + 4); ++i) {
          left += after[(o * 10 + i) * 9 + tap] != 0 ? 1 : 0;
        }
        EXPECT_EQ(left, 1);
      }
    }
  }
}

TEST(PruneNOfM, DepthwiseWeightsHaveNothingToLose) {
  Numbers numbers(6);
  const Tensor weights = numbers.tensor({5, 1, 3, 3});
  EXPECT_EQ(prune_n_of_m(weights, 1, 2, 4).to_floats(), weights.to_floats());
}

TEST(NOfM, IsReadFromTheStructure) {
  EXPECT_EQ(n_of_m("2:4").n, 2);
  EXPECT_EQ(n_of_m("1:16").m, 16);
  EXPECT_EQ(n_of_m("unstructured").m, 0);
}

}  // namespace
}  // namespace kerf::compress
