#include "search/native/sampler.h"

#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "search/hypervolume.h"
#include "search/random.h"
#include "search/simulate.h"
#include "tests/unit/search/every_point.h"

namespace kerf::search {
namespace {

/// Layers whose losses span two orders of magnitude; latencies that shrink as losses grow.
Json layered_table(int layers, int choices, std::int64_t seed) {
  Rng random({seed, layers});
  Json out = {{"objectives", {{{"metric", "loss"}}, {{"metric", "latency"}}}}, {"constants", {{"latency", 0.1}}}};
  for (int i = 0; i < layers; ++i) {
    const double sensitivity = std::exp(4 * random.unit() - 4);
    const double time = 0.3 + random.unit();
    Json values = Json::array();
    for (int k = 0; k < choices; ++k) {
      const double level = static_cast<double>(k) / (choices - 1);
      const double loss = sensitivity * level * level * (0.7 + 0.6 * random.unit());
      const double latency = time * (1 - 0.7 * level) * (0.9 + 0.2 * random.unit());
      values.push_back({{"weight_bits", 32 - k}, {"loss", loss}, {"latency", latency},
                        {"profile", {{"loss", loss}, {"latency", latency}}}});
    }
    out["layers"].push_back({{"name", "l" + std::to_string(i)}, {"choices", values}});
  }
  return out;
}

Table parsed(const Json& document) {
  auto table = Table::parse(document);
  EXPECT_TRUE(table.has_value()) << table.error().message;
  return *table;
}

/// Of all points of a table, without noise.
double exhaustive_hypervolume(const Table& table) {
  return hypervolume(every_point(table), table.problem(1, false).directions, table.reference());
}

double reached(const Table& table, const SimulationOptions& options) {
  const auto result = simulate(table, options);
  EXPECT_TRUE(result.has_value());
  return result.has_value() ? result->exact_hypervolume.back() : 0;
}

TEST(NativeSampler, ExactLookGivesNearlyTheWholeFrontInTwentyTrials) {
  for (const std::int64_t seed : {1, 2, 3}) {
    const Table table = parsed(layered_table(7, 4, seed));
    EXPECT_GE(reached(table, {.sampler = "profile", .trials = 20, .look = true, .seed = seed}),
              0.95 * exhaustive_hypervolume(table));
  }
}

TEST(NativeSampler, LearnsTheFrontWithoutALook) {
  for (const std::int64_t seed : {1, 2, 3}) {
    const Table table = parsed(layered_table(7, 4, seed));
    EXPECT_GE(reached(table, {.sampler = "profile", .trials = 80, .seed = seed}),
              0.98 * exhaustive_hypervolume(table));
  }
}

TEST(NativeSampler, TwentyTrialsBeatTwoHundredRandomOnesEvenWithABadLook) {
  for (const std::int64_t seed : {1, 2, 3}) {
    Json document = layered_table(16, 4, seed);
    document["noise"] = {{"loss", 0.03}, {"latency", 0.015}};
    Rng random({seed});
    for (Json& layer : document["layers"]) {
      for (Json& choice : layer["choices"]) {
        choice["profile"]["loss"] = choice["profile"]["loss"].get<double>() * std::exp(4 * random.unit() - 2);
      }
    }
    const Table table = parsed(document);
    EXPECT_GT(reached(table, {.sampler = "profile", .trials = 20, .look = true, .seed = seed}),
              reached(table, {.sampler = "random", .trials = 200, .seed = seed}));
  }
}

TEST(NativeSampler, BatchesCountWhatIsInFlightAsDone) {
  const Table table = parsed(layered_table(12, 4, 5));
  const double one = reached(table, {.sampler = "profile", .trials = 32, .look = true, .batch = 1});
  const double eight = reached(table, {.sampler = "profile", .trials = 32, .look = true, .batch = 8});
  EXPECT_GE(eight, 0.97 * one);
}

TEST(NativeSampler, WhatIsAskedBeforeTheFirstUniformCandidateIsMeasuredComesFromTheLook) {
  // Workers are given more than one trial as soon as the baseline was measured: what they get has to
  // be as good as what follows, as each is a tenth of a short study.
  for (const std::int64_t seed : {1, 2, 3}) {
    const Table table = parsed(layered_table(7, 4, seed));
    SamplerProblem problem = table.problem(seed, true);
    ASSERT_FALSE(problem.profile.empty());
    auto sampler = make_sampler("profile", problem);
    ASSERT_TRUE(sampler.has_value());
    const auto objectives = [&](const Choices& x) {
      const MetricValues values = table.exact(table.layer_choices(x));
      return ObjectiveVector{values.at("loss"), values.at("latency")};
    };
    const auto first = (*sampler)->ask(1);
    ASSERT_TRUE(first.has_value());
    ASSERT_TRUE((*sampler)->tell({.number = 0, .choices = first->front(), .objectives = objectives(first->front())})
                    .has_value());
    const auto batch = (*sampler)->ask(4);
    ASSERT_TRUE(batch.has_value());
    ASSERT_EQ(batch->size(), 4U);
    EXPECT_EQ(batch->front(), problem.anchors[1]);
    std::vector<ObjectiveVector> front;
    for (std::size_t i = 1; i < batch->size(); ++i) front.push_back(objectives((*batch)[i]));
    // No point of the space beats any of the three by more than the roundings of doubles.
    Choices x(problem.dimensions.size(), 0);
    for (;;) {
      const ObjectiveVector other = objectives(x);
      for (const ObjectiveVector& one : front) {
        EXPECT_FALSE(other[0] < one[0] - 1e-9 && other[1] < one[1] - 1e-9);
      }
      std::size_t d = 0;
      while (d < x.size() && ++x[d] == problem.dimensions[d].choices) x[d++] = 0;
      if (d == x.size()) break;
    }
  }
}

TEST(NativeSampler, FourObjectivesAreSolvedToo) {
  Json document = layered_table(8, 3, 6);
  document["objectives"].push_back({{"metric", "bytes"}});
  document["objectives"].push_back({{"metric", "energy"}});
  Rng random({6});
  for (Json& layer : document["layers"]) {
    for (Json& choice : layer["choices"]) {
      for (const char* name : {"bytes", "energy"}) {
        choice[name] = choice["weight_bits"].get<double>() * (0.5 + random.unit());
        choice["profile"][name] = choice[name];
      }
    }
  }
  const Table table = parsed(document);
  EXPECT_GE(reached(table, {.sampler = "profile", .trials = 60, .look = true}),
            0.9 * exhaustive_hypervolume(table));
}

TEST(NativeSampler, AConstraintThatIsNoObjectiveIsLearnt) {
  Json document = layered_table(10, 4, 7);
  Rng random({8});
  for (Json& layer : document["layers"]) {
    for (Json& choice : layer["choices"]) choice["bytes"] = choice["weight_bits"].get<double>() * (0.5 + random.unit());
  }
  document["constraints"] = {{{"metric", "bytes"}, {"max", 285}}};
  const Table table = parsed(document);
  const auto result = simulate(table, {.sampler = "profile", .trials = 80, .look = true});
  ASSERT_TRUE(result.has_value());
  std::size_t feasible_late = 0;
  for (std::size_t i = 40; i < 80; ++i) feasible_late += result->trials[i].metrics.at("bytes") <= 285 ? 1 : 0;
  EXPECT_GE(feasible_late, 30U);
}

TEST(NativeSampler, LearnsFromWhatPrunedTrialsShowed) {
  // Trials that break the bound are stopped: their loss is known, with some noise, their latency isn't.
  const Table table = parsed(layered_table(12, 4, 5));
  SamplerProblem problem = table.problem(5, true);
  problem.constraint_count = 1;
  const double bound = 0.25 * table.reference()[0];
  enum class Told { kWhole, kShown, kNothing };
  const auto run = [&](Told how) {
    auto sampler = make_sampler("profile", problem);
    EXPECT_TRUE(sampler.has_value());
    std::vector<ObjectiveVector> feasible_points;
    Rng random({9});
    int pruned = 0;
    for (std::int64_t n = 0; n < 40; ++n) {
      const auto point = (*sampler)->ask(1);
      EXPECT_TRUE(point.has_value() && point->size() == 1);
      if (!point.has_value() || point->empty()) break;
      const MetricValues values = table.exact(table.layer_choices(point->front()));
      Observation told{n, point->front(), TrialState::kComplete, {values.at("loss"), values.at("latency")}, {values.at("loss") - bound}};
      if (told.constraints[0] > 0 && how != Told::kWhole) {
        ++pruned;
        told.state = TrialState::kPruned;
        const double seen = values.at("loss") * (0.95 + 0.1 * random.unit());
        told.objectives = {seen, NAN};
        told.constraints = {seen - bound};
        if (how == Told::kNothing) told.objectives = told.constraints = {};
      } else if (told.constraints[0] <= 0) {
        feasible_points.push_back(told.objectives);
      }
      EXPECT_TRUE((*sampler)->tell(told).has_value());
    }
    if (how != Told::kWhole) {
      EXPECT_GT(pruned, 0);
    }
    return hypervolume(feasible_points, problem.directions, std::vector{bound, table.reference()[1]});
  };
  const double whole = run(Told::kWhole);
  EXPECT_GT(run(Told::kShown), 0.97 * whole);
  RecordProperty("told_nothing", std::to_string(run(Told::kNothing) / whole));
}

/// Sixteen layers in f32, 8 or 4 bits. What labels lose is kl + lean; a look says the kl alone.
class Leaning {
 public:
  explicit Leaning(std::int64_t seed) : random_({seed, 77}) {
    problem_.dimensions.assign(kLayers, {"d", 3, true});
    problem_.directions = {Direction::kMinimize, Direction::kMinimize};
    problem_.anchors = {Choices(kLayers, 0), Choices(kLayers, 1)};
    problem_.reference = {0.25, 1.1};
    problem_.profile.exact = {false, true};
    problem_.profile.about_labels = {true, false};
    for (std::int64_t d = 0; d < kLayers; ++d) {
      kl_.push_back(0.03 * (0.3 + random_.unit()));
      lean_.push_back(0.3 * std::sqrt(kl_.back()) * (2 * random_.unit() - 1));
      bytes_.push_back((0.5 + random_.unit()) / kLayers);
      problem_.profile.alone.push_back({{0, 0}, {kMild * kl_.back(), -0.6 * bytes_.back()}, {kl_.back(), -0.8 * bytes_.back()}});
      problem_.profile.leans.push_back({.kl = kl_.back()});
      problem_.profile.lean_of.push_back({-1, -1, d});
    }
  }

