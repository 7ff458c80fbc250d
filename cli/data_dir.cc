#include "cli/data_dir.h"

#include <filesystem>

#include "storage/sqlite/sqlite_store.h"

namespace kerf::cli {

Result<std::unique_ptr<storage::StudyStore>> open_data_dir(const std::string& folder, const Clock& clock) {
  const std::string file = (std::filesystem::path(folder) / "kerf.db").string();
  if (!std::filesystem::exists(file)) {
    return not_found(file + ": no such file; expected a data directory of kerf run or kerf serve");
  }
  return storage::open_sqlite_store(file, clock);
}

}  // namespace kerf::cli
