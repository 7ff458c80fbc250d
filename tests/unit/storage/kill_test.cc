#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <random>

#include "storage/sqlite/sqlite_store.h"
#include "store_fixture.h"

namespace kerf::storage {
namespace {

/// 120 unless $KERF_KILLS asks for more.
int kills() {
  const char* wanted = std::getenv("KERF_KILLS");
  return wanted == nullptr ? 120 : std::atoi(wanted);
}

enum class Acknowledged : std::int64_t { kTrial, kLease, kResult };

struct Note {
  Acknowledged what;
  std::int64_t number;
  std::int64_t value;
};

void tell(int pipe_end, Note note) {
  if (write(pipe_end, &note, sizeof note) != sizeof note) _exit(3);
}

/// Commits as fast as it can and tells each acknowledged commit, until it is killed.
[[noreturn]] void work_until_killed(const std::string& path, const std::string& study, int salt,
                                    int pipe_end) {
  const ManualClock clock;
  auto store = open_or_die(path, clock);
  if (!store->requeue_running(1000).has_value()) _exit(4);
  for (int n = 0;; ++n) {
    const auto numbers = store->enqueue(study, {trial_work(salt * 100'000 + n)});
    if (!numbers.has_value()) _exit(5);
    const std::int64_t number = numbers->at(0);
    tell(pipe_end, {Acknowledged::kTrial, number, 0});
    const auto grant = store->lease({study, WorkKind::kTrial, number}, "w");
    if (!grant.has_value()) _exit(6);
    tell(pipe_end, {Acknowledged::kLease, number, grant->token});
    if (!store->finish({grant->key, grant->token, {{"value", grant->token}}, {}, false})
             .has_value()) {
      _exit(7);
    }
    tell(pipe_end, {Acknowledged::kResult, number, grant->token});
  }
}

TEST(Kill, NothingAcknowledgedIsLostAndNothingCountsTwice) {
  const TemporaryDirectory folder;
  const std::string path = folder.file("kerf.db");
  const ManualClock clock;
  std::string study;
  {
    auto store = open_or_die(path, clock);
    study = store->create_study({{"name", "a"}}, "i", "").value().id;
  }
  std::mt19937 random(20260301);
  std::int64_t trials_seen = 0;
  std::int64_t last_token = 0;
  std::map<std::int64_t, std::int64_t> results;
  int unacknowledged = 0;
  for (int kill_number = 0; kill_number < kills(); ++kill_number) {
    std::array<int, 2> ends{};
    ASSERT_EQ(pipe(ends.data()), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      close(ends[0]);
      work_until_killed(path, study, kill_number, ends[1]);
    }
    close(ends[1]);
    // After a random number of acknowledgements and, from the last one on, up to a random moment
    // within the next commits.
    const unsigned notes = random() % 12;
    const timespec moment{0, static_cast<long>(random() % 3'000'000)};
    unsigned got = 0;
    std::vector<Note> told;
    Note note{};
    while (got < notes && read(ends[0], &note, sizeof note) == sizeof note) {
      told.push_back(note);
      ++got;
    }
    pollfd nothing{-1, 0, 0};
    ppoll(&nothing, 1, &moment, nullptr);
    ASSERT_EQ(kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "exit code " << WEXITSTATUS(status);
    while (read(ends[0], &note, sizeof note) == sizeof note) told.push_back(note);
    close(ends[0]);

    auto opened = open_sqlite_store(path, clock);
    ASSERT_TRUE(opened.has_value()) << opened.error().message;
    StudyStore& store = **opened;
    const auto trials = store.trials(study, 0, 1'000'000).value();
    for (std::size_t n = 0; n < trials.size(); ++n) {
      ASSERT_EQ(trials[n].number, static_cast<std::int64_t>(n));
    }
    std::int64_t acknowledged = trials_seen;
    for (const Note& each : told) {
      ASSERT_LT(each.number, static_cast<std::int64_t>(trials.size())) << "a trial was lost";
      const Trial& trial = trials[static_cast<std::size_t>(each.number)];
      switch (each.what) {
        case Acknowledged::kTrial:
          ASSERT_EQ(each.number, acknowledged) << "a number was given twice or left out";
          ++acknowledged;
          break;
        case Acknowledged::kLease:
          ASSERT_GT(each.value, last_token) << "a token was given twice";
          last_token = each.value;
          ASSERT_NE(trial.state, TrialState::kWaiting) << "a lease was lost";
          break;
        default:
          ASSERT_TRUE(results.emplace(each.number, each.value).second) << "two results";
          break;
      }
    }
    for (const auto& [number, value] : results) {
      const Trial& trial = trials[static_cast<std::size_t>(number)];
      ASSERT_EQ(trial.state, TrialState::kComplete) << "result " << number << " was lost";
      ASSERT_EQ(trial.measurement.at("value"), value);
    }
    ASSERT_LE(static_cast<std::int64_t>(trials.size()), acknowledged + 1);
    unacknowledged += static_cast<int>(static_cast<std::int64_t>(trials.size()) - acknowledged);
    trials_seen = static_cast<std::int64_t>(trials.size());
    // A result that was stored but not told counts from now on.
    for (const Trial& trial : trials) {
      if (trial.state == TrialState::kComplete) {
        results.emplace(trial.number, trial.measurement.at("value").get<std::int64_t>());
        last_token = std::max(last_token, trial.measurement.at("value").get<std::int64_t>());
      }
    }
  }
  EXPECT_GT(static_cast<int>(results.size()), kills() / 2);
  std::printf("%d kills, %zu results, %d commits that were never acknowledged\n", kills(),
              results.size(), unacknowledged);
}

TEST(Kill, CreationCanBeInterruptedAnywhere) {
  const ManualClock clock;
  std::mt19937 random(7);
  for (int n = 0; n < 40; ++n) {
    const TemporaryDirectory folder;
    const std::string path = folder.file("data/kerf.db");
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      auto store = open_or_die(path, clock);
      while (store->create_study({{"name", "a"}}, "i", "key").has_value()) {
      }
      _exit(3);
    }
    const timespec moment{0, static_cast<long>(random() % 30'000'000)};
    pollfd nothing{-1, 0, 0};
    ppoll(&nothing, 1, &moment, nullptr);
    ASSERT_EQ(kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    auto opened = open_sqlite_store(path, clock);
    ASSERT_TRUE(opened.has_value()) << opened.error().message;
    EXPECT_LE((*opened)->studies("", 10).value().size(), 1U);
    EXPECT_TRUE((*opened)->create_study({{"name", "a"}}, "i", "key").has_value());
    EXPECT_EQ((*opened)->studies("", 10).value().size(), 1U);
  }
}

}  // namespace
}  // namespace kerf::storage