  /// What a point brings; its loss without noise.
  [[nodiscard]] Observation of(const Choices& x) const {
    Observation out{0, x, TrialState::kComplete, {0, 1}, {}};
    out.kl = out.lean = 0;
    for (std::size_t d = 0; d < x.size(); ++d) {
      out.kl += x[d] == 2 ? kl_[d] : x[d] == 1 ? kMild * kl_[d] : 0;
      out.lean += x[d] == 2 ? lean_[d] : 0;
      out.objectives[1] -= (x[d] == 2 ? 0.8 : x[d] == 1 ? 0.6 : 0) * bytes_[d];
    }
    out.objectives[0] = out.kl + out.lean;
    return out;
  }

  /// What six points gain of hypervolume that are asked for after fourteen drawn ones, whose losses are noisy.
  double gain(bool tells_leans) {
    auto sampler = make_sampler("profile", problem_);
    EXPECT_TRUE(sampler.has_value());
    Rng drawn({1, 78});
    std::vector<ObjectiveVector> found;
    for (std::int64_t n = 0; n < 14; ++n) {
      Choices x = n < 2 ? problem_.anchors[static_cast<std::size_t>(n)] : Choices(kLayers, 0);
      for (int& value : x) value = n < 2 ? value : 1 + static_cast<int>(drawn.below(2));
      Observation told = of(x);
      told.number = n;
      found.push_back(told.objectives);
      told.objectives[0] += 0.04 * (drawn.unit() + drawn.unit() + drawn.unit() - 1.5);
      if (!tells_leans) told.lean = NAN;
      EXPECT_TRUE((*sampler)->tell(told).has_value());
    }
    const double before = hypervolume(found, problem_.directions, problem_.reference);
    const auto points = (*sampler)->ask(6);
    EXPECT_TRUE(points.has_value());
    for (const Choices& x : *points) found.push_back(of(x).objectives);
    return hypervolume(found, problem_.directions, problem_.reference) - before;
  }

