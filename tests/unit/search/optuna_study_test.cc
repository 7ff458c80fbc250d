#include "search/optuna/study.h"

#include <gmock/gmock.h>
#include <signal.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>

namespace kerf::optuna {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Problem problem() {
  Problem out;
  out.space = {{"x", FloatDistribution{-5, 5}},
               {"n", IntDistribution{1, 9, 2}},
               {"kind", CategoricalDistribution{{"round", "square", nullptr}}}};
  out.directions = {Direction::kMinimize, Direction::kMaximize};
  out.seed = 3;
  return out;
}

/// Skips where this machine has no Optuna, saying so.
class OptunaStudy : public testing::Test {
 protected:
  void SetUp() override {
    auto made = create_study(problem());
    if (!made.has_value()) GTEST_SKIP() << made.error().message;
    study_.emplace(std::move(*made));
  }
  std::optional<Study> study_;
};

TEST_F(OptunaStudy, AsksForPointsOfTheSpaceAndLearns) {
  for (int round = 0; round < 10; ++round) {
    const auto trials = study_->ask(3);
    ASSERT_TRUE(trials.has_value()) << trials.error().message;
    for (const Trial& trial : *trials) {
      const auto x = trial.get<double>("x");
      EXPECT_LE(std::abs(x), 5);
      EXPECT_EQ(trial.get<int>("n") % 2, 1);
      EXPECT_THAT(trial.params.at("kind").dump(), testing::AnyOf("\"round\"", "\"square\"", "null"));
      ASSERT_TRUE(study_->tell(trial.number, {x * x, 1.0 * trial.get<int>("n")}, {x - 4}).has_value());
    }
  }
  EXPECT_EQ(study_->trials().size(), 30U);
  const auto best = study_->best_trials();
  ASSERT_FALSE(best.empty());
  for (const FrozenTrial& trial : best) EXPECT_LE(trial.constraints.at(0), 0);
}

TEST_F(OptunaStudy, EnqueuedTrialsComeFirstInOrder) {
  ASSERT_TRUE(study_->enqueue_trial({{"x", 1.5}, {"n", 3}, {"kind", "square"}}).has_value());
  ASSERT_TRUE(study_->enqueue_trial({{"x", -1.0}, {"n", 9}, {"kind", nullptr}}).has_value());
  const auto trials = study_->ask(3);
  ASSERT_TRUE(trials.has_value());
  EXPECT_EQ((*trials)[0].get<double>("x"), 1.5);
  EXPECT_EQ((*trials)[1].get<int>("n"), 9);
  EXPECT_EQ((*trials)[2].number, 2);
}

TEST_F(OptunaStudy, SurvivesTheDeathOfItsProcess) {
  auto twin = create_study(problem());
  ASSERT_TRUE(twin.has_value());
  for (int n = 0; n < 24; ++n) {
    const auto one = study_->ask();
    const auto other = twin->ask();
    ASSERT_TRUE(one.has_value() && other.has_value());
    EXPECT_EQ(one->params, other->params) << "trial " << n;
    const std::vector<double> values = {std::pow(one->get<double>("x"), 2), 1};
    ASSERT_TRUE(study_->tell(n, values).has_value());
    ASSERT_TRUE(twin->tell(n, values).has_value());
    if (n % 8 == 5) ::kill(*study_->client().bridge_pid(), SIGKILL);
  }
}

TEST_F(OptunaStudy, GaussianProcessSurvivesTheDeathOfItsProcess) {
  Problem what = problem();
  what.sampler = GPSampler{.n_startup_trials = 5};
  auto study = create_study(what);
  if (!study.has_value()) {
    ASSERT_EQ(study.error().code, ErrorCode::kFailedPrecondition) << study.error().message;
    GTEST_SKIP() << study.error().message;
  }
  auto twin = create_study(what);
  ASSERT_TRUE(twin.has_value());
  for (int round = 0; round < 5; ++round) {
    const auto trials = study->ask(2);
    const auto others = twin->ask(2);
    ASSERT_TRUE(trials.has_value()) << trials.error().message;
    ASSERT_TRUE(others.has_value()) << others.error().message;
    for (std::size_t i = 0; i < 2; ++i) {
      const Trial& trial = (*trials)[i];
      EXPECT_EQ(trial.params, (*others)[i].params) << "trial " << trial.number;
      if (trial.number == 6) continue;  // in flight from then on
      const double x = trial.get<double>("x");
      const std::vector<double> values = {x * x, 1.0 * trial.get<int>("n")};
      ASSERT_TRUE(study->tell(trial.number, values, {x - 2}).has_value());
      ASSERT_TRUE(twin->tell(trial.number, values, {x - 2}).has_value());
    }
    if (round >= 2) ::kill(*study->client().bridge_pid(), SIGKILL);
  }
}

TEST_F(OptunaStudy, ValueThatIsNotFiniteMakesAFailedTrial) {
  for (const double bad : std::vector<double>{NAN, HUGE_VAL, -HUGE_VAL}) {
    const auto trial = study_->ask();
    ASSERT_TRUE(trial.has_value());
    ASSERT_TRUE(study_->tell(trial->number, {bad, 1}).has_value());
    EXPECT_EQ(study_->trials().back().state, TrialState::kFailed);
    EXPECT_TRUE(study_->trials().back().values.empty());
  }
  EXPECT_TRUE(study_->ask().has_value());
  EXPECT_TRUE(study_->best_trials().empty());
}

TEST_F(OptunaStudy, RefusesWhatCannotBe) {
  const auto trial = study_->ask();
  ASSERT_TRUE(trial.has_value());
  EXPECT_THAT(study_->tell(trial->number, {1}).error().message, HasSubstr("1 values for trial 0; expected 2"));
  EXPECT_THAT(study_->tell(7, {1, 2}).error().message, HasSubstr("no trial 7"));
  EXPECT_THAT(study_->tell(0, TrialState::kWaiting).error().message, HasSubstr("expected pruned or failed"));
  ASSERT_TRUE(study_->tell(0, TrialState::kPruned).has_value());
  EXPECT_THAT(study_->tell(0, {1, 2}).error().message, HasSubstr("trial 0 is pruned"));
  EXPECT_THAT(study_->enqueue_trial({{"x", 0}, {"n", 2}, {"kind", "round"}}).error().message, HasSubstr("params.n: 2"));
  EXPECT_THAT(study_->enqueue_trial({{"x", 0}, {"n", 1}}).error().message, HasSubstr("no \"kind\""));
  EXPECT_THAT(study_->enqueue_trial({{"x", 0}, {"n", 1}, {"kind", "round"}, {"y", 1}}).error().message, HasSubstr("\"y\""));
}

TEST_F(OptunaStudy, BruteForceEndsWhereEveryPointHasItsTrial) {
  Problem small = problem();
  small.space = {{"n", IntDistribution{0, 2}}, {"kind", CategoricalDistribution{{"round", "square"}}}};
  small.sampler = BruteForceSampler{};
  auto study = create_study(small);
  ASSERT_TRUE(study.has_value()) << study.error().message;
  ASSERT_TRUE(study->add_trial({0, TrialState::kFailed, {{"n", 1}, {"kind", "round"}}, {}, {}}).has_value());
  ASSERT_TRUE(study->ask(2).has_value());
  const auto rest = study->ask(9);
  ASSERT_TRUE(rest.has_value()) << rest.error().message;
  EXPECT_EQ(rest->size(), 3U);
  std::set<Params> points;
  for (const FrozenTrial& trial : study->trials()) points.insert(trial.params);
  EXPECT_EQ(points.size(), 6U);
  const auto end = study->ask();
  ASSERT_FALSE(end.has_value());
  EXPECT_EQ(end.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_THAT(end.error().message, HasSubstr("every point of the space, 6 in all, has its trial"));
}

TEST_F(OptunaStudy, RefusesAnotherNumberOfConstraints) {
  const auto trials = study_->ask(3);
  ASSERT_TRUE(trials.has_value());
  ASSERT_TRUE(study_->tell(0, TrialState::kPruned).has_value());  // has none, and may
  ASSERT_TRUE(study_->tell(1, {1, 2}, {-1}).has_value());
  const auto refused = study_->tell(2, {1, 2});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(refused.error().message, HasSubstr("trial 2: 0 constraints; expected 1"));
  EXPECT_THAT(study_->add_trial({0, TrialState::kComplete, trials->front().params, {1, 2}, {0, 0}}).error().message,
              HasSubstr("add_trial: 2 constraints; expected 1"));
  EXPECT_TRUE(study_->tell(2, {1, 2}, {3}).has_value());  // it still runs
}

TEST_F(OptunaStudy, TrialsFromElsewhereCount) {
  FrozenTrial known{0, TrialState::kComplete, {{"x", 0.5}, {"n", 5}, {"kind", "round"}}, {0.25, 5}, {}};
  ASSERT_TRUE(study_->add_trial(known).has_value());
  known.values = {NAN, 1};
  EXPECT_FALSE(study_->add_trial(known).has_value());
  EXPECT_THAT(study_->best_trials(), testing::SizeIs(1));
  EXPECT_EQ(study_->ask()->number, 1);
}

std::string text_of(const std::string& path) {
  std::ifstream file(std::string(KERF_SOURCE_DIR "/") + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(OptunaDocs, ShowTheExampleThatIsBuiltAndRun) {
  const std::string example = text_of("examples/optuna/ask_and_tell.cc");
  ASSERT_GT(example.size(), 1000U);
  EXPECT_THAT(text_of("docs/optuna.md"), HasSubstr("```cpp\n" + example + "```"));
}

TEST(OptunaSpace, SaysWhatIsWrong) {
  const auto message = [](SearchSpace space) { return check(space).error().message; };
  EXPECT_THAT(message({{"a", IntDistribution{3, 1}}}), HasSubstr("\"a\": high below low"));
  EXPECT_THAT(message({{"a", FloatDistribution{0, 1, std::nullopt, true}}}), HasSubstr("log"));
  EXPECT_THAT(message({{"a", CategoricalDistribution{{1, 1}}}}), HasSubstr("the choice 1 twice"));
  EXPECT_THAT(message({{"a", IntDistribution{0, 1}}, {"a", IntDistribution{0, 1}}}), HasSubstr("comes twice"));
  EXPECT_EQ(size_of({{"a", IntDistribution{0, 9, 3}}, {"b", CategoricalDistribution{{1, 2}}}}), 8);
  EXPECT_THAT(message({{"a", CategoricalDistribution{{1, "1", true}}}}), HasSubstr("the choice true twice"));
  EXPECT_THAT(message({{"a", CategoricalDistribution{{false, nullptr, "", 0.0}}}}), HasSubstr("the choice 0.0 twice"));
  EXPECT_THAT(message({{"\xff", IntDistribution{0, 1}}}), HasSubstr("a name that isn't UTF-8"));
  EXPECT_THAT(message({{"a", CategoricalDistribution{{"x", "\xff"}}}}), HasSubstr("\"a\": a choice that isn't UTF-8"));
  EXPECT_TRUE(std::isinf(size_of({{"a", FloatDistribution{0, 1}}})));
  EXPECT_EQ(size_of({{"a", FloatDistribution{0, 0.3, 0.1}}}), 4);  // 0.3 / 0.1 < 3
  EXPECT_EQ(size_of({{"a", FloatDistribution{0, 1, 0.3}}}), 4);
}

TEST(OptunaSpace, KnowsTheValuesOfARange) {
  const Distribution steps = FloatDistribution{0, 1, 0.3};
  for (const double value : {0.0, 0.3, 0.6, 0.8999999999999999}) EXPECT_TRUE(to_wire(steps, value).has_value()) << value;
  for (const double value : {0.25, 1.0}) {
    EXPECT_THAT(to_wire(steps, value).error().message, HasSubstr("expected whole steps from its low end"));
  }
  EXPECT_THAT(to_wire(steps, -0.3).error().message, HasSubstr("expected one within its range"));
  EXPECT_THAT(to_wire(IntDistribution{1, 9, 2}, 4).error().message, HasSubstr("expected whole steps from its low end"));
}

TEST(OptunaSpace, BruteForceRefusesWhatIsTooLarge) {
  Problem large = problem();
  large.sampler = BruteForceSampler{};
  const auto refused = create_study(large);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(refused.error().message, HasSubstr("optuna-bruteforce: the space has inf points"));
}

}  // namespace
}  // namespace kerf::optuna
