#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <ostream>
#include <string>

#include "core/clock.h"
#include "storage/study_store.h"
#include "store_fixture.h"

namespace kerf::storage {

/// A backend under test.
struct StudyStoreBackend {
  std::string name;
  /// Opens (again) the store that lives in a folder.
  std::function<std::unique_ptr<StudyStore>(const std::string& folder, const Clock& clock)> open;
};

inline void PrintTo(const StudyStoreBackend& backend, std::ostream* out) { *out << backend.name; }

/// Every promise of study_store.h. A backend is tested with
///   INSTANTIATE_TEST_SUITE_P(Name, StudyStoreSuite, ::testing::Values(StudyStoreBackend{…}));
class StudyStoreSuite : public ::testing::TestWithParam<StudyStoreBackend> {
 protected:
  StudyStoreSuite() { reopen(); }

  /// As after a restart.
  void reopen() {
    store_.reset();
    store_ = GetParam().open(folder_.path(), clock_);
  }

  [[nodiscard]] std::string new_study(const std::string& name = "a") {
    return store_->create_study({{"name", name}}, "identity of " + name, "").value().id;
  }
  [[nodiscard]] WorkKey new_trial(const std::string& study, int n) {
    return {study, WorkKind::kTrial, store_->enqueue(study, {trial_work(n)}).value().at(0)};
  }
  [[nodiscard]] LeaseGrant leased(const WorkKey& key) { return store_->lease(key, "w1").value(); }

  TemporaryDirectory folder_;
  ManualClock clock_;
  std::unique_ptr<StudyStore> store_;
};

[[nodiscard]] WorkOutcome success(const LeaseGrant& grant, Json result);
[[nodiscard]] WorkOutcome failure(const LeaseGrant& grant, Error error);

}  // namespace kerf::storage
