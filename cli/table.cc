#include "cli/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>

namespace kerf::cli {
namespace {

// Columns are as wide as what a terminal shows: continuation bytes of UTF-8 take no place.
std::size_t shown_width(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

bool numeric(const std::string& text) {
  return !text.empty() && (std::isdigit(static_cast<unsigned char>(text[0])) != 0 || text[0] == '-' ||
                           text[0] == '+');
}

}  // namespace

Table::Table(std::vector<std::string> heading) : heading_(std::move(heading)) {}

void Table::add(std::vector<std::string> row) {
  row.resize(heading_.size());
  rows_.push_back(std::move(row));
}

std::string Table::text() const {
  std::vector<std::size_t> widths;
  for (std::size_t c = 0; c < heading_.size(); ++c) {
    std::size_t width = shown_width(heading_[c]);
    for (const auto& row : rows_) width = std::max(width, shown_width(row[c]));
    widths.push_back(width);
  }
  std::string out;
  const auto line = [&](const std::vector<std::string>& row, bool heading) {
    std::string text;
    for (std::size_t c = 0; c < row.size(); ++c) {
      const std::string padding(widths[c] - shown_width(row[c]), ' ');
      const bool right = heading ? !rows_.empty() && numeric(rows_.front()[c]) : numeric(row[c]);
      text += (c > 0 ? "  " : "") + (right ? padding + row[c] : row[c] + padding);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    out += text + "\n";
  };
  line(heading_, true);
  std::size_t total = 0;
  for (const std::size_t width : widths) total += width + 2;
  out += std::string(total > 2 ? total - 2 : total, '-') + "\n";
  for (const auto& row : rows_) line(row, false);
  return out;
}

std::string human_number(double value) {
  const double magnitude = std::fabs(value);
  if (magnitude >= 1e9) return fmt::format("{:.2f} G", value / 1e9);
  if (magnitude >= 1e6) return fmt::format("{:.2f} M", value / 1e6);
  if (magnitude >= 1e4) return fmt::format("{:.1f} k", value / 1e3);
  if (magnitude >= 100 || value == std::floor(value)) return fmt::format("{:.0f}", value);
  if (magnitude >= 1) return fmt::format("{:.2f}", value);
  return fmt::format("{:.4f}", value);
}

std::string human_metric(const std::string& metric, double value) {
  if (metric == "accuracy" || metric == "top5" || metric == "accuracy_drop" ||
      metric == "agreement") {
    return fmt::format("{:.2f} %", 100 * value);
  }
  if (metric == "latency_ratio") return fmt::format("{:.3f}", value);
  if (metric.ends_with("_us")) return fmt::format("{:.{}f}", value, std::fabs(value) < 10 ? 2 : 1);
  return human_number(value);
}

std::string human_miss(const std::string& metric, double value, double limit, bool upper) {
  return metric + " " + human_metric(metric, value) + (upper ? " > " : " < ") + human_metric(metric, limit);
}

}  // namespace kerf::cli
