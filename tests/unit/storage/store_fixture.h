#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "core/clock.h"
#include "core/json.h"
#include "storage/study_store.h"

namespace kerf::storage {

/// A folder of its own, removed at the end.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory();

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

/// Opens the SQLite store of a folder; fails the test where that fails.
[[nodiscard]] std::unique_ptr<StudyStore> open_or_die(const std::string& path, const Clock& clock);

/// Everything that the contract lets one see, for comparisons.
[[nodiscard]] Json dump(StudyStore& store);

/// A study with trials in every state, other work, events, documents and uploads.
/// Returns its id.
std::string fill(StudyStore& store, int trials);

/// A trial to put in line: `n` makes it unlike others.
[[nodiscard]] NewWork trial_work(int n);

/// Runs `body` in a forked child and returns what it returned: empty = all went well, "skip: …" =
/// not possible here. A death says so.
[[nodiscard]] std::string in_child(const std::function<std::string()>& body);

}  // namespace kerf::storage
