#include "workers/compress/codebook.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "tests/unit/compress/graph_builder.h"

namespace kerf::compress {
namespace {

using testing::Numbers;
using testing::Tensor;

double error_of(const Tensor& a, const Tensor& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.as<float>().size(); ++i) {
    sum += std::pow(static_cast<double>(a.as<float>()[i]) - b.as<float>()[i], 2);
  }
  return sum;
}

/// The least squared error of k runs of sorted values: a table over all borders.
double best_error(std::vector<float> values, std::size_t k) {
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  const auto cost = [&](std::size_t begin, std::size_t end) {
    double mean = 0;
    for (std::size_t i = begin; i < end; ++i) mean += values[i];
    mean /= static_cast<double>(end - begin);
    double sum = 0;
    for (std::size_t i = begin; i < end; ++i) sum += std::pow(values[i] - mean, 2);
    return sum;
  };
  std::vector<double> best(n + 1, std::numeric_limits<double>::infinity());
  best[0] = 0;
  for (std::size_t run = 0; run < k; ++run) {
    std::vector<double> next(n + 1, std::numeric_limits<double>::infinity());
    for (std::size_t end = 1; end <= n; ++end) {
      for (std::size_t begin = 0; begin < end; ++begin) {
        next[end] = std::min(next[end], best[begin] + cost(begin, end));
      }
    }
    best = next;
  }
  return best[n];
}

TEST(Codebook, IsAFixedPointOfLloydsAlgorithm) {
  const Tensor weights = Numbers(3).tensor({40, 50});
  for (const std::string init : {"linear", "density", "random"}) {
    for (const int entries : {2, 5, 16, 256}) {
      const auto shared = share_weights(weights, entries, init, false);
      ASSERT_TRUE(shared.has_value());
      ASSERT_EQ(shared->entries.size(), static_cast<std::size_t>(entries)) << init;
      EXPECT_TRUE(std::is_sorted(shared->entries.begin(), shared->entries.end()));
      std::vector<double> sums(shared->entries.size());
      std::vector<double> counts(shared->entries.size());
      for (std::size_t i = 0; i < weights.as<float>().size(); ++i) {
        const float weight = weights.as<float>()[i];
        const float chosen = shared->weights.as<float>()[i];
        double nearest = 1e9;
        for (const float entry : shared->entries) {
          nearest = std::min(nearest, std::fabs(static_cast<double>(weight) - entry));
        }
        EXPECT_EQ(std::fabs(static_cast<double>(weight) - chosen), nearest);
        const auto k = static_cast<std::size_t>(
            std::find(shared->entries.begin(), shared->entries.end(), chosen) -
            shared->entries.begin());
        ASSERT_LT(k, sums.size());
        sums[k] += weight;
        ++counts[k];
      }
      for (std::size_t k = 0; k < sums.size(); ++k) {
        // Rounding an entry to f32 may move a border past a weight that lies on it.
        EXPECT_NEAR(sums[k] / counts[k], shared->entries[k], 2e-3 / std::sqrt(counts[k])) << init << entries;
      }
    }
  }
}

TEST(Codebook, IsNearTheBestOfAllPartitions) {
  for (std::uint32_t seed = 1; seed < 6; ++seed) {
    const Tensor weights = Numbers(seed).tensor({60});
    const auto values = weights.to_floats();
    double best_found = 1e9;
    for (const std::string init : {"linear", "density", "random"}) {
      best_found = std::min(best_found, error_of(weights, share_weights(weights, 6, init, false)->weights));
    }
    const double best = best_error(values, 6);
    EXPECT_GE(best_found, best * 0.999);
    EXPECT_LE(best_found, best * 1.25) << seed;
  }
}

TEST(Codebook, FewValuesStayAsTheyAre) {
  const Tensor weights = Tensor::f32({6}, {0.5F, -1, 0.5F, 3, -1, 3});
  for (const int entries : {3, 4, 256}) {
    const auto shared = share_weights(weights, entries, "linear", false);
    EXPECT_EQ(shared->weights.to_floats(), weights.to_floats());
    EXPECT_EQ(shared->entries, (std::vector<float>{-1, 0.5F, 3}));
  }
}

TEST(Codebook, PrunedWeightsStayZeroAndZeroIsAnEntry) {
  Tensor weights = Numbers(5).tensor({30, 30});
  for (std::size_t i = 0; i < 900; i += 2) weights.mutable_as<float>()[i] = 0;
  const auto shared = share_weights(weights, 8, "density", true);
  EXPECT_EQ(shared->entries.size(), 8U);
  EXPECT_TRUE(std::binary_search(shared->entries.begin(), shared->entries.end(), 0.0F));
  for (std::size_t i = 0; i < 900; ++i) {
    EXPECT_EQ(shared->weights.as<float>()[i] == 0, i % 2 == 0) << i;
  }
}

TEST(Codebook, SurvivesOutliersDenormalsAndConstants) {
  std::vector<float> values(100, 1e-41F);
  values[7] = 3e38F;
  values[8] = -3e38F;
  values[9] = -1e-41F;
  for (const std::string init : {"linear", "density", "random"}) {
    const auto shared = share_weights(Tensor::f32({100}, values), 3, init, false);
    ASSERT_TRUE(shared.has_value());
    for (const float value : shared->weights.as<float>()) EXPECT_TRUE(std::isfinite(value));
    EXPECT_EQ(shared->weights.as<float>()[7], 3e38F) << init;
    const auto zeros = share_weights(Tensor::f32({4}, {0, 0, 0, 0}), 2, init, true);
    EXPECT_EQ(zeros->entries, std::vector<float>{0.0F});
    EXPECT_EQ(zeros->weights.to_floats(), std::vector<float>(4, 0.0F));
  }
  const auto refused = share_weights(Tensor::f32({2}, {1, INFINITY}), 2, "linear", false);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().message, "weight 1 is not finite");
}

}  // namespace
}  // namespace kerf::compress
