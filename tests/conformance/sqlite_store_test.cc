#include "storage/sqlite/sqlite_store.h"
#include "study_store_suite.h"

namespace kerf::storage {

INSTANTIATE_TEST_SUITE_P(
    Sqlite, StudyStoreSuite,
    ::testing::Values(StudyStoreBackend{
        "sqlite", [](const std::string& folder, const Clock& clock) {
          return open_or_die(folder + "/kerf.db", clock);
        }}));

}  // namespace kerf::storage
