#pragma once

#include <memory>
#include <string>

#include "core/clock.h"
#include "core/result.h"
#include "storage/study_store.h"

namespace kerf::cli {

/// The store of a data directory, to be read without a server.
///
/// Errors:   not_found where the directory holds none; those of open_sqlite_store (a server or a run
///           that holds the directory, say).
[[nodiscard]] Result<std::unique_ptr<storage::StudyStore>> open_data_dir(const std::string& folder, const Clock& clock);

}  // namespace kerf::cli
