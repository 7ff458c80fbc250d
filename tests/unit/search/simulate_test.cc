#include "search/simulate.h"

#include <gmock/gmock.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "core/sanitized.h"
#include "search/hypervolume.h"

namespace kerf::search {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Json document() {
  return Json::parse(R"({
    "objectives": [{"metric": "loss", "direction": "minimize"},
                   {"metric": "latency", "direction": "minimize"}],
    "layers": [
      {"name": "a", "choices": [{"weight_bits": 4, "loss": 0.5, "latency": 1, "profile": {"loss": 0.4, "latency": 1}},
                                {"weight_bits": 8, "loss": 0.0, "latency": 2, "profile": {"loss": 0.0, "latency": 2}}]},
      {"name": "b", "choices": [{"weight_bits": 4, "loss": 0.3, "latency": 2},
                                {"weight_bits": 8, "loss": 0.1, "latency": 4}]},
      {"name": "fixed", "choices": [{"loss": 0.01, "latency": 0.5}]},
      {"name": "c", "choices": [{"weight_bits": 4, "loss": 0.2, "latency": 1},
                                {"weight_bits": 8, "loss": 0.0, "latency": 3}]}],
    "ties": [["a", "c"]],
    "constants": {"latency": 3.0},
    "pairs": [{"layers": ["a", "b"], "choices": [0, 0], "loss": 0.02}],
    "reference": {"loss": 2.0, "latency": 20.0},
    "profile_cost": 1.5
  })");
}

Table table(const Json& from = document()) {
  auto parsed = Table::parse(from);
  EXPECT_TRUE(parsed.has_value()) << parsed.error().message;
  return *parsed;
}

std::string error_of(const Json& from) {
  const auto parsed = Table::parse(from);
  EXPECT_FALSE(parsed.has_value());
  return parsed.has_value() ? "" : parsed.error().message;
}

TEST(Table, AddsConstantsLayersAndPairsThatMatch) {
  const Table it = table();
  EXPECT_DOUBLE_EQ(it.exact({0, 0, 0, 0}).at("loss"), 0.5 + 0.3 + 0.01 + 0.2 + 0.02);
  EXPECT_DOUBLE_EQ(it.exact({0, 1, 0, 0}).at("loss"), 0.5 + 0.1 + 0.01 + 0.2);
  EXPECT_DOUBLE_EQ(it.exact({1, 1, 0, 1}).at("latency"), 3 + 2 + 4 + 0.5 + 3);
  EXPECT_FALSE(it.exact({0, 0, 0, 0}).contains("weight_bits"));
}

TEST(Table, LooksAtNeighboursReachTheSamplerInTheirOrder) {
  Json looked = document();
  // "b" is the second dimension, whichever way round the pair names them.
  looked["pairs"] = {{{"layers", {"b", "a"}}, {"choices", {1, 0}}, {"latency", 0.5}, {"profile", {{"latency", 0.4}}}}};
  const Table it = table(looked);
  const Profile profile = it.problem(1, true).profile;
  ASSERT_EQ(profile.neighbours.size(), 1U);
  EXPECT_EQ(profile.neighbours[0].first, 0);
  EXPECT_EQ(profile.neighbours[0].metric, 1);
  EXPECT_EQ(profile.neighbours[0].adds, (std::vector<std::vector<double>>{{0, 0.4}, {0, 0}}));
  EXPECT_TRUE(it.problem(1, false).profile.neighbours.empty());
  // A look adds nothing to what is measured.
  EXPECT_DOUBLE_EQ(it.exact({0, 1, 0, 0}).at("latency"), table().exact({0, 1, 0, 0}).at("latency") + 0.5);
}

TEST(Table, TiedLayersShareADimensionAndFixedOnesHaveNone) {
  const Table it = table();
  const SamplerProblem problem = it.problem(1, false);
  ASSERT_EQ(problem.dimensions.size(), 2U);
  EXPECT_EQ(problem.dimensions[0].name, "a");
  EXPECT_EQ(problem.dimensions[1].name, "b");
  EXPECT_THAT(it.layer_choices({1, 0}), ElementsAre(1, 0, 0, 1));
  // Bits grow with the index here: the last choice is the least compressed, and goes first.
  EXPECT_THAT(problem.anchors, ElementsAre(Choices{1, 1}, Choices{0, 0}));
  EXPECT_TRUE(problem.profile.empty());
}

