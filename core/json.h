#pragma once

#include <cstddef>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "core/result.h"

namespace kerf {

/// JSON as it travels between our processes and lies in the store: keys sorted, so that equal
/// documents have equal text.
using Json = nlohmann::json;

/// What a parser accepts at most. The defaults are those of every outside input.
struct JsonLimits {
  std::size_t bytes = 1U << 20U;  ///< Largest text.
  int depth = 64;                 ///< Deepest nesting of arrays and objects.
};

/// Parses JSON text (RFC 8259; no comments, no trailing commas, duplicate keys refused).
///
/// Errors:   invalid_argument with line and column, or the limit that was passed.
[[nodiscard]] Result<Json> parse_json(std::string_view text, JsonLimits limits = {});

/// Reads and parses a file; `what` names it in messages ("study").
///
/// Errors:   not_found, invalid_argument.
[[nodiscard]] Result<Json> read_json_file(const std::string& path, JsonLimits limits = {});

/// Checks that every key of an object is one of `known`.
///
/// Errors:   invalid_argument naming `where`, the key and its nearest known one.
[[nodiscard]] Result<void> check_keys(const Json& object, std::string_view where,
                                      std::initializer_list<std::string_view> known);

/// The text of a document in its canonical form: sorted keys, no white space.
[[nodiscard]] std::string canonical_text(const Json& document);

/// The known word that is nearest to `word` by edit distance; empty where none is near.
[[nodiscard]] std::string_view nearest_word(std::string_view word,
                                            std::initializer_list<std::string_view> known);

}  // namespace kerf
