#include <gmock/gmock.h>

#include <cmath>
#include <set>

#include "search/hypervolume.h"
#include "search/native/acquisition.h"
#include "search/native/cholesky.h"
#include "search/native/guard.h"
#include "search/native/look.h"
#include "search/native/outlook.h"
#include "search/native/prior.h"
#include "search/native/profile.h"
#include "search/native/solver.h"
#include "search/native/surrogate.h"
#include "search/random.h"

namespace kerf::search::native {
namespace {

using testing::ElementsAre;

std::vector<DimensionSpec> dimensions_of(const std::vector<std::int64_t>& counts) {
  std::vector<DimensionSpec> out;
  for (std::size_t d = 0; d < counts.size(); ++d) out.push_back({"l" + std::to_string(d), counts[d], true});
  return out;
}

std::vector<Choices> every_point(const Layout& layout) {
  std::vector<Choices> out = {Choices(layout.size(), 0)};
  for (std::size_t d = 0; d < layout.size(); ++d) {
    const std::size_t before = out.size();
    for (int v = 1; v < static_cast<int>(layout.counts[d]); ++v) {
      for (std::size_t i = 0; i < before; ++i) {
        out.push_back(out[i]);
        out.back()[d] = v;
      }
    }
  }
  return out;
}

AdditiveModel random_model(const Layout& layout, std::int64_t seed, bool chain, bool far) {
  Rng random({seed});
  AdditiveModel out;
  out.unary.resize(layout.values);
  out.root.resize(layout.values);
  for (double& value : out.unary) value = random.unit();
  for (double& value : out.root) value = random.unit();
  if (chain) {
    out.chain.resize(layout.chain_values);
    for (double& value : out.chain) value = random.unit() - 0.5;
  }
  if (far) {
    const std::size_t n = layout.size();
    out.weight.assign(n * n, 0.0);
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t k = 0; k < i; ++k) out.weight[i * n + k] = out.weight[k * n + i] = 0.3 * (random.unit() - 0.5);
    }
  }
  return out;
}

TEST(GrowingCholesky, SolvesWhatItFactored) {
  const std::vector<std::vector<double>> a = {{4, 1, 0.5}, {1, 3, -0.2}, {0.5, -0.2, 2}};
  GrowingCholesky factor;
  for (std::size_t i = 0; i < 3; ++i) factor.append(std::span(a[i].data(), i), a[i][i]);
  const std::vector<double> x = factor.solve({1, 2, 3});
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(a[i][0] * x[0] + a[i][1] * x[1] + a[i][2] * x[2], static_cast<double>(i + 1), 1e-12);
  }
  EXPECT_NEAR(factor.half_log_determinant(), 0.5 * std::log(4 * (6 - 0.04) - (2 + 0.1) + 0.5 * (-0.2 - 1.5)), 1e-12);
}

TEST(Link, LatentIsTheWayBackFromTheMetric) {
  for (const Link& link : {Link{}, Link{0.1, 2, 1}, Link{0.1, 2, 1.5}, Link{0.1, INFINITY, 0.7}}) {
    for (const double latent : {0.05, 0.2, 0.5, 0.9}) {
      const double metric = link.metric(latent);
      EXPECT_NEAR(link.latent(metric), latent, 1e-9);
      const double step = 1e-6;
      EXPECT_NEAR(link.slope(metric), (link.latent(metric + step) - link.latent(metric - step)) / (2 * step), 1e-3);
    }
  }
}

TEST(AdditiveModel, SwapIsTheDifferenceOfLatents) {
  const Layout layout(dimensions_of({3, 2, 4, 3}));
  const AdditiveModel model = random_model(layout, 5, true, true);
  const Choices x = {1, 0, 3, 2};
  const auto field = model.field(layout, x);
  for (std::size_t d = 0; d < layout.size(); ++d) {
    for (int v = 0; v < static_cast<int>(layout.counts[d]); ++v) {
      Choices y = x;
      y[d] = v;
      EXPECT_NEAR(model.swap(layout, x, field, d, v), model.latent(layout, y) - model.latent(layout, x), 1e-12);
    }
  }
}

