#include "workers/graph/digest.h"

#include <cstring>

namespace kerf::graph {
namespace {

constexpr std::uint64_t kA = 0x9E3779B97F4A7C15;
constexpr std::uint64_t kB = 0xD1B54A32D192ED03;

std::uint64_t fold(std::uint64_t a, std::uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64U);
}

void mix(Digest& into, std::uint64_t first, std::uint64_t second) {
  into.low = fold(into.low ^ first ^ kA, second ^ kB);
  into.high = fold(into.high + second + kB, first + kA) + into.low;
}

}  // namespace

Digest digest(const void* data, std::size_t size) {
  Digest out{size + kA, size ^ kB};
  const auto* bytes = static_cast<const unsigned char*>(data);
  const auto take = [&](const unsigned char* from) {
    std::uint64_t words[2];
    std::memcpy(words, from, sizeof words);
    mix(out, words[0], words[1]);
  };
  std::size_t i = 0;
  for (; i + 16 <= size; i += 16) take(bytes + i);
  unsigned char rest[16] = {};
  if (i < size) std::memcpy(rest, bytes + i, size - i);
  take(rest);
  return out;
}

Digest operator+(const Digest& first, const Digest& second) {
  Digest out = first;
  mix(out, second.low, second.high);
  return out;
}

}  // namespace kerf::graph
