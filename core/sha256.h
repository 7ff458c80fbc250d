#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "core/result.h"

namespace kerf {

/// SHA-256 (FIPS 180-4) of bytes that come in pieces.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void update(std::span<const std::byte> bytes);
  void update(std::string_view text);

  /// 64 lower-case hex digits. The object is used up.
  [[nodiscard]] std::string hex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

[[nodiscard]] std::string sha256_hex(std::string_view text);

/// Errors:   not_found where the file can't be read.
[[nodiscard]] Result<std::string> sha256_file(const std::string& path);

/// "sha256:" + 64 hex digits, the id of a stored file.
[[nodiscard]] bool is_file_id(std::string_view id);

}  // namespace kerf
