#include "workers/graph/einsum.h"

#include <algorithm>
#include <cctype>

namespace kerf::graph {
namespace {

/// Letters that stand for the axes of "...": they come before 'A', so no equation holds them.
constexpr char kEllipsisFirst = '!';

/// One side of a comma: letters only, "..." as `dots` letters of its own (the last ones).
std::optional<std::string> term(const std::string& text, std::size_t dots, std::size_t most) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '.') {
      if (text.compare(i, 3, "...") != 0) return std::nullopt;
      for (std::size_t k = most - dots; k < most; ++k) out += static_cast<char>(kEllipsisFirst + k);
      i += 2;
    } else if (std::isalpha(static_cast<unsigned char>(text[i])) != 0) {
      out += text[i];
    } else {
      return std::nullopt;
    }
  }
  return out;
}

std::size_t letters(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return c != '.'; }));
}

}  // namespace

std::optional<Einsum> parse_einsum(const std::string& equation,
                                   const std::vector<std::size_t>& ranks) {
  std::string text;
  for (const char c : equation) {
    if (c != ' ') text += c;
  }
  const std::size_t arrow = text.find("->");
  std::vector<std::string> terms(1);
  for (const char c : text.substr(0, arrow)) {
    if (c == ',') terms.emplace_back();
    else terms.back() += c;
  }
  if (terms.size() != ranks.size()) return std::nullopt;
  std::size_t most = 0;
  std::vector<std::size_t> dots(terms.size(), 0);
  for (std::size_t i = 0; i < terms.size(); ++i) {
    const bool open = terms[i].find("...") != std::string::npos;
    if (terms[i].find("...") != terms[i].rfind("...")) return std::nullopt;
    const std::size_t named = letters(terms[i]);
    if (named > ranks[i] || (!open && named != ranks[i])) return std::nullopt;
    dots[i] = open ? ranks[i] - named : 0;
    most = std::max(most, dots[i]);
  }
  if (most > 16) return std::nullopt;
  Einsum out;
  for (std::size_t i = 0; i < terms.size(); ++i) {
    auto read = term(terms[i], dots[i], most);
    if (!read) return std::nullopt;
    out.inputs.push_back(std::move(*read));
  }
  std::string all;
  for (const std::string& input : out.inputs) all += input;
  if (arrow == std::string::npos) {
    // The letters that stand once, in alphabetical order; those of "..." come first.
    std::string sorted = all;
    std::sort(sorted.begin(), sorted.end());
    for (const char c : sorted) {
      const bool from_dots = c < 'A';
      if (from_dots ? out.output.find(c) == std::string::npos
                    : std::count(all.begin(), all.end(), c) == 1) {
        out.output += c;
      }
    }
    return out;
  }
  auto read = term(text.substr(arrow + 2), most, most);
  if (!read) return std::nullopt;
  out.output = std::move(*read);
  for (const char c : out.output) {
    if (all.find(c) == std::string::npos ||
        std::count(out.output.begin(), out.output.end(), c) != 1) {
      return std::nullopt;
    }
  }
  return out;
}

}  // namespace kerf::graph
