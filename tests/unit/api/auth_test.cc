#include "api/auth.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <set>

namespace kerf::api {
namespace {

TEST(Tokens, EachScopeAllowsWhatItSaysAndNoMore) {
  TokenTable table;
  table.add("reader", {Scope::kRead});
  table.add("sender", {Scope::kSubmit});
  table.add("machine", {Scope::kWorker});
  table.add("boss", {Scope::kAdmin});
  const auto code = [&](const char* token, Scope scope) {
    const auto result = table.check(std::string("Bearer ") + token, scope);
    return result.has_value() ? std::string("ok") : std::string(to_string(result.error().code));
  };
  EXPECT_EQ(code("reader", Scope::kRead), "ok");
  EXPECT_EQ(code("reader", Scope::kSubmit), "permission_denied");
  EXPECT_EQ(code("sender", Scope::kRead), "ok");
  EXPECT_EQ(code("machine", Scope::kRead), "permission_denied");
  for (const Scope scope : {Scope::kRead, Scope::kSubmit, Scope::kWorker, Scope::kAdmin}) {
    EXPECT_EQ(code("boss", scope), "ok");
    EXPECT_EQ(code("nobody", scope), "unauthenticated");
    EXPECT_EQ(code("", scope), "unauthenticated");
  }
  EXPECT_FALSE(table.check("Basic reader", Scope::kRead).has_value());
  EXPECT_TRUE(table.check("", Scope::kNone).has_value());
}

TEST(Tokens, FileKeepsTheTokenAndIsTheOwnersAlone) {
  const auto path = std::filesystem::temp_directory_path() / ("kerf-token-" + std::to_string(getpid()));
  const auto first = token_in_file(path);
  ASSERT_TRUE(first.has_value());
  EXPECT_GE(first->size(), 43U);
  EXPECT_EQ(*token_in_file(path), *first);
  struct stat info {};
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0600U);
  std::filesystem::remove(path);
}

TEST(Tokens, NoTwoAreEqual) {
  std::set<std::string> seen;
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(seen.insert(make_token()).second);
}

}  // namespace
}  // namespace kerf::api
