#include "search/native/lean.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "search/native/prior.h"
#include "search/native/surrogate.h"
#include "search/random.h"

namespace kerf::search {
namespace {

TEST(BelievedLeans, ErrorsAloneAreNotBelieved) {
  const std::vector<LeanLook> looks = {{0.1, 0.02, 0.03}, {0.2, -0.04, 0.05}, {0.05, 0.01, 0.02}};
  for (const double share : believed_leans(looks)) EXPECT_EQ(share, 0);
  EXPECT_TRUE(believed_leans({}).empty());
}

TEST(BelievedLeans, ALeanIsBelievedAsFarAsItsErrorLeavesRoom) {
  // Each varies by 4 − 0.25 beyond its error; four that don't are thought beside them: 1.875.
  const std::vector<LeanLook> looks = {{1, 2, 0.5}, {1, -2, 0.5}, {1, 2, 0.5}, {1, -2, 0.5}};
  const std::vector<double> shares = believed_leans(looks);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(shares[i], (i % 2 == 0 ? 2 : -2) * 1.875 / (1.875 + 0.25), 1e-12);
  }
}

TEST(BelievedLeans, AreSharesOfTheChange) {
  // The same in units of √kl: four times the kl, twice the lean, twice the error.
  const std::vector<double> shares = believed_leans(std::vector<LeanLook>{{1, 1, 0.1}, {4, 2, 0.2}, {1, -1, 0.1}});
  EXPECT_NEAR(shares[1], shares[0] / 2, 1e-12);
  EXPECT_NEAR(shares[2], -shares[0], 1e-12);
}

TEST(BelievedLeans, WhatCantBeUsedIsLeftOut) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<LeanLook> looks = {{1, 2, 0.5}, {0, 2, 0.5}, {1, nan, 0.5}, {1, 2, 0}, {-1, 2, 0.5}};
  const std::vector<double> shares = believed_leans(looks);
  EXPECT_GT(shares[0], 0);
  for (std::size_t i = 1; i < looks.size(); ++i) EXPECT_EQ(shares[i], 0);
}

TEST(BelievedLeans, NoLookTurnsASumOver) {
  const std::vector<LeanLook> looks = {{1e-6, 0.5, 1e-4}, {1e-6, -0.5, 1e-4}};
  EXPECT_EQ(believed_leans(looks)[0], 3);
  EXPECT_EQ(believed_leans(looks)[1], -3);
}

}  // namespace
}  // namespace kerf::search

namespace kerf::search::native {
namespace {

/// Eight layers of four values, a damage with leans for the two harshest.
class LeaningLayers : public testing::Test {
 protected:
  LeaningLayers() {
    Rng random({31});
    for (std::size_t at = 0; at < layout_.values; ++at) {
      prior_.kinds.push_back(at % 4);
      prior_.terms.push_back(at % 4 == 0 ? 0 : 0.05 * static_cast<double>(at % 4) * (0.5 + random.unit()));
      prior_.lean.push_back(at % 4 < 2 ? 0 : 4 * random.unit() - 2);
    }
    prior_.kind_count = 4;
    prior_.baseline = Choices(8, 0);
  }

  /// A surrogate that was told 14 trials of a sum of terms with this much of the leans.
  MetricSurrogate told(double lean) {
    MetricSurrogate out(layout_, prior_);
    Rng random({32});
    for (int trial = 0; trial < 14; ++trial) {
      Choices x(8);
      double y = 0;
      for (std::size_t d = 0; d < 8; ++d) {
        x[d] = static_cast<int>(random.below(4));
        const std::size_t at = layout_.at(d, x[d]);
        y += prior_.terms[at] * (1 + lean * prior_.lean[at]);
      }
      out.append(x, y);
    }
    out.tune(true);
    return out;
  }

  Layout layout_{std::vector<DimensionSpec>(8, {"d", 4, true})};
  MetricPrior prior_;
};

TEST_F(LeaningLayers, AreTakenOverBeforeTheFirstTrials) {
  MetricSurrogate surrogate(layout_, prior_);
  surrogate.append(Choices(8, 0), 0);
  surrogate.append(Choices(8, 1), 1);
  const AdditiveModel model = surrogate.model();
  for (std::size_t d = 0; d < 8; ++d) {
    const std::size_t at = layout_.at(d, 3);
    EXPECT_EQ(model.unary[at] < 0, prior_.lean[at] < -1) << "what does labels good is no damage";
  }
}

TEST_F(LeaningLayers, TrialsDecideHowMuchOfThemIsTakenOver) {
  EXPECT_EQ(told(1).shape().lean, 1);
  EXPECT_EQ(told(0).shape().lean, 0);
}

TEST(MetricPrior, CostsHaveNoLean) {
  const Layout layout(std::vector<DimensionSpec>(2, {"d", 2, true}));
  SamplerProblem problem;
  problem.dimensions.assign(2, {"d", 2, true});
  problem.directions = {Direction::kMaximize, Direction::kMinimize};
  problem.profile.alone.assign(2, {{0, 0}, {-0.5, -100}});
  problem.profile.lean.assign(2, {{0, 0}, {-1.5, 0}});
  problem.profile.exact = {false, true};
  const MetricPrior damage = make_prior(problem, layout, 0, -1);
  EXPECT_EQ(damage.lean, (std::vector<double>{0, -1.5, 0, -1.5}));
  EXPECT_TRUE(make_prior(problem, layout, 1, 1).lean.empty());
}

}  // namespace
}  // namespace kerf::search::native
