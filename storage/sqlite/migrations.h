#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/error.h"

namespace kerf::storage {

class Database;

/// "kerf" in the database's application_id.
inline constexpr int kApplicationId = 0x6B657266;

/// The SQL of each step, from the empty file on: step n makes schema n (user_version). Made of
/// migrations/*.sql by the build.
[[nodiscard]] const std::vector<std::string>& migrations();

/// Brings the schema up to date in one transaction.
///
/// Errors:   failed_precondition where the database is some other program's or a newer kerf's.
[[nodiscard]] std::optional<Error> migrate(Database& database, const std::string& path);

}  // namespace kerf::storage
