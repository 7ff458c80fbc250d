#include "storage/sqlite/store_impl.h"

namespace kerf::storage {

Result<void> SqliteStore::keep_looks(const std::map<std::string, Json>& looks) {
  if (looks.empty()) return {};
  return write([&]() -> Result<void> {
    for (const auto& [key, look] : looks) {
      Query(database_,
            "INSERT INTO looks (key, body, at) VALUES (?1, ?2, ?3) "
            "ON CONFLICT (key) DO UPDATE SET body = excluded.body, at = excluded.at",
            key, canonical_text(look), now())
          .run();
    }
    return {};
  });
}

Result<std::map<std::string, Json>> SqliteStore::looks(const std::vector<std::string>& keys) {
  return read([&]() -> Result<std::map<std::string, Json>> {
    std::map<std::string, Json> out;
    for (const std::string& key : keys) {
      Query query(database_, "SELECT body FROM looks WHERE key = ?1", key);
      if (query.next()) out[key] = parse(query.text(0));
    }
    return out;
  });
}

}  // namespace kerf::storage
