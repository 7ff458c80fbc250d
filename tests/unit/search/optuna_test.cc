#include "search/optuna/optuna_sampler.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <nlohmann/json.hpp>

#include "search/dedupe.h"
#include "search/random.h"

namespace kerf::search {
namespace {

using testing::HasSubstr;

SamplerProblem problem() {
  SamplerProblem out;
  for (int d = 0; d < 8; ++d) out.dimensions.push_back({"d" + std::to_string(d), 2 + d % 4, d % 2 == 1});
  out.directions = {Direction::kMinimize, Direction::kMaximize};
  out.constraint_count = 1;
  out.seed = 5;
  return out;
}

Observation outcome(std::int64_t number, const Choices& choices) {
  Observation out;
  out.number = number;
  out.choices = choices;
  double cost = 0;
  double gain = 0;
  for (std::size_t d = 0; d < choices.size(); ++d) {
    cost += choices[d] * (1.0 + static_cast<double>(d));
    gain += choices[d] * (9.0 - static_cast<double>(d));
  }
  out.objectives = {cost, gain};
  out.constraints = {cost - 60};
  return out;
}

/// Skips where this machine has no Optuna, saying so.
class OptunaBridge : public testing::Test {
 protected:
  void SetUp() override {
    auto made = OptunaProposer::create("optuna-tpe", problem());
    if (!made.has_value()) GTEST_SKIP() << made.error().message;
  }
};

TEST_F(OptunaBridge, KilledProcessIsRebuiltAndNothingChanges) {
  const auto run = [](int kill_every) {
    auto made = OptunaProposer::create("optuna-tpe", problem());
    EXPECT_TRUE(made.has_value());
    OptunaProposer* proposer = made->get();
    UniqueSampler sampler(problem(), std::move(*made));
    std::vector<Choices> all;
    for (int n = 0; n < 36; n += 2) {
      const auto batch = sampler.ask(2);
      EXPECT_TRUE(batch.has_value()) << batch.error().message;
      if (!batch.has_value()) break;
      for (std::size_t i = 0; i < batch->size(); ++i) {
        all.push_back((*batch)[i]);
        EXPECT_TRUE(sampler.tell(outcome(n + static_cast<int>(i), (*batch)[i])).has_value());
      }
      if (kill_every > 0 && n % kill_every == 0) {
        const auto pid = proposer->bridge_pid();
        if (pid) ::kill(*pid, SIGKILL);
      }
    }
    return all;
  };
  EXPECT_EQ(run(0), run(12));
}

TEST_F(OptunaBridge, DeathInTheMiddleOfAnAnswerIsNotSeen) {
  auto made = OptunaProposer::create("optuna-tpe", problem());
  ASSERT_TRUE(made.has_value());
  const auto before = (*made)->propose(0);
  ASSERT_TRUE(before.has_value());
  ::kill(*(*made)->bridge_pid(), SIGSTOP);  // accepts the question, and dies before the answer
  const pid_t pid = *(*made)->bridge_pid();
  ::kill(pid, SIGKILL);
  const auto after = (*made)->propose(0);
  ASSERT_TRUE(after.has_value()) << after.error().message;
  EXPECT_EQ(*before, *after);
  EXPECT_NE(*(*made)->bridge_pid(), pid);
}

TEST_F(OptunaBridge, SilentProcessIsGivenUpInTime) {
  optuna::BridgeOptions options;
  auto bridge = optuna::BridgeProcess::start(options);
  ASSERT_TRUE(bridge.has_value()) << bridge.error().message;
  options.call_limit = std::chrono::milliseconds(50);
  auto impatient = optuna::BridgeProcess::start(options);
  ASSERT_TRUE(impatient.has_value()) << impatient.error().message;
  ::kill(impatient->pid(), SIGSTOP);
  const auto answer = impatient->call({{"type", "ping"}});
  ASSERT_FALSE(answer.has_value());
  EXPECT_EQ(answer.error().code, ErrorCode::kDeadlineExceeded);
  EXPECT_FALSE(impatient->usable());
  EXPECT_TRUE(bridge->call({{"type", "ping"}}).has_value());
}

TEST_F(OptunaBridge, RefusedMessageLeavesTheProcessAlive) {
  auto bridge = optuna::BridgeProcess::start({});
  ASSERT_TRUE(bridge.has_value());
  const auto answer = bridge->call({{"type", "dance"}});
  ASSERT_FALSE(answer.has_value());
  EXPECT_EQ(answer.error().code, ErrorCode::kInternal);
  EXPECT_THAT(answer.error().message, HasSubstr("unknown message 'dance'"));
  EXPECT_TRUE(bridge->call({{"type", "ping"}}).has_value());
  EXPECT_TRUE(bridge->call({{"type", "shutdown"}}).has_value());
  const auto late = bridge->call({{"type", "ping"}});
  ASSERT_FALSE(late.has_value());
  EXPECT_EQ(late.error().code, ErrorCode::kUnavailable);
}

TEST_F(OptunaBridge, MessageOfAnotherProtocolIsRefusedWithBothNumbers) {
  auto bridge = optuna::BridgeProcess::start({});
  ASSERT_TRUE(bridge.has_value());
  const auto answer = bridge->call({{"type", "ping"}, {"protocol", 1}});
  ASSERT_FALSE(answer.has_value());
  EXPECT_EQ(answer.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_THAT(answer.error().message, HasSubstr("a message of protocol 1; expected 2"));
  EXPECT_TRUE(bridge->call({{"type", "ping"}}).has_value());
}

TEST_F(OptunaBridge, BatchIsOneQuestion) {
  auto made = OptunaProposer::create("optuna-tpe", problem());
  ASSERT_TRUE(made.has_value());
  const OptunaProposer* proposer = made->get();
  UniqueSampler sampler(problem(), std::move(*made));
  const auto batch = sampler.ask(12);
  ASSERT_TRUE(batch.has_value()) << batch.error().message;
  EXPECT_EQ(batch->size(), 12U);
  EXPECT_EQ(proposer->questions(), 1);
}

TEST_F(OptunaBridge, DuplicatesAreAnsweredAndCostNoTrial) {
  // 16 of 4,096 points differ in what they mean: TPE proposes what is known again and again.
  SamplerProblem what = problem();
  what.fingerprint = [](const Choices& choices) {
    std::string name;
    for (std::size_t d = 0; d < 4; ++d) name += choices[d] > 0 ? '1' : '0';
    return name;
  };
  auto made = OptunaProposer::create("optuna-tpe", what);
  ASSERT_TRUE(made.has_value());
  const OptunaProposer* proposer = made->get();
  UniqueSampler sampler(what, std::move(*made));
  std::set<std::string> seen;
  int trials = 0;
  for (; trials < 40; ++trials) {
    const auto point = sampler.ask(1);
    ASSERT_TRUE(point.has_value()) << point.error().message;
    if (point->empty()) break;
    EXPECT_TRUE(seen.insert(what.fingerprint(point->front())).second);
    ASSERT_TRUE(sampler.tell(outcome(trials, point->front())).has_value());
  }
  EXPECT_EQ(trials, 16);
  EXPECT_GT(proposer->questions(), 20);  // there were duplicates
}

TEST_F(OptunaBridge, AnAnsweredDuplicateChangesTheNextAttemptAndIsForgottenThen) {
  const auto client = [] {
    optuna::Problem what;
    for (int d = 0; d < 6; ++d) what.space.emplace_back("x" + std::to_string(d), optuna::IntDistribution{0, 9});
    what.directions = {Direction::kMinimize};
    what.sampler = optuna::TPESampler{.n_startup_trials = 5};
    auto made = optuna::Client::create(what);
    EXPECT_TRUE(made.has_value());
    Rng random({8});
    for (int n = 0; n < 12; ++n) {
      Json params = Json::array();
      double sum = 0;
      for (int d = 0; d < 6; ++d) {
        params.push_back(random.below(10));
        sum += params.back().get<double>();
      }
      made->ended({params, TrialState::kComplete, {sum}, {}});
    }
    return std::move(*made);
  };
  auto first = client();
  const auto plain = first.suggest(1, 1);
  ASSERT_TRUE(plain.has_value()) << plain.error().message;
  std::vector<optuna::ToldTrial> answered;
  for (int n = 0; n < 8; ++n) answered.push_back({Json::array({9, 9, 9, 9, 9, 9}), TrialState::kComplete, {-100}, {}});
  const auto informed = first.suggest(1, 1, answered);
  ASSERT_TRUE(informed.has_value()) << informed.error().message;
  EXPECT_NE(*plain, *informed);
  EXPECT_EQ(*first.suggest(1, 1), *plain);
}

TEST_F(OptunaBridge, BruteForceTriesEverythingOnce) {
  optuna::Problem what;
  what.space = {{"a", optuna::IntDistribution{1, 3}}, {"b", optuna::CategoricalDistribution{{"x", "y"}}}};
  what.directions = {Direction::kMinimize};
  what.sampler = optuna::BruteForceSampler{};
  auto client = optuna::Client::create(what);
  ASSERT_TRUE(client.has_value()) << client.error().message;
  std::set<std::string> seen;
  for (int n = 0; n < 6; ++n) {
    const auto point = client->suggest(1);
    ASSERT_TRUE(point.has_value()) << point.error().message;
    EXPECT_TRUE(seen.insert(point->front().dump()).second);
    client->ended({point->front(), TrialState::kComplete, {1.0 * n}, {}});
  }
}

/// A Python that runs these lines before the bridge's.
class PythonWith {
 public:
  explicit PythonWith(const std::string& lines) : folder_(testing::TempDir() + "bridgeXXXXXX") {
    EXPECT_NE(::mkdtemp(folder_.data()), nullptr);
    options.python = folder_ + "/python";
    std::ofstream(options.python) << "#!/bin/sh\nexec \"${KERF_PYTHON:-" KERF_SOURCE_DIR "/build/venv/bin/python}\" -u -c \"" << lines
                                  << "\n$3\"\n";
    ::chmod(options.python.c_str(), 0700);
  }
  ~PythonWith() { std::filesystem::remove_all(folder_); }
  PythonWith(const PythonWith&) = delete;
  PythonWith& operator=(const PythonWith&) = delete;

  optuna::BridgeOptions options;

 private:
  std::string folder_;
};

TEST_F(OptunaBridge, SamplerWhoseModulesAreMissingIsRefusedInOneLineThatNamesThemAll) {
  const PythonWith python("import sys\nsys.modules['scipy'] = sys.modules['torch'] = None");
  for (const auto& [name, modules] : std::map<std::string, std::string>{{"optuna-gp", "scipy torch"}, {"optuna-qmc", "scipy"}}) {
    const auto made = OptunaProposer::create(name, problem(), python.options);
    ASSERT_FALSE(made.has_value()) << name;
    EXPECT_EQ(made.error().code, ErrorCode::kFailedPrecondition);
    EXPECT_THAT(made.error().message, HasSubstr("sampler " + name + " needs scipy"));
    EXPECT_THAT(made.error().message, HasSubstr("-m pip install " + modules + "\""));
    EXPECT_THAT(made.error().message, testing::Not(HasSubstr("\n")));
  }
  EXPECT_TRUE(OptunaProposer::create("optuna-tpe", problem(), python.options).has_value());
}

TEST_F(OptunaBridge, AnotherMajorVersionOfOptunaIsRefusedAtOnce) {
  for (const std::string version : {"4.9.0", "6.0.0"}) {
    const PythonWith python("import optuna\noptuna.__version__ = '" + version + "'");
    const auto made = OptunaProposer::create("optuna-tpe", problem(), python.options);
    ASSERT_FALSE(made.has_value()) << version;
    EXPECT_EQ(made.error().code, ErrorCode::kUnavailable);
    EXPECT_THAT(made.error().message, HasSubstr("optuna " + version + "; expected 5"));
    EXPECT_THAT(made.error().message, HasSubstr("-m pip install 'optuna>=5,<6'"));
    EXPECT_THAT(made.error().message, testing::Not(HasSubstr("\n")));
  }
}

TEST_F(OptunaBridge, ABatchOfASlowSamplerHasItsTime) {
  // Half a second a point, as GP takes it with some fifty trials.
  PythonWith python(
      "import optuna, time\ndraw = optuna.samplers.RandomSampler.sample_independent\ndef slow(*arguments):\n"
      "    time.sleep(0.5)\n    return draw(*arguments)\noptuna.samplers.RandomSampler.sample_independent = slow");
  python.options.call_limit = std::chrono::milliseconds(2'000);
  optuna::Problem what;
  what.space = {{"x", optuna::FloatDistribution{0, 1}}};
  what.directions = {Direction::kMinimize};
  what.sampler = optuna::RandomSampler{};
  auto client = optuna::Client::create(what, python.options);
  ASSERT_TRUE(client.has_value()) << client.error().message;
  const auto points = client->suggest(6);
  ASSERT_TRUE(points.has_value()) << points.error().message;
  EXPECT_EQ(points->size(), 6U);
}

TEST_F(OptunaBridge, UnitOfABoundDoesntWeighWithWhatIsNearestToFeasible) {
  // NSGA-II ranks what isn't feasible by the sum of its violations: a cost in units a thousand times
  // smaller must not drown the other bound.
  const auto run = [](double unit, bool scaled) {
    SamplerProblem what = problem();
    what.constraint_count = 2;
    if (scaled) what.bound_scales = {5 * unit, 300};
    auto made = OptunaProposer::create("optuna-nsga2", what);
    EXPECT_TRUE(made.has_value());
    std::vector<Choices> all;
    for (int n = 0; n < 120; ++n) {
      const auto point = (*made)->propose(0);
      EXPECT_TRUE(point.has_value()) << point.error().message;
      if (!point.has_value()) break;
      (*made)->pending(*point);
      Observation told = outcome(n, *point);
      told.constraints = {unit * (told.objectives[0] - 5), 300 - told.objectives[1]};  // never both kept
      (*made)->tell(told);
      all.push_back(*point);
    }
    return all;
  };
  EXPECT_EQ(run(1, true), run(1024, true));
  EXPECT_NE(run(1, false), run(1024, false)) << "the bounds don't matter here: the test shows nothing";
}

TEST_F(OptunaBridge, ValuesThatArentFiniteNeverReachOptuna) {
  auto made = OptunaProposer::create("optuna-tpe", problem());
  ASSERT_TRUE(made.has_value());
  Rng random({3});
  for (int n = 0; n < 40; ++n) {
    Choices choices;
    for (const DimensionSpec& spec : problem().dimensions) {
      choices.push_back(static_cast<int>(random.below(spec.choices)));
    }
    Observation told = outcome(n, choices);
    if (n % 4 == 0) told.objectives[0] = NAN;
    if (n % 4 == 1) told.objectives[1] = INFINITY;
    if (n % 4 == 2) told.constraints[0] = NAN;
    if (n % 8 == 3) told.objectives[0] = 1e308;
    (*made)->tell(told);
  }
  const auto choices = (*made)->propose(0);
  EXPECT_TRUE(choices.has_value()) << choices.error().message;
}

TEST(OptunaBridgeSetup, MissingInterpreterIsUnavailableAndSaysHowToInstall) {
  optuna::BridgeOptions options;
  options.python = "/nonexistent/python";
  const auto made = OptunaProposer::create("optuna-tpe", problem(), options);
  ASSERT_FALSE(made.has_value());
  EXPECT_EQ(made.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(made.error().message, HasSubstr("/nonexistent/python"));
  EXPECT_THAT(made.error().message, HasSubstr("-m pip install"));
}

TEST(OptunaBridgeSetup, ProcessThatEndsAtOnceLeavesItsLastWords) {
  std::string pattern = testing::TempDir() + "bridgeXXXXXX";
  ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
  const std::string script = pattern + "/python";
  std::ofstream(script) << "#!/bin/sh\necho 'no libpython here' >&2\nexit 3\n";
  ::chmod(script.c_str(), 0700);
  optuna::BridgeOptions options;
  options.python = script;
  const auto bridge = optuna::BridgeProcess::start(options);
  ASSERT_FALSE(bridge.has_value());
  EXPECT_EQ(bridge.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(bridge.error().message, HasSubstr("no libpython here"));
  std::filesystem::remove_all(pattern);
}

TEST(OptunaBridgeSetup, ProcessThatAnswersNonsenseIsNotBelieved) {
  std::string pattern = testing::TempDir() + "bridgeXXXXXX";
  ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
  const std::string script = pattern + "/python";
  std::ofstream(script) << "#!/bin/sh\necho 'hello there' >&0\nread line\n";
  ::chmod(script.c_str(), 0700);
  optuna::BridgeOptions options;
  options.python = script;
  const auto bridge = optuna::BridgeProcess::start(options);
  ASSERT_FALSE(bridge.has_value());
  EXPECT_EQ(bridge.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(bridge.error().message, HasSubstr("it answered hello there"));
  std::filesystem::remove_all(pattern);
}

}  // namespace
}  // namespace kerf::search