TEST(Table, NoiseIsSeededAndScalesWithTheValue) {
  Json noisy = document();
  noisy["noise"] = {{"latency", 0.01}};
  const Table it = table(noisy);
  const std::vector<int> choices = {1, 1, 0, 1};
  EXPECT_EQ(it.measure(choices, 1, 5), it.measure(choices, 1, 5));
  EXPECT_NE(it.measure(choices, 1, 5).at("latency"), it.measure(choices, 1, 6).at("latency"));
  EXPECT_NE(it.measure(choices, 1, 5).at("latency"), it.measure(choices, 2, 5).at("latency"));
  EXPECT_EQ(it.measure(choices, 1, 5).at("loss"), it.exact(choices).at("loss"));
  double sum = 0;
  double squares = 0;
  constexpr int kCount = 4000;
  for (int n = 0; n < kCount; ++n) {
    const double z = (it.measure(choices, 1, n).at("latency") / 12.5 - 1) / 0.01;
    sum += z;
    squares += z * z;
  }
  EXPECT_NEAR(sum / kCount, 0, 0.08);
  EXPECT_NEAR(squares / kCount, 1, 0.12);
}

TEST(Table, ReferenceIsTheWorstAndATenthWhereNoneIsGiven) {
  Json without = document();
  without.erase("reference");
  const Table it = table(without);
  ASSERT_EQ(it.reference().size(), 2U);
  EXPECT_NEAR(it.reference()[0], 1.1 * (0.5 + 0.3 + 0.01 + 0.2 + 0.02), 1e-12);
  EXPECT_NEAR(it.reference()[1], 1.1 * (3 + 2 + 4 + 0.5 + 3), 1e-12);
}

TEST(Table, SaysWhereItIsWrong) {
  Json bad = document();
  bad["layers"][0]["choices"][1].erase("loss");
  EXPECT_THAT(error_of(bad), HasSubstr("layer a have it"));
  bad = document();
  bad["ties"] = Json::parse(R"([["a", "fixed"]])");
  EXPECT_THAT(error_of(bad), HasSubstr("a and fixed have different numbers of choices"));
  bad = document();
  bad["ties"] = Json::parse(R"([["a", "z"]])");
  EXPECT_THAT(error_of(bad), HasSubstr("table.ties: \"z\""));
  bad = document();
  bad["pairs"][0]["choices"] = {0, 2};
  EXPECT_THAT(error_of(bad), HasSubstr("table.pairs[0].choices: 2"));
  bad = document();
  bad["objectives"][0]["metric"] = "cost";
  EXPECT_THAT(error_of(bad), HasSubstr("\"cost\""));
  bad = document();
  bad["layers"][1]["name"] = "a";
  EXPECT_THAT(error_of(bad), HasSubstr("no other layer"));
  bad = document();
  bad["layers"][2]["choices"] = Json::array();
  EXPECT_THAT(error_of(bad), HasSubstr("table.layers[2].choices"));
  bad = document();
  bad["reference"].erase("latency");
  EXPECT_THAT(error_of(bad), HasSubstr("no \"latency\""));
  bad = document();
  bad["layer"] = 1;
  EXPECT_THAT(error_of(bad), HasSubstr("did you mean \"layers\""));
  EXPECT_THAT(error_of(Json::array()), HasSubstr("expected an object"));
}

TEST(Table, ANumberThatIsTextOrLeftOutIsNamedWithItsChoice) {
  Json bad = document();
  bad["layers"][1]["choices"][1]["loss"] = "0.1";
  EXPECT_EQ(error_of(bad), "table.layers[1].choices[1].loss: \"0.1\"; expected a finite number");
  for (Json& choice : bad["layers"][1]["choices"]) choice["loss"] = nullptr;  // all alike
  EXPECT_EQ(error_of(bad), "table.layers[1].choices[0].loss: null; expected a finite number");
  bad = document();
  bad["layers"][1]["choices"][1].erase("loss");
  EXPECT_EQ(error_of(bad), "table.layers[1].choices[1]: no \"loss\"; expected it, as other choices of layer b have it");
  bad = document();
  bad["layers"][3]["choices"][0]["energy"] = 2;
  EXPECT_TRUE(Table::parse(bad).has_value());  // nothing asks for it
  bad["constraints"] = Json::parse(R"([{"metric": "energy", "max": 3}])");
  EXPECT_THAT(error_of(bad), HasSubstr("table.layers[3].choices[1]: no \"energy\""));
  bad = document();
  bad["layers"][0]["choices"][0]["weight_bits"] = Json::array();
  EXPECT_THAT(error_of(bad), HasSubstr("table.layers[0].choices[0].weight_bits: []"));
  bad["layers"][0]["choices"][0]["weight_bits"] = "ternary";
  EXPECT_TRUE(Table::parse(bad).has_value());
}

