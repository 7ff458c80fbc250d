#include "storage/sqlite/migrations.h"

#include <cstdint>

#include "storage/sqlite/database.h"

namespace kerf::storage {
namespace {

std::int64_t pragma(Database& database, std::string_view name) {
  Query query(database, "PRAGMA " + std::string(name));
  return query.next() ? query.integer(0) : 0;
}

}  // namespace

std::optional<Error> migrate(Database& database, const std::string& path) {
  const auto known = static_cast<std::int64_t>(migrations().size());
  const std::int64_t version = pragma(database, "user_version");
  const std::int64_t owner = pragma(database, "application_id");
  if (owner != kApplicationId && (owner != 0 || version != 0)) {
    return Error{ErrorCode::kFailedPrecondition, path + " is another program's database"};
  }
  if (version > known) {
    return Error{ErrorCode::kFailedPrecondition,
                 path + " has schema " + std::to_string(version) + "; this kerf knows up to " +
                     std::to_string(known) + ": use the newer kerf that wrote it"};
  }
  if (version == known) return std::nullopt;
  database.execute("BEGIN IMMEDIATE");
  try {
    for (std::int64_t step = version; step < known; ++step) {
      database.execute(migrations()[static_cast<std::size_t>(step)]);
    }
    database.execute("PRAGMA application_id = " + std::to_string(kApplicationId));
    database.execute("PRAGMA user_version = " + std::to_string(known));
    database.execute("COMMIT");
  } catch (const SqliteFailure&) {
    if (database.in_transaction()) database.execute("ROLLBACK");
    throw;
  }
  return std::nullopt;
}

}  // namespace kerf::storage