TEST(Solver, MinimumAlongAChainIsExact) {
  const Layout layout(dimensions_of({3, 2, 4, 3, 2}));
  const AdditiveModel a = random_model(layout, 1, true, false);
  const AdditiveModel b = random_model(layout, 2, true, false);
  const AdditiveModel* models[] = {&a, &b};
  for (const Multipliers& multipliers : sweep_multipliers(2)) {
    const auto cost = [&](const Choices& x) {
      return multipliers[0] * a.latent(layout, x) + multipliers[1] * b.latent(layout, x);
    };
    double least = INFINITY;
    for (const Choices& x : every_point(layout)) least = std::min(least, cost(x));
    EXPECT_NEAR(cost(solve_chain(layout, models, multipliers)), least, 1e-12 * std::max(1.0, std::abs(least)));
  }
}

TEST(Solver, LabelsFindTheWholeFrontOfSums) {
  const Layout layout(dimensions_of({3, 2, 4, 3, 2}));
  const AdditiveModel a = random_model(layout, 3, false, false);
  const AdditiveModel b = random_model(layout, 4, false, false);
  std::vector<ObjectiveVector> all;
  const auto points = every_point(layout);
  for (const Choices& x : points) all.push_back({a.latent(layout, x), b.latent(layout, x)});
  std::set<Choices> expected;
  const std::vector<Direction> minimised(2, Direction::kMinimize);
  for (const std::size_t i : non_dominated(all, minimised)) expected.insert(points[i]);
  const auto found = label_front(layout, a, b, Choices(5, 0), 4096);
  EXPECT_EQ(std::set<Choices>(found.begin(), found.end()), expected);
}

TEST(GainOracle, GainIsWhatThePointAddsToTheHypervolume) {
  Rng random({7});
  for (const std::size_t objectives : {1U, 2U, 3U, 4U}) {
    const std::vector<Direction> minimised(objectives, Direction::kMinimize);
    const std::vector<double> reference(objectives, 1.0);
    const auto point = [&] {
      ObjectiveVector out(objectives);
      for (double& x : out) x = 1.1 * random.unit();
      return out;
    };
    std::vector<ObjectiveVector> front;
    for (int i = 0; i < 6; ++i) front.push_back(point());
    const GainOracle oracle(reference, front, std::vector<double>(objectives, 0.0));
    std::vector<ObjectiveVector> candidates;
    for (int i = 0; i < 20; ++i) candidates.push_back(point());
    const auto gains = oracle.gains(candidates);
    const double before = hypervolume(front, minimised, reference);
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      auto with = front;
      with.push_back(candidates[i]);
      // Samples of a Halton sequence: 4,096 of them tell shares to better than a hundredth.
      EXPECT_NEAR(gains[i], hypervolume(with, minimised, reference) - before, objectives <= 2 ? 1e-12 : 0.01);
    }
  }
}

/// Layers of very different damage, values of growing one, and errors of a look of this size.
std::vector<double> looked_terms(const Layout& layout, double error, std::int64_t seed) {
  Rng random({seed});
  const auto normal = [&] {
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += random.unit();
    return sum;
  };
  std::vector<double> out(layout.values, 0.0);
  for (std::size_t d = 0; d < layout.size(); ++d) {
    const double layer = 1.2 * normal() + error * normal();
    for (int v = 1; v < static_cast<int>(layout.counts[d]); ++v) {
      out[layout.at(d, v)] = std::exp(layer + v + 0.25 * normal() + error * normal());
    }
  }
  return out;
}

TEST(LookQuality, ErrorsWithinLayersGiveThePowerOfTheLayers) {
  const Layout layout(dimensions_of(std::vector<std::int64_t>(40, 5)));
  std::vector<std::size_t> kinds(layout.values);
  for (std::size_t at = 0; at < kinds.size(); ++at) kinds[at] = at % 5;
  const LookQuality good = look_quality(layout, looked_terms(layout, 0, 1), kinds, 5);
  EXPECT_GT(good.layer_power, 0.95);
  EXPECT_LT(good.spread, 0.3);
  // The truth's variance is 1.2², the look's 1.2² + 1: what regression has is 0.59, with an error of
  // √(0.59·1) = 0.77 left.
  const LookQuality poor = look_quality(layout, looked_terms(layout, 1, 1), kinds, 5);
  EXPECT_NEAR(poor.layer_power, 0.59, 0.15);
  EXPECT_NEAR(poor.spread, 0.77, 0.15);
}

