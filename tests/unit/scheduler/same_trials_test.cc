#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>

#include "scheduler/core.h"
#include "storage/sqlite/sqlite_store.h"
#include "tests/simulation/study_fixture.h"

namespace kerf::scheduler {
namespace {

constexpr std::int64_t kTrials = 18;

struct Setting {
  std::int64_t trials = kTrials;
  bool lawless = false;  // accuracies that no model predicts
  double gain = 0;       // of the budget
};

/// One worker, whose measurements have no noise, and the native sampler. Every step is the worker's or the
/// search's, and before any of them everything may be killed.
class World {
 public:
  enum class First { kSearch, kWorker };  // who is quicker

  World(First first, Setting setting) : first_(first), setting_(setting) {
    store_ = std::move(*storage::open_sqlite_store(":memory:", clock_));
    start();
    Json document = simulation::study_document(setting.trials, false, "profile");
    if (setting.gain > 0) document["budget"]["gain"] = setting.gain;
    id_ = core_->submit(document, "")->id;
    take();
  }

  /// Everything that wasn't acknowledged is gone.
  void kill() {
    core_.reset();
    held_.reset();
    searches_.clear();
    start();
    take();
  }

  bool step() {
    if (first_ == First::kWorker && held_) return work();
    if (!searches_.empty()) return search();
    return held_ ? work() : false;
  }

  void extend(Setting setting) {
    EXPECT_TRUE(core_->extend(id_, {setting.trials, 0, 0, setting.gain}).has_value());
    take();
  }

  /// What the study's log tells of the sampler's model.
  [[nodiscard]] std::vector<std::string> said() {
    std::vector<std::string> out;
    const auto events = store_->events(id_, 0, 10'000);
    for (const storage::Event& event : *events) {
      const std::string text = event.data.value("message", "");
      if (event.type == "log" && text.starts_with("profile sampler")) out.push_back(text);
    }
    return out;
  }

  [[nodiscard]] std::vector<std::string> trials() {
    const auto made = store_->trials(id_, 0, 1000);
    std::vector<std::string> out;
    for (const Trial& trial : *made) {
      EXPECT_EQ(trial.state, TrialState::kComplete);
      out.push_back(canonical_text(trial.candidate));
    }
    return out;
  }

 private:
  void start() {
    core_ = std::make_unique<Core>(CoreOptions{}, *store_, clock_);
    EXPECT_TRUE(core_->start().has_value());
    WorkerInfo info;
    info.id = info.name = "w";
    info.hardware = simulation::hardware().to_json();
    info.hardware_id = simulation::hardware().id();
    core_->worker_joined(info);
    core_->worker_ready(info.id);
  }

  void take() {
    Core::Actions actions = core_->take_actions();
    for (auto& one : actions.assignments) held_ = one.work;
    for (auto& one : actions.searches) searches_.push_back(std::move(one));
  }

  bool search() {
    auto job = std::move(searches_.front());
    searches_.pop_front();
    core_->search_done(job.study, job.run());
    take();
    return true;
  }

  bool work() {
    const Work done = *std::exchange(held_, std::nullopt);
    WorkOutcome outcome{done.key, done.token, nullptr, std::nullopt, false};
    if (done.key.kind == WorkKind::kInspect) {
      outcome.result = simulation::small_model().to_json();
    } else if (done.key.kind == WorkKind::kProfile) {
      outcome.result = simulation::looked(done.payload.at("looks"));
      outcome.result["seconds"] = 0.001;
    } else {
      outcome.result = simulation::measured(done.payload.at("plan"), 1);
      if (setting_.lawless) {
        const std::string text = canonical_text(done.payload.at("plan"));
        std::int64_t word = 0;
        for (const char c : text) word = (word * 31 + c) % 1'000'003;
        outcome.result["accuracy"] = static_cast<double>(word) / 1'000'003;
      }
    }
    EXPECT_TRUE(core_->outcome("w", outcome).has_value());
    take();
    return true;
  }

  First first_;
  Setting setting_;
  ManualClock clock_;
  std::unique_ptr<storage::StudyStore> store_;
  std::unique_ptr<Core> core_;
  std::string id_;
  std::optional<Work> held_;
  std::deque<Core::SearchJob> searches_;
};

std::vector<std::string> undisturbed(World::First first, Setting setting = {}) {
  World world(first, setting);
  while (world.step()) {
  }
  EXPECT_EQ(std::ranges::count_if(world.said(), [](const auto& text) { return text.find("come from evolution") != std::string::npos; }),
            setting.lawless ? 1 : 0);
  return world.trials();
}

class SameTrials : public testing::TestWithParam<World::First> {};

void kill_anywhere(World::First first, Setting setting, int stride, const std::vector<std::string>& expected) {
  World alone(first, setting);
  while (alone.step()) {
  }
  int steps = 1;
  for (int killed = 0; killed < steps; killed += stride) {
    World world(first, setting);
    bool more = true;
    for (steps = 0; more; ++steps) {
      if (steps == killed) world.kill();
      more = world.step();
    }
    EXPECT_EQ(world.trials(), expected) << "killed before step " << killed;
    EXPECT_EQ(world.said(), alone.said()) << "killed before step " << killed;
  }
  EXPECT_GT(static_cast<std::size_t>(steps), 2 * expected.size());
}

TEST_P(SameTrials, WhereverItIsKilled) {
  const std::vector<std::string> expected = undisturbed(GetParam());
  ASSERT_EQ(expected.size(), static_cast<std::size_t>(kTrials - 1)) << "one is the profile's";
  kill_anywhere(GetParam(), {}, 1, expected);
}

TEST_P(SameTrials, AlsoWhereEvolutionHasHalfOfThem) {
  const Setting setting{.trials = 60, .lawless = true};
  kill_anywhere(GetParam(), setting, 11, undisturbed(GetParam(), setting));
}

TEST_P(SameTrials, AlsoWhereTheExpectedGainEndsIt) {
  const Setting setting{.trials = 200, .gain = 0.01};
  const std::vector<std::string> expected = undisturbed(GetParam(), setting);
  ASSERT_LT(expected.size(), 100U);
  kill_anywhere(GetParam(), setting, 1, expected);
  World world(GetParam(), setting);
  while (world.step()) {
  }
  world.kill();
  world.extend(setting);
  while (world.step()) {
  }
  EXPECT_EQ(world.trials(), expected) << "run again, it has ended";
  world.extend({.trials = 200, .gain = 0.0001});
  while (world.step()) {
  }
  EXPECT_GT(world.trials().size(), expected.size()) << "a smaller gain wants more";
}

TEST_P(SameTrials, WhereItEndedAndGoesOn) {
  World world(GetParam(), {.trials = kTrials - 8});
  while (world.step()) {
  }
  world.kill();
  world.extend({});
  while (world.step()) {
  }
  EXPECT_EQ(world.trials(), undisturbed(GetParam()));
}

TEST(SameTrialsOnAnyMachine, WhoeverIsQuicker) {
  EXPECT_EQ(undisturbed(World::First::kSearch), undisturbed(World::First::kWorker));
}

INSTANTIATE_TEST_SUITE_P(Quicker, SameTrials, testing::Values(World::First::kSearch, World::First::kWorker),
                         [](const auto& one) { return one.param == World::First::kSearch ? "Search" : "Worker"; });

}  // namespace
}  // namespace kerf::scheduler
