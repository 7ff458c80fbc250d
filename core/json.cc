#include "core/json.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <vector>

namespace kerf {
namespace {

std::string position_of(std::string_view text, std::size_t byte) {
  std::size_t line = 1;
  std::size_t column = 1;
  for (std::size_t i = 0; i + 1 < std::min(byte, text.size()); ++i) {
    if (text[i] == '\n') {
      ++line;
      column = 1;
    } else {
      ++column;
    }
  }
  return "line " + std::to_string(line) + ", column " + std::to_string(column);
}

/// What the library says behind its own heading, which ends at `end`; a text that it quotes may be long.
std::string reason_of(std::string reason, std::string_view heading, std::string_view end) {
  constexpr std::size_t kMost = 120;
  const auto from = reason.find(heading);
  const auto at = from == std::string::npos ? from : reason.find(end, from);
  if (at != std::string::npos) reason = reason.substr(at + end.size());
  return reason.size() <= kMost ? reason : reason.substr(0, kMost) + "…";
}

/// Watches depth and duplicate keys while the library's parser runs.
class Guard {
 public:
  Guard(int depth, std::string* problem) : limit_(depth), problem_(problem) {}

  bool operator()(int depth, Json::parse_event_t event, Json& parsed) {
    using Event = Json::parse_event_t;
    if (event == Event::object_start || event == Event::array_start) {
      if (depth >= limit_) {
        *problem_ = "nested deeper than " + std::to_string(limit_);
        throw std::length_error(*problem_);
      }
      if (event == Event::object_start) keys_.emplace_back();
    } else if (event == Event::object_end) {
      keys_.pop_back();
    } else if (event == Event::key && !keys_.empty()) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!keys_.back().insert(key).second) {
        *problem_ = "the key \"" + key + "\" stands twice in one object";
        throw std::length_error(*problem_);
      }
    }
    return true;
  }

 private:
  int limit_;
  std::string* problem_;
  std::vector<std::set<std::string>> keys_;
};

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

}  // namespace

Result<Json> parse_json(std::string_view text, JsonLimits limits) {
  if (text.size() > limits.bytes) {
    return invalid_argument("JSON of " + std::to_string(text.size()) + " bytes; at most " +
                            std::to_string(limits.bytes) + " are accepted");
  }
  std::string problem;
  try {
    return Json::parse(text, Guard(limits.depth, &problem));
  } catch (const std::length_error&) {
    return invalid_argument("JSON: " + problem);
  } catch (const Json::parse_error& e) {
    return invalid_argument("not JSON at " + position_of(text, e.byte) + ": " + reason_of(e.what(), "parse error at", ": "));
  } catch (const Json::exception& e) {
    return invalid_argument("not JSON: " + reason_of(e.what(), "[", "] "));
  }
}

Result<Json> read_json_file(const std::string& path, JsonLimits limits) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return not_found(path + ": no such file, or it can't be read");
  std::string text;
  std::vector<char> buffer(1U << 16U);
  while (file.read(buffer.data(), static_cast<std::streamsize>(buffer.size())) || file.gcount() > 0) {
    text.append(buffer.data(), static_cast<std::size_t>(file.gcount()));
    if (text.size() > limits.bytes) break;
  }
  auto parsed = parse_json(text, limits);
  if (!parsed.has_value()) return with_context(path, parsed.error());
  return parsed;
}

Result<void> check_keys(const Json& object, std::string_view where,
                        std::initializer_list<std::string_view> known) {
  if (!object.is_object()) {
    return invalid_argument(std::string(where) + ": expected an object, got " + object.type_name());
  }
  for (const auto& [key, value] : object.items()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    const std::string_view near = nearest_word(key, known);
    std::string message = std::string(where) + ": unknown key \"" + key + "\"";
    if (!near.empty()) {
      message += "; did you mean \"" + std::string(near) + "\"?";
    } else {
      message += "; known keys:";
      for (const std::string_view word : known) message += " " + std::string(word);
    }
    return invalid_argument(message);
  }
  return {};
}

std::string canonical_text(const Json& document) {
  return document.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string_view nearest_word(std::string_view word,
                              std::initializer_list<std::string_view> known) {
  std::string_view best;
  std::size_t best_distance = word.size() / 2 + 2;
  for (const std::string_view candidate : known) {
    const std::size_t distance = edit_distance(word.substr(0, 64), candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace kerf
