#pragma once

#include <cstdint>
#include <string>

#include "core/result.h"

namespace kerf::data {

/// A whole file.
///
/// Errors:   not_found; invalid_argument for a file above `most` bytes, or one that isn't a file.
[[nodiscard]] Result<std::string> read_text(const std::string& path, std::uint64_t most);

/// A file below a folder: names with "..", absolute ones and links out of it are refused.
///
/// Errors:   as read_text().
[[nodiscard]] Result<std::string> read_beneath(const std::string& folder, const std::string& name,
                                               std::uint64_t most);

}  // namespace kerf::data
