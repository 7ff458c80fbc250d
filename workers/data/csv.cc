#include "workers/data/csv.h"

#include <cctype>
#include <charconv>
#include <limits>
#include <map>
#include <utility>

#include "workers/data/dataset.h"
#include "workers/data/file_bytes.h"

namespace kerf::data {
namespace {

using graph::DType;
using graph::Tensor;

constexpr std::uint64_t kLargestCsv = 2ULL << 30U;
constexpr std::size_t kMostColumns = 1U << 20U;

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r')) {
    text.remove_suffix(1);
  }
  return text;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

template <class T>
std::optional<T> parse_whole(std::string_view cell) {
  if (cell.starts_with('+')) cell.remove_prefix(1);
  T value{};
  const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
  if (error != std::errc() || end != cell.data() + cell.size()) return std::nullopt;
  return value;
}

/// Values of one column; integers as long as every cell is written as one.
struct LabelColumn {
  std::vector<std::int64_t> integers;
  std::vector<float> reals;
  bool whole = true;

  void add(std::string_view cell, double value) {
    reals.push_back(static_cast<float>(value));
    if (!whole) return;
    if (const auto integer = parse_integer(cell)) {
      integers.push_back(*integer);
    } else {
      whole = false;
    }
  }
  [[nodiscard]] Tensor tensor() const {
    const auto count = static_cast<std::int64_t>(reals.size());
    return whole ? Tensor::s64({count}, integers) : Tensor::f32({count}, reals);
  }
};

}  // namespace

CsvReader::CsvReader(std::string_view text, std::string where)
    : text_(text), where_(std::move(where)) {
  if (text_.starts_with("\xEF\xBB\xBF")) at_ = 3;
}

Result<bool> CsvReader::next(std::vector<std::string_view>& cells) {
  cells.clear();
  unquoted_.clear();
  std::vector<std::pair<std::size_t, std::size_t>> quoted;  // cell -> text in unquoted_
  while (at_ < text_.size()) {
    row_line_ = line_;
    bool row_ends = false;
    while (!row_ends) {
      while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t')) ++at_;
      if (at_ < text_.size() && text_[at_] == '"') {
        std::string cell;
        ++at_;
        while (true) {
          if (at_ >= text_.size()) {
            return invalid_argument(where_ + ":" + std::to_string(row_line_) +
                                    ": a quote that doesn't end");
          }
          const char c = text_[at_++];
          if (c == '"' && (at_ >= text_.size() || text_[at_] != '"')) break;
          if (c == '"') ++at_;
          if (c == '\n') ++line_;
          cell += c;
        }
        quoted.emplace_back(cells.size(), unquoted_.size());
        unquoted_.push_back(std::move(cell));
        cells.emplace_back();
        at_ = std::min(text_.find_first_of(",\n", at_), text_.size());
      } else {
        const std::size_t end = std::min(text_.find_first_of(",\n", at_), text_.size());
        cells.push_back(trim(text_.substr(at_, end - at_)));
        at_ = end;
      }
      row_ends = at_ >= text_.size() || text_[at_] == '\n';
      if (at_ < text_.size()) ++at_;
    }
    ++line_;
    for (const auto& [cell, index] : quoted) cells[cell] = unquoted_[index];
    if (cells.size() > 1 || !cells.front().empty()) return true;
    cells.clear();  // an empty line
    quoted.clear();
    unquoted_.clear();
  }
  return false;
}

std::optional<double> parse_number(std::string_view cell) { return parse_whole<double>(cell); }

std::optional<std::int64_t> parse_integer(std::string_view cell) {
  return parse_whole<std::int64_t>(cell);
}

std::string quote_cell(std::string_view cell) {
  std::string out = "'";
  for (const char c : cell.substr(0, 40)) {
    out += static_cast<unsigned char>(c) >= 0x20 && c != 0x7F ? c : '?';
  }
  return out + (cell.size() > 40 ? "…'" : "'");
}

Result<DataSet> load_csv(const std::string& path) {
  KERF_ASSIGN(const std::string text, read_text(path, kLargestCsv));
  CsvReader reader(text, path);
  std::vector<std::string_view> cells;
  KERF_ASSIGN(bool more, reader.next(cells));
  if (!more) return invalid_argument(path + ": empty; expected rows of numbers");
  const std::size_t width = cells.size();
  if (width > kMostColumns) {
    return invalid_argument(path + ": " + std::to_string(width) + " columns; expected at most " +
                            std::to_string(kMostColumns));
  }
  bool header = false;
  for (const std::string_view cell : cells) header = header || !parse_number(cell).has_value();
  std::optional<std::size_t> label;
  if (header) {
    for (const std::string_view wanted : {"y", "label", "target", "class"}) {
      for (std::size_t i = 0; i < width && !label; ++i) {
        if (lower(cells[i]) == wanted) label = i;
      }
    }
    KERF_ASSIGN(more, reader.next(cells));
  }
  if (label && width == 1) return invalid_argument(path + ": holds labels alone; expected data too");

  std::vector<float> values;
  LabelColumn labels;
  std::int64_t samples = 0;
  while (more) {
    const std::string where = path + ":" + std::to_string(reader.line());
    if (cells.size() != width) {
      return invalid_argument(where + ": " + std::to_string(cells.size()) + " columns; expected " +
                              std::to_string(width));
    }
    for (std::size_t i = 0; i < width; ++i) {
      const auto value = parse_number(cells[i]);
      if (!value) {
        return invalid_argument(where + ": column " + std::to_string(i + 1) + " is " +
                                quote_cell(cells[i]) + "; expected a number");
      }
      if (i != label) values.push_back(static_cast<float>(*value));
      if (label ? i == *label : !header && i + 1 == width) labels.add(cells[i], *value);
    }
    ++samples;
    KERF_ASSIGN(more, reader.next(cells));
  }
  if (samples == 0) return invalid_argument(path + ": a header and no rows; expected rows of numbers");
  DataSet data;
  data.samples = samples;
  const auto columns = static_cast<std::int64_t>(label ? width - 1 : width);
  data.inputs["x"] = Tensor::f32({samples, columns}, values);
  if (label) {
    data.labels = labels.tensor();
  } else if (!header && width > 1) {
    data.last_column = labels.tensor();
  }
  return data;
}

}  // namespace kerf::data
