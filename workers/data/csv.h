#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace kerf::data {

/// Rows of comma-separated text, one after the other (RFC 4180; LF or CRLF; a byte order mark and
/// empty lines are skipped; white space around cells isn't part of them).
class CsvReader {
 public:
  /// `text` outlives the reader. `where` starts messages.
  CsvReader(std::string_view text, std::string where);

  /// The next row's cells; false at the end. Cells point into the text or into this object and
  /// live until the next call.
  ///
  /// Errors:   invalid_argument for a quote that doesn't end.
  [[nodiscard]] Result<bool> next(std::vector<std::string_view>& cells);

  /// Line of the row that next() gave, from 1.
  [[nodiscard]] std::size_t line() const { return row_line_; }

 private:
  std::string_view text_;
  std::string where_;
  std::size_t at_ = 0;
  std::size_t line_ = 1;
  std::size_t row_line_ = 0;
  std::vector<std::string> unquoted_;
};

/// The whole cell as a number; nullopt where it isn't one.
[[nodiscard]] std::optional<double> parse_number(std::string_view cell);
[[nodiscard]] std::optional<std::int64_t> parse_integer(std::string_view cell);

/// A cell, cut and made safe to stand in a one-line message.
[[nodiscard]] std::string quote_cell(std::string_view cell);

}  // namespace kerf::data