TEST(LookQuality, LayersWithOneHarmfulValueSayNothingOfErrors) {
  const Layout layout(dimensions_of({2, 2, 2}));
  const LookQuality quality = look_quality(layout, {0, 1, 0, 20, 0, 3}, {0, 1, 0, 1, 0, 1}, 2);
  EXPECT_EQ(quality.layer_power, 1);
}

TEST(BentTerms, KeepTheSumAndZeros) {
  const Layout layout(dimensions_of({3, 3, 3}));
  const std::vector<double> terms = {0, 1, 4, 0, 2, 2, 0, 9, 16};
  const auto bent = bent_terms(layout, terms, {0, 1, 2, 0, 1, 2, 0, 1, 2}, 3, 0.5, 1);
  double sum = 0;
  for (const double term : bent) sum += term;
  EXPECT_NEAR(sum, 34, 1e-9);
  for (const std::size_t at : {0U, 3U, 6U}) EXPECT_EQ(bent[at], 0);
  EXPECT_LT(bent[8] / bent[1], 16);  // nearer to each other
  EXPECT_EQ(bent_terms(layout, terms, {0, 1, 2, 0, 1, 2, 0, 1, 2}, 3, 1, 1), terms);
}

TEST(MetricSurrogate, AnExactLookStaysExact) {
  const Layout layout(dimensions_of({3, 3, 3, 3}));
  const AdditiveModel truth = random_model(layout, 9, false, false);
  MetricPrior prior;
  prior.terms = truth.unary;
  prior.kinds.assign(layout.values, 0);
  for (std::size_t at = 0; at < layout.values; ++at) prior.kinds[at] = at % 3;
  prior.kind_count = 3;
  MetricSurrogate surrogate(layout, prior);
  const auto points = every_point(layout);
  for (std::size_t i = 0; i < 10; ++i) surrogate.append(points[i * 7], 2 + truth.latent(layout, points[i * 7]));
  surrogate.tune(true);
  const AdditiveModel model = surrogate.model();
  for (const Choices& x : points) EXPECT_NEAR(model.metric(layout, x), 2 + truth.latent(layout, x), 1e-9);
}

TEST(MetricSurrogate, WithoutALookItLearnsASumFromTrials) {
  const Layout layout(dimensions_of({3, 3, 3, 3, 3}));
  const AdditiveModel truth = random_model(layout, 10, false, false);
  MetricPrior prior;
  prior.kinds.resize(layout.values);
  for (std::size_t at = 0; at < layout.values; ++at) prior.kinds[at] = at % 3;
  prior.kind_count = 3;
  prior.baseline = Choices(5, 0);
  MetricSurrogate surrogate(layout, prior);
  const auto points = every_point(layout);
  for (std::size_t i = 0; i < 40; ++i) {
    const Choices& x = points[i * 11 % points.size()];
    surrogate.append(x, truth.latent(layout, x));
  }
  surrogate.tune(true);
  const AdditiveModel model = surrogate.model();
  std::vector<double> predicted;
  std::vector<double> measured;
  for (const Choices& x : points) {
    predicted.push_back(model.metric(layout, x));
    measured.push_back(truth.latent(layout, x));
  }
  EXPECT_GT(rank_correlation(predicted, measured), 0.99);
}

TEST(MetricSurrogate, ALookThatTrialsSpeakAgainstIsPutAside) {
  const Layout layout(dimensions_of(std::vector<std::int64_t>(8, 4)));
  // Damages that grow alike in all layers, and a look that has them in any order.
  Rng random({12});
  AdditiveModel truth;
  MetricPrior prior;
  prior.kind_count = 4;
  prior.baseline = Choices(8, 0);
  for (std::size_t at = 0; at < layout.values; ++at) {
    prior.kinds.push_back(at % 4);
    truth.unary.push_back(0.1 * static_cast<double>(at % 4) * (1 + 0.2 * random.unit()));
    prior.terms.push_back(at % 4 == 0 ? 0 : std::exp(6 * random.unit() - 6));
  }
  truth.root.resize(layout.values);
  MetricPrior right = prior;
  right.terms = truth.unary;
  MetricSurrogate misled(layout, prior);
  MetricSurrogate informed(layout, right);
  for (int trial = 0; trial < 18; ++trial) {
    Choices x(8);
    for (int& value : x) value = static_cast<int>(random.below(4));
    const double y = truth.latent(layout, x) * (1 + 0.02 * (random.unit() - 0.5));
    for (MetricSurrogate* surrogate : {&misled, &informed}) {
      surrogate->append(x, y);
      surrogate->tune(true);
    }
  }
  EXPECT_FALSE(misled.believes_look());
  EXPECT_TRUE(informed.believes_look());
  const AdditiveModel model = misled.model();
  std::vector<double> predicted;
  std::vector<double> measured;
  for (int i = 0; i < 200; ++i) {
    Choices x(8);
    for (int& value : x) value = static_cast<int>(random.below(4));
    predicted.push_back(model.metric(layout, x));
    measured.push_back(truth.latent(layout, x));
  }
  EXPECT_GT(rank_correlation(predicted, measured), 0.95);
}

