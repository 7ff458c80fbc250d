#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace kerf::api {

/// What a token lets its bearer do. admin includes all, submit includes read.
enum class Scope { kNone, kRead, kSubmit, kWorker, kAdmin };

/// The tokens of a server. Only their SHA-256 is kept; comparing takes the same time whatever
/// differs.
///
/// Threads:  reentrant once built.
class TokenTable {
 public:
  void add(std::string_view token, std::set<Scope> scopes);

  /// Whether the value of an Authorization header ("Bearer …") has a scope.
  ///
  /// Errors:   unauthenticated without a known token; permission_denied without the scope.
  [[nodiscard]] Result<void> check(std::string_view authorization, Scope wanted) const;

 private:
  struct Entry {
    std::string hash;  // SHA-256, hex
    std::set<Scope> scopes;
  };
  std::vector<Entry> entries_;
};

/// 256 random bits as text that fits a URL.
[[nodiscard]] std::string make_token();

/// The token in `path`, made (mode 0600) where there is none.
///
/// Errors:   unavailable where the file can't be read or written.
[[nodiscard]] Result<std::string> token_in_file(const std::string& path);

}  // namespace kerf::api