TEST(Table, AMetricThatNothingHasIsRefusedWhereverItStands) {
  const Json misspelt = {{"los", 0.1}};
  for (const char* part : {"noise", "reference"}) {
    Json bad = document();
    bad[part]["los"] = 0.1;
    EXPECT_EQ(error_of(bad), std::string("table.") + part + ".los; expected a metric that choices or constants have: latency loss");
  }
  Json bad = document();
  bad["pairs"][0].update(misspelt);
  EXPECT_THAT(error_of(bad), HasSubstr("table.pairs[0].los; expected a metric"));
  bad = document();
  bad["pairs"][0]["profile"] = misspelt;
  EXPECT_THAT(error_of(bad), HasSubstr("table.pairs[0].profile.los; expected a metric"));
  bad = document();
  bad["layers"][0]["choices"][1]["profile"] = misspelt;
  EXPECT_THAT(error_of(bad), HasSubstr("table.layers[0].choices[1].profile.los; expected a metric"));
  // What no choice decides is nothing to search for.
  bad = document();
  bad["constants"]["cost"] = 1;
  bad["objectives"][0]["metric"] = "cost";
  EXPECT_THAT(error_of(bad), HasSubstr("table.objectives[0].metric: \"cost\"; expected a metric that choices or pairs have"));
}

TEST(Table, AnObjectiveOrALayerThatStandsTwiceAndBoundsThatCrossAreRefused) {
  Json bad = document();
  bad["objectives"][1]["metric"] = "loss";
  EXPECT_THAT(error_of(bad), HasSubstr("table.objectives[1].metric: \"loss\"; expected a metric that is not an objective already"));
  bad = document();
  bad["pairs"][0]["layers"] = {"a", "a"};
  EXPECT_THAT(error_of(bad), HasSubstr("table.pairs[0].layers: \"a\"; expected each layer once"));
  bad = document();
  bad["constraints"] = Json::parse(R"([{"metric": "loss", "min": 2, "max": 1}])");
  EXPECT_THAT(error_of(bad), HasSubstr("table.constraints[0].max: 1; expected at least \"min\", 2"));
  bad = document();
  bad["name"] = 3;
  EXPECT_THAT(error_of(bad), HasSubstr("table.name: 3; expected a text"));
}

TEST(Table, NumbersThatNoHypervolumeHoldsAreRefused) {
  const auto refused = [](const Json& bad) {
    EXPECT_THAT(error_of(bad), HasSubstr("adds up to as much as"));
  };
  Json bad = document();
  bad["layers"][1]["choices"][0]["loss"] = -1e308;
  refused(bad);
  bad = document();
  bad["constants"]["latency"] = 1e200;
  refused(bad);
  bad = document();
  bad["pairs"][0]["loss"] = 1e80;
  refused(bad);
  bad = document();
  bad["noise"] = {{"latency", 1e100}};
  refused(bad);
  bad = document();
  bad["reference"]["loss"] = 1e100;
  EXPECT_THAT(error_of(bad), HasSubstr("table.reference.loss: 1e+100; expected at most 1e+75"));
  Json large = document();
  for (Json& layer : large["layers"]) {
    for (Json& choice : layer["choices"]) {
      choice["loss"] = 1e74 * choice["loss"].get<double>();
      choice["latency"] = 1e73 * choice["latency"].get<double>();
      choice.erase("profile");
    }
  }
  large["constants"]["latency"] = 0;
  large["reference"] = {{"loss", 9e74}, {"latency", 9e74}};
  const auto result = simulate(table(large), {.sampler = "profile", .trials = 4});
  ASSERT_TRUE(result.has_value());
  ASSERT_EQ(result->hypervolume.size(), 4U);
  for (const double value : result->hypervolume) EXPECT_TRUE(std::isfinite(value));
}

TEST(Simulation, FindsTheWholeFrontOfASmallTable) {
  const Table it = table();
  const auto result = simulate(it, {.sampler = "random", .trials = 50, .seed = 3});
  ASSERT_TRUE(result.has_value()) << result.error().message;
  EXPECT_EQ(result->trials.size(), 4U);  // two dimensions of two values
  ASSERT_EQ(result->hypervolume.size(), 4U);
  std::vector<ObjectiveVector> all;
  for (const SimulatedTrial& trial : result->trials) all.push_back(trial.observation.objectives);
  const std::vector<Direction> directions(2, Direction::kMinimize);
  EXPECT_NEAR(result->hypervolume.back(), hypervolume(all, directions, it.reference()), 1e-12);
  EXPECT_EQ(result->front.size(), non_dominated(all, directions).size());
  EXPECT_TRUE(std::is_sorted(result->hypervolume.begin(), result->hypervolume.end()));
  EXPECT_EQ(result->hypervolume, result->exact_hypervolume);  // no noise
}

