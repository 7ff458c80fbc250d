#include "workers/compress/packed/text_codec.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "workers/compress/packed/byte_stream.h"

namespace kerf::compress::packed {
namespace {

constexpr char kPlain = 0;
constexpr char kShortened = 1;
constexpr std::size_t kShortest = 4;
constexpr std::size_t kHashBits = 15;
constexpr int kChain = 32;  // earlier places that are looked at

std::uint32_t hash_of(const char* at) {
  std::uint32_t word = 0;
  std::memcpy(&word, at, 4);
  return (word * 2654435761U) >> (32U - kHashBits);
}

std::span<const std::uint8_t> as_bytes(const std::string& text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

/// Finds the longest earlier repetition of what follows a place.
class Finder {
 public:
  explicit Finder(std::string_view text)
      : text_(text), heads_(std::size_t{1} << kHashBits, -1), before_(text.size(), -1) {}

  void add(std::size_t at) {
    if (at + kShortest > text_.size()) return;
    auto& head = heads_[hash_of(text_.data() + at)];
    before_[at] = head;
    head = static_cast<std::int64_t>(at);
  }

  struct Match {
    std::size_t length = 0;
    std::size_t distance = 0;
  };
  [[nodiscard]] Match find(std::size_t at) const {
    Match best;
    if (at + kShortest > text_.size()) return best;
    std::int64_t place = heads_[hash_of(text_.data() + at)];
    for (int step = 0; step < kChain && place >= 0; ++step) {
      const auto from = static_cast<std::size_t>(place);
      std::size_t length = 0;
      while (at + length < text_.size() && text_[from + length] == text_[at + length]) ++length;
      if (length > best.length) best = {length, at - from};
      place = before_[from];
    }
    // A far place costs three bytes to name: what gains nothing is no match.
    const bool far = best.distance >= std::size_t{1} << 14U;
    if (best.length < kShortest || (best.length == kShortest && far)) return {};
    return best;
  }

 private:
  std::string_view text_;
  std::vector<std::int64_t> heads_, before_;
};

void write_run(const std::string& run, std::string& out) {
  Writer writer(out);
  writer.varint(run.size());
  StreamPlan(as_bytes(run), 0).write(as_bytes(run), writer, out);
}

bool read_run(Reader& in, std::size_t most, std::string& run) {
  const std::uint64_t size = in.varint();
  if (!in.ok() || size > most) return false;
  run.resize(static_cast<std::size_t>(size));
  return read_stream(in, 0, {reinterpret_cast<std::uint8_t*>(run.data()), run.size()});
}

}  // namespace

std::string shorten(std::string_view text) {
  std::string literals;
  std::string commands;
  std::string distances;
  Writer command(commands);
  Writer distance(distances);
  Finder finder(text);
  std::size_t pending = 0;
  for (std::size_t at = 0; at < text.size();) {
    Finder::Match match = finder.find(at);
    finder.add(at);
    if (match.length > 0 && at + 1 < text.size()) {
      // One literal more is worth it where a longer repetition starts behind it.
      if (finder.find(at + 1).length > match.length + 1) match.length = 0;
    }
    if (match.length == 0) {
      literals.push_back(text[at++]);
      ++pending;
      continue;
    }
    command.varint(pending);
    command.varint(match.length - kShortest);
    distance.varint(match.distance);
    pending = 0;
    for (std::size_t k = 1; k < match.length; ++k) finder.add(at + k);
    at += match.length;
  }
  if (pending > 0) command.varint(pending);
  std::string out(1, kShortened);
  Writer(out).varint(text.size());
  for (const std::string* run : {&literals, &commands, &distances}) write_run(*run, out);
  if (out.size() > text.size() || text.size() > most_bytes_from(out.size())) {
    out.assign(1, kPlain);
    out += text;
  }
  return out;
}

bool lengthen(Reader& in, std::size_t limit, std::string& text) {
  const std::size_t most = std::min(limit, most_bytes_from(in.left()));
  const std::uint8_t form = in.u8();
  if (form == kPlain) {
    text = in.bytes(in.left());
    return in.ok() && text.size() <= most;
  }
  if (form != kShortened) return false;
  const std::uint64_t size = in.varint();
  if (!in.ok() || size > most) return false;
  std::string literals;
  std::string commands;
  std::string distances;
  if (!read_run(in, size, literals) || !read_run(in, most, commands) ||
      !read_run(in, most, distances)) {
    return false;
  }
  Reader literal(literals);
  Reader command(commands);
  Reader distance(distances);
  text.clear();
  text.reserve(static_cast<std::size_t>(size));
  while (!command.finished()) {
    text += literal.bytes(command.varint());
    if (!command.ok() || !literal.ok() || text.size() > size) return false;
    if (command.finished()) break;
    const std::uint64_t length = command.varint() + kShortest;
    const std::uint64_t back = distance.varint();
    if (!command.ok() || !distance.ok() || back == 0 || back > text.size() ||
        length > size - text.size()) {
      return false;
    }
    for (std::uint64_t k = 0; k < length; ++k) text.push_back(text[text.size() - back]);
  }
  return text.size() == size && literal.finished() && distance.finished();
}

}  // namespace kerf::compress::packed
