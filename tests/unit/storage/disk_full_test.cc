#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "storage/sqlite/sqlite_store.h"
#include "store_fixture.h"

namespace kerf::storage {
namespace {

namespace fs = std::filesystem;

constexpr int kCycles = 100;

/// Adds trials until the store says that the disk is full; "" or what went wrong.
std::string work_until_full(StudyStore& store, const std::string& study, int* acknowledged) {
  for (int n = 0; n < 100'000; ++n) {
    NewWork work = trial_work(*acknowledged);
    work.candidate = std::string(2000, 'x');
    const auto numbers = store.enqueue(study, {work});
    if (!numbers.has_value()) {
      return numbers.error().code == ErrorCode::kResourceExhausted ? "" : numbers.error().message;
    }
    if (numbers->at(0) != *acknowledged) return "a number was given twice";
    ++*acknowledged;
  }
  return "the disk never became full";
}

std::string check_reading(StudyStore& store, const std::string& study, int acknowledged) {
  const auto trials = store.trials(study, 0, 1'000'000);
  if (!trials.has_value()) return "reading failed: " + trials.error().message;
  if (static_cast<int>(trials->size()) != acknowledged) {
    return std::to_string(acknowledged) + " trials were acknowledged, " +
           std::to_string(trials->size()) + " are there";
  }
  return "";
}

/// A mount namespace of this process alone: as root, or as a user who is root in a namespace.
bool own_mounts() {
  const auto user = std::to_string(geteuid());
  if (unshare(CLONE_NEWNS) != 0) {
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
    std::ofstream("/proc/self/uid_map") << "0 " << user << " 1";
  }
  return mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
}

TEST(DiskFull, FileLimitIsAnErrorAndWorkGoesOnWhenThereIsRoom) {
  const TemporaryDirectory folder;
  const std::string said = in_child([&]() -> std::string {
    const ManualClock clock;
    const std::string path = folder.file("kerf.db");
    auto store = open_or_die(path, clock);
    const std::string study = store->create_study({{"name", "a"}}, "i", "").value().id;
    int acknowledged = 0;
    for (int cycle = 0; cycle < kCycles; ++cycle) {
      // Where exactly it ends differs from cycle to cycle, now in a frame, now in its header.
      const auto wal = fs::file_size(path + "-wal");
      const rlimit tight{wal + 1 + static_cast<rlim_t>(cycle) * 397, RLIM_INFINITY};
      if (setrlimit(RLIMIT_FSIZE, &tight) != 0) return "skip: no limits";
      if (auto wrong = work_until_full(*store, study, &acknowledged); !wrong.empty()) return wrong;
      if (auto wrong = check_reading(*store, study, acknowledged); !wrong.empty()) return wrong;
      const rlimit room{RLIM_INFINITY, RLIM_INFINITY};
      if (setrlimit(RLIMIT_FSIZE, &room) != 0) return "no room again";
      if (!store->enqueue(study, {trial_work(acknowledged)}).has_value()) {
        return "cycle " + std::to_string(cycle) + ": it didn't go on";
      }
      ++acknowledged;
    }
    store.reset();
    store = open_or_die(path, clock);
    return check_reading(*store, study, acknowledged);
  });
  if (said.starts_with("skip")) GTEST_SKIP() << said;
  EXPECT_EQ(said, "");
}

TEST(DiskFull, FullFileSystemIsAnErrorAndWorkGoesOnWhenThereIsRoom) {
  const TemporaryDirectory folder;
  const std::string said = in_child([&]() -> std::string {
    if (!own_mounts()) return "skip: no namespaces here";
    if (mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=6m") != 0) {
      return "skip: no tmpfs here";
    }
    const ManualClock clock;
    const std::string path = folder.file("kerf.db");
    auto store = open_or_die(path, clock);
    const std::string study = store->create_study({{"name", "a"}}, "i", "").value().id;
    int acknowledged = 0;
    for (int cycle = 0; cycle < 10; ++cycle) {
      const std::string ballast = folder.file("ballast");
      const int file = open(ballast.c_str(), O_WRONLY | O_CREAT, 0600);
      const std::string block(4096, 'b');
      while (write(file, block.data(), block.size()) > 0) {
      }
      close(file);
      if (auto wrong = work_until_full(*store, study, &acknowledged); !wrong.empty()) return wrong;
      if (auto wrong = check_reading(*store, study, acknowledged); !wrong.empty()) return wrong;
      fs::remove(ballast);
      if (!store->enqueue(study, {trial_work(acknowledged)}).has_value()) return "it didn't go on";
      ++acknowledged;
    }
    store.reset();
    store = open_or_die(path, clock);
    return check_reading(*store, study, acknowledged);
  });
  if (said.starts_with("skip")) GTEST_SKIP() << said;
  EXPECT_EQ(said, "");
}

}  // namespace
}  // namespace kerf::storage
