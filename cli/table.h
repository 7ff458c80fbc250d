#pragma once

#include <string>
#include <vector>

namespace kerf::cli {

/// Text in columns: numbers right, words left, a line under the heading.
class Table {
 public:
  explicit Table(std::vector<std::string> heading);
  void add(std::vector<std::string> row);
  [[nodiscard]] std::string text() const;
  [[nodiscard]] bool empty() const { return rows_.empty(); }

 private:
  std::vector<std::string> heading_;
  std::vector<std::vector<std::string>> rows_;
};

/// A number for people: "0.9135", "226.4", "12.4 k", "1.05 M".
[[nodiscard]] std::string human_number(double value);

/// A metric's value with the digits that suit it ("91.35 %" for shares, "226.4" and "1.77" for µs).
[[nodiscard]] std::string human_metric(const std::string& metric, double value);

/// What a metric says of a limit that it breaks: "accuracy_drop 3.10 % > 2.00 %".
[[nodiscard]] std::string human_miss(const std::string& metric, double value, double limit, bool upper);

}  // namespace kerf::cli
