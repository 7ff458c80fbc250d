#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "storage/sqlite/sqlite_store.h"
#include "store_fixture.h"

namespace kerf::storage {
namespace {

namespace fs = std::filesystem;

const std::string kGolden = std::string(KERF_SOURCE_DIR) + "/tests/golden/storage/";

/// Writes the golden files of the present schema into $KERF_GOLDEN_OUT. Run once a released schema.
TEST(Golden, DISABLED_WriteFilesOfThisSchema) {
  const char* out = std::getenv("KERF_GOLDEN_OUT");
  ASSERT_NE(out, nullptr);
  const ManualClock clock;
  const std::string path = std::string(out) + "/kerf.db";
  std::uint64_t random = 1;
  auto store = open_sqlite_store(path, clock, {[&random] { return random++; }}).value();
  fill(*store, 12);
  std::ofstream(std::string(out) + "/content.json") << dump(*store).dump(1) << "\n";
}

TEST(Golden, EachReleasedSchemaOpensWithItsContent) {
  int opened = 0;
  for (int schema = 1;; ++schema) {
    const std::string name = "schema_v" + std::to_string(schema);
    if (!fs::exists(kGolden + name + ".sqlite")) break;
    const TemporaryDirectory folder;
    fs::copy_file(kGolden + name + ".sqlite", folder.file("kerf.db"));
    const auto expected = read_json_file(kGolden + name + ".json");
    ASSERT_TRUE(expected.has_value()) << expected.error().message;
    const ManualClock clock;
    {
      auto store = open_sqlite_store(folder.file("kerf.db"), clock);
      ASSERT_TRUE(store.has_value()) << store.error().message;
      EXPECT_EQ(dump(**store), *expected) << name;
      EXPECT_TRUE((*store)->create_study({{"name", "new"}}, "new", "").has_value());
    }
    EXPECT_TRUE(open_sqlite_store(folder.file("kerf.db"), clock).has_value());
    ++opened;
  }
  EXPECT_GE(opened, 1);
}

}  // namespace
}  // namespace kerf::storage