TEST(Simulation, PrintsTrialsFrontAndHypervolume) {
  const auto result = simulate(table(), {.sampler = "random", .trials = 2});
  ASSERT_TRUE(result.has_value());
  const Json printed = result->to_json();
  ASSERT_EQ(printed["trials"].size(), 2U);
  EXPECT_EQ(printed["trials"][0]["choices"], Json({1, 1, 0, 1}));
  EXPECT_EQ(printed["trials"][0]["metrics"]["latency"], 12.5);
  EXPECT_EQ(printed["hypervolume"].size(), 2U);
  EXPECT_EQ(printed["front"].size(), 2U);
  EXPECT_EQ(printed["front"][0]["trial"], 0);  // the best in the first objective
}

TEST(Simulation, ProfileIsShownAndChargedToTheBudget) {
  const Table it = table();
  const SamplerProblem problem = it.problem(1, true);
  ASSERT_EQ(problem.profile.alone.size(), 2U);
  EXPECT_TRUE(std::isnan(problem.profile.at(0, 0, 0)));  // c, tied to a, has none
  Json alone = document();
  alone.erase("ties");
  EXPECT_EQ(table(alone).problem(1, true).profile.alone[0][0], (std::vector<double>{0.4, 1}));
  const auto paid = simulate(it, {.sampler = "random", .trials = 4, .look = true});
  ASSERT_TRUE(paid.has_value());
  EXPECT_EQ(paid->trials.size(), 2U);  // 4 − 1.5
}

TEST(Simulation, KeepsToConstraints) {
  Json bounded = document();
  bounded["constraints"] = {{{"metric", "loss"}, {"max", 0.5}}};
  const auto result = simulate(table(bounded), {.sampler = "random", .trials = 50});
  ASSERT_TRUE(result.has_value());
  for (const std::size_t i : result->front) {
    EXPECT_LE(result->trials[i].metrics.at("loss"), 0.5);
  }
  EXPECT_FALSE(result->front.empty());
}

std::int64_t resident_bytes() {
  std::int64_t pages = 0;
  std::int64_t resident = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident;
  return resident * 4096;
}

/// `layers` layers of four choices each; ties, pairs, noise and constants among them.
Json wide(int layers) {
  Json out = {{"objectives", {{{"metric", "loss"}}, {{"metric", "latency"}}}},
              {"constants", {{"latency", 3.0}}},
              {"noise", {{"latency", 0.01}}},
              {"ties", Json::array({Json::array({"l0", "l7"})})},
              {"pairs", {{{"layers", {"l1", "l2"}}, {"choices", {0, 0}}, {"loss", 0.02}}}}};
  for (int i = 0; i < layers; ++i) {
    Json choices = Json::array();
    for (int k = 0; k < 4; ++k) choices.push_back({{"weight_bits", 2 << k}, {"loss", 0.1 * (3 - k) * (1 + i % 5)}, {"latency", 1.0 + k}});
    out["layers"].push_back({{"name", "l" + std::to_string(i)}, {"choices", choices}});
  }
  return out;
}

TEST(Simulation, EverySamplerOpensFourToTheFiftyPointsInLittleMemory) {
  const Table it = table(wide(51));  // two of them are tied
  for (const std::string& name : sampler_names()) {
    const std::int64_t before = resident_bytes();
    const auto result = simulate(it, {.sampler = name, .trials = 20, .seed = 2});
    if (name == "optuna-bruteforce" && !result.has_value()) {
      EXPECT_NE(result.error().code, ErrorCode::kInternal) << result.error().message;
      continue;
    }
    if (!result.has_value()) {  // a Python without what it needs
      EXPECT_THAT(result.error().code, testing::AnyOf(ErrorCode::kUnavailable, ErrorCode::kFailedPrecondition)) << name;
      continue;
    }
    EXPECT_EQ(result->trials.size(), 20U) << name;
    EXPECT_GT(result->exact_hypervolume.back(), 0) << name;
    // What is freed stays resident for a while where a sanitizer watches.
    if (!kSanitized) {
      EXPECT_LT(resident_bytes() - before, 32 << 20) << name;
    }
  }
}

TEST(Simulation, MemoryGrowsWithTheLayersAndNotWithThePoints) {
  for (const char* name : {"random", "profile"}) {
    const auto grown = [&](int layers) {
      const std::int64_t before = resident_bytes();
      const Table it = table(wide(layers));
      auto sampler = make_sampler(name, it.problem(1, false));
      EXPECT_TRUE(sampler.has_value());
      const auto points = (*sampler)->ask(2);
      EXPECT_TRUE(points.has_value());
      return std::max<std::int64_t>(resident_bytes() - before, 0);
    };
    (void)grown(51);
    EXPECT_LT(grown(400), 24 << 20) << name;  // 4^399 points
  }
}

TEST(Simulation, UnknownSamplerIsRefused) {
  const auto result = simulate(table(), {.sampler = "guess"});
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace kerf::search