 private:
  static constexpr int kLayers = 16;
  static constexpr double kMild = 0.02;  // 8 bits beside 4

  Rng random_;
  std::vector<double> kl_, lean_, bytes_;
  SamplerProblem problem_;
};

TEST(NativeSampler, LearnsWhatLabelsSayFromTrialsThatTellIt) {
  double told = 0;
  double untold = 0;
  for (std::int64_t seed = 1; seed <= 20; ++seed) {
    told += Leaning(seed).gain(true);
    untold += Leaning(seed).gain(false);
  }
  EXPECT_GT(told, 1.3 * untold);
}

TEST(NativeSampler, WhereNothingIsFeasibleTheNearestMissIsNamed) {
  Json document = layered_table(6, 3, 8);
  document["constraints"] = {{{"metric", "latency"}, {"max", -1}}};
  const auto result = simulate(parsed(document), {.sampler = "profile", .trials = 30, .look = true});
  ASSERT_TRUE(result.has_value());
  EXPECT_TRUE(result->front.empty());
  ASSERT_TRUE(result->nearest_miss.has_value());
  double least = INFINITY;
  for (const SimulatedTrial& trial : result->trials) least = std::min(least, trial.metrics.at("latency"));
  EXPECT_EQ(result->trials[*result->nearest_miss].metrics.at("latency"), least);
  EXPECT_EQ(result->to_json()["nearest_miss"]["trial"], *result->nearest_miss);
}

SamplerProblem wide_problem(std::size_t dimensions) {
  SamplerProblem out;
  for (std::size_t d = 0; d < dimensions; ++d) out.dimensions.push_back({"d" + std::to_string(d), 4, true});
  out.directions = {Direction::kMinimize, Direction::kMinimize};
  out.anchors = {Choices(dimensions, 0), Choices(dimensions, 1)};
  return out;
}

Observation told_outcome(std::int64_t number, const Choices& x, std::vector<double> objectives) {
  Observation out;
  out.number = number;
  out.choices = x;
  out.objectives = std::move(objectives);
  return out;
}

TEST(NativeSampler, PredictionsThatDontHoldBringEvolutionInAndANote) {
  const SamplerProblem problem = wide_problem(12);
  native::NativeProposer proposer(problem);
  Rng random({3});
  std::vector<std::string> notes;
  for (std::int64_t n = 0; n < 60; ++n) {
    auto x = proposer.propose(0);
    ASSERT_TRUE(x.has_value());
    proposer.pending(*x);
    proposer.tell(told_outcome(n, *x, {random.unit(), random.unit()}));  // noise and nothing else
    for (std::string& note : proposer.take_notes()) notes.push_back(std::move(note));
  }
  EXPECT_TRUE(proposer.guarded());
  ASSERT_FALSE(notes.empty());
  EXPECT_THAT(notes.front(), testing::HasSubstr("evolution"));
}

TEST(NativeSampler, SaysWhenLittleMoreIsToBeExpected) {
  const Table table = parsed(layered_table(5, 3, 9));
  native::NativeProposer proposer(table.problem(1, true));
  bool stalled = false;
  std::set<Choices> seen;
  for (std::int64_t n = 0; n < 120 && !stalled; ++n) {
    Choices x;
    for (std::int64_t attempt = 0; attempt < 20; ++attempt) {
      x = *proposer.propose(attempt);
      if (!seen.contains(x)) break;
    }
    seen.insert(x);
    proposer.pending(x);
    const MetricValues values = table.exact(table.layer_choices(x));
    proposer.tell(told_outcome(n, x, {values.at("loss"), values.at("latency")}));
    stalled = proposer.poor_batches().batches >= 2;
  }
  EXPECT_TRUE(stalled);
}

TEST(NativeSampler, OpensASpaceOfFourToTheFiftyAndForgetsOldTrials) {
  auto sampler = make_sampler("profile", wide_problem(50));
  ASSERT_TRUE(sampler.has_value());
  Rng random({4});
  const auto truth = [](const Choices& x) {
    double loss = 0;
    double cost = 0;
    for (std::size_t d = 0; d < x.size(); ++d) {
      loss += static_cast<double>((d % 7 + 1) * static_cast<std::size_t>(x[d]));
      cost += 4 - x[d];
    }
    return std::vector<double>{loss, cost};
  };
  // More than the surrogates keep.
  for (std::int64_t n = 0; n < 600; ++n) {
    Choices x(50);
    for (int& v : x) v = static_cast<int>(random.below(4));
    ASSERT_TRUE((*sampler)->tell(told_outcome(n, x, truth(x))).has_value());
  }
  const auto points = (*sampler)->ask(4);
  ASSERT_TRUE(points.has_value());
  EXPECT_EQ(points->size(), 4U);
}

}  // namespace
}  // namespace kerf::search
