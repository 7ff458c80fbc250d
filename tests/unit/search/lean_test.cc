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
  // They vary by 4 − 0.25 beyond the errors; a larger variance is thought less likely, so it is about half of that.
  std::vector<LeanLook> looks;
  for (int i = 0; i < 8; ++i) looks.push_back({1, i % 2 == 0 ? 2.0 : -2.0, 0.5});
  const std::vector<double> shares = believed_leans(looks);
  for (std::size_t i = 0; i < looks.size(); ++i) {
    const double share = shares[i] / looks[i].lean;
    EXPECT_GT(share, 1.5 / (1.5 + 0.25));
    EXPECT_LT(share, 3.75 / (3.75 + 0.25));
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

/// Trials of half of the changes each, drawn; what labels say of them is the sum of these leans.
std::vector<LeanTrial> drawn_trials(std::span<const double> leans, std::size_t count) {
  Rng random({33});
  std::vector<LeanTrial> out(count);
  for (LeanTrial& trial : out) {
    for (std::size_t i = 0; i < leans.size(); ++i) {
      if (random.below(2) == 0) continue;
      trial.changes.push_back(i);
      trial.kl += 0.01;
      trial.lean += leans[i];
    }
  }
  return out;
}

/// Twelve leans with τ² = 0.013 at a kl of 0.01, and how far off the believed ones are.
class TwelveLeans : public testing::Test {
 protected:
  TwelveLeans() {
    Rng random({34});
    for (int i = 0; i < 12; ++i) leans_.push_back(0.02 * (2 * random.unit() - 1));
  }

  [[nodiscard]] double off(const std::vector<LeanLook>& looks, std::size_t trials) const {
    const std::vector<double> shares = believed_leans(looks, drawn_trials(leans_, trials));
    double sum = 0;
    for (std::size_t i = 0; i < leans_.size(); ++i) sum += std::pow(looks[i].kl * shares[i] - leans_[i], 2);
    return std::sqrt(sum / static_cast<double>(leans_.size()));
  }

  std::vector<double> leans_;
};

TEST_F(TwelveLeans, TrialsTellWhatNobodyLookedAt) {
  const std::vector<LeanLook> unknown(leans_.size(), LeanLook{.kl = 0.01});
  const double nothing = off(unknown, 0);
  EXPECT_NEAR(nothing, 0.0115, 0.003) << "their own spread: none is believed";
  EXPECT_LT(off(unknown, 12), 0.6 * nothing);
  EXPECT_LT(off(unknown, 200), 0.3 * nothing) << "of which the first and latest 48 count";
}

TEST_F(TwelveLeans, LooksAndTrialsTogetherKnowMoreThanEither) {
  Rng random({35});
  std::vector<LeanLook> looks;
  for (const double lean : leans_) looks.push_back({0.01, lean + 0.01 * (random.unit() + random.unit() + random.unit() + random.unit() - 2), 0.0058});
  const std::vector<LeanLook> unknown(leans_.size(), LeanLook{.kl = 0.01});
  EXPECT_LT(off(looks, 12), off(looks, 0));
  EXPECT_LT(off(looks, 12), off(unknown, 12));
}

TEST(BelievedLeans, TrialsThatAgreeWithTheirSizeMoveNothing) {
  const std::vector<LeanLook> looks(4, LeanLook{.kl = 0.05});
  const std::vector<double> none(4, 0.0);
  for (const double share : believed_leans(looks, drawn_trials(none, 10))) EXPECT_NEAR(share, 0, 1e-9);
}

TEST(BelievedLeans, ATrialOfAnUnknownChangeIsLeftOut) {
  const std::vector<LeanLook> looks = {{0.1, -0.05, 0.01}};
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<LeanTrial> trials = {{{7}, 0.1, 5}, {{0}, 0.1, nan}, {{0}, nan, 5}};
  EXPECT_EQ(believed_leans(looks, trials), believed_leans(looks));
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
  problem.profile.leans = {{1, -1.5, 1e-3}};
  problem.profile.lean_of.assign(2, {-1, 0});
  problem.profile.about_labels = {true, false};
  problem.profile.exact = {false, true};
  const MetricPrior damage = make_prior(problem, layout, 0, -1);
  ASSERT_EQ(damage.lean.size(), 4U);
  for (const std::size_t at : {0, 2}) EXPECT_EQ(damage.lean[at], 0);
  for (const std::size_t at : {1, 3}) EXPECT_NEAR(damage.lean[at], -1.5, 1e-3);
  EXPECT_TRUE(make_prior(problem, layout, 1, 1).lean.empty());
}

}  // namespace
}  // namespace kerf::search::native