TEST(Outlook, BoundsWeighByTheirSize) {
  const Layout layout(dimensions_of({2}));
  Outlook outlook{&layout, 1, {}, {std::nullopt, std::nullopt}, {0.02, 100}};
  EXPECT_NEAR(outlook.violation({0, 0.01, 10}), 0.5 + 0.1, 1e-12);  // half over one, a tenth over the other
  outlook.scales.clear();
  EXPECT_NEAR(outlook.violation({0, 0.01, 10}), 10.01, 1e-12);
}

TEST(MetricPrior, AValueThatNobodyLookedAtFollowsItsLayerAndItsKind) {
  // Bytes that a layer loses, and damage: a large layer's unknown value isn't a small layer's.
  for (const double sign : {1.0, -1.0}) {
    SamplerProblem problem;
    const double layers[] = {1, 30, 900, 5};
    const double values[] = {0, 2, 3};
    for (int d = 0; d < 4; ++d) {
      problem.dimensions.push_back({"l" + std::to_string(d) + ".precision", 3, false});
      auto& terms = problem.profile.alone.emplace_back();
      for (const double value : values) terms.push_back({sign * layers[d] * value});
    }
    problem.directions = {Direction::kMinimize};
    const double kUnknown = std::numeric_limits<double>::quiet_NaN();
    problem.profile.alone[2][1][0] = kUnknown;
    problem.profile.alone[1][2][0] = kUnknown;
    const Layout layout(problem.dimensions);
    const MetricPrior prior = make_prior(problem, layout, 0, 1);
    ASSERT_EQ(prior.terms.size(), layout.values);
    const auto beside_f32 = [&](std::size_t d, int v) { return prior.terms[layout.at(d, v)] - prior.terms[layout.at(d, 0)]; };
    EXPECT_NEAR(beside_f32(2, 1), sign * 1800, 1e-6);
    EXPECT_NEAR(beside_f32(1, 2), sign * 90, 1e-6);
    EXPECT_NEAR(beside_f32(3, 2), sign * 15, 1e-9) << "what is known stays";
  }
}

TEST(RankCorrelation, KnowsOrderTiesAndConstants) {
  EXPECT_DOUBLE_EQ(rank_correlation({1, 2, 3, 4}, {10, 20, 30, 400}), 1);
  EXPECT_DOUBLE_EQ(rank_correlation({1, 2, 3, 4}, {4, 3, 2, 1}), -1);
  EXPECT_NEAR(rank_correlation({1, 2, 2, 3}, {1, 2, 3, 4}), 0.9486832980505138, 1e-12);  // scipy 1.17
  EXPECT_EQ(rank_correlation({1, 1, 1}, {1, 2, 3}), 0);
}

TEST(Profile, IsBuiltFromProbesOfOneValueEach) {
  const auto probes = profile_probes({2, 3}, {0, 1});
  ASSERT_EQ(probes.size(), 3U);
  EXPECT_THAT(probes[0].choices, ElementsAre(1, 1));
  EXPECT_THAT(probes[1].choices, ElementsAre(0, 0));
  EXPECT_THAT(probes[2].choices, ElementsAre(0, 2));
  const Profile profile = profile_from_probes({2, 3}, probes, {0.1, 50}, {{0.3, 40}, {0.1, 60}, {}});
  EXPECT_DOUBLE_EQ(profile.at(0, 1, 0), 0.2);
  EXPECT_DOUBLE_EQ(profile.at(0, 1, 1), -10);
  EXPECT_EQ(profile.at(1, 1, 0), 0);
  EXPECT_TRUE(std::isnan(profile.at(1, 2, 0)));
  EXPECT_TRUE(std::isnan(profile.at(5, 0, 0)));
}

}  // namespace
}  // namespace kerf::search::native
