#include "workers/engine/kernels/packed_weights.h"

#include <cstdint>
#include <cstring>
#include <list>
#include <mutex>
#include <unordered_map>

#include "workers/engine/kernels/primitive.h"

namespace kerf::engine {
namespace {

/// 128 bits of the content, by two chains of multiply and fold (after wyhash's mixing step). Weights
/// aren't an attacker's: whoever supplies the model only ever meets his own.
struct Digest {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  friend bool operator==(const Digest&, const Digest&) = default;
};

std::uint64_t fold(std::uint64_t a, std::uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64U);
}

Digest digest(const void* data, std::size_t size) {
  constexpr std::uint64_t kA = 0x9E3779B97F4A7C15;
  constexpr std::uint64_t kB = 0xD1B54A32D192ED03;
  Digest out{size + kA, size ^ kB};
  const auto* bytes = static_cast<const unsigned char*>(data);
  const auto take = [&](const unsigned char* from) {
    std::uint64_t words[2];
    std::memcpy(words, from, sizeof words);
    out.low = fold(out.low ^ words[0] ^ kA, words[1] ^ kB);
    out.high = fold(out.high + words[1] + kB, words[0] + kA) + out.low;
  };
  std::size_t i = 0;
  for (; i + 16 <= size; i += 16) take(bytes + i);
  unsigned char rest[16] = {};
  if (i < size) std::memcpy(rest, bytes + i, size - i);
  take(rest);
  return out;
}

struct Entry {
  Digest content;
  dnnl::memory::desc from, to;
  dnnl::memory memory;
};

class Cache {
 public:
  dnnl::memory find(const Digest& content, const dnnl::memory::desc& from, const dnnl::memory::desc& to) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto [first, last] = index_.equal_range(content.low);
    for (auto i = first; i != last; ++i) {
      const Entry& entry = *i->second;
      if (entry.content == content && entry.from == from && entry.to == to) {
        entries_.splice(entries_.begin(), entries_, i->second);
        return entry.memory;
      }
    }
    return {};
  }

  void keep(Entry entry) {
    const std::lock_guard<std::mutex> lock(mutex_);
    bytes_ += entry.memory.get_desc().get_size();
    const std::uint64_t key = entry.content.low;
    entries_.push_front(std::move(entry));
    index_.emplace(key, entries_.begin());
    while (bytes_ > kMostBytes && entries_.size() > 1) drop_last();
  }

  void clear() {
    const std::lock_guard<std::mutex> lock(mutex_);
    while (!entries_.empty()) drop_last();
  }

 private:
  static constexpr std::size_t kMostBytes = 128ULL << 20U;

  void drop_last() {
    const auto last = std::prev(entries_.end());
    bytes_ -= last->memory.get_desc().get_size();
    const auto [first, end] = index_.equal_range(last->content.low);
    for (auto i = first; i != end; ++i) {
      if (i->second == last) {
        index_.erase(i);
        break;
      }
    }
    entries_.pop_back();
  }

  std::mutex mutex_;
  std::list<Entry> entries_;  ///< The last used first.
  std::unordered_multimap<std::uint64_t, std::list<Entry>::iterator> index_;
  std::size_t bytes_ = 0;
};

Cache& cache() {
  static Cache made;
  return made;
}

}  // namespace

dnnl::memory packed(const dnnl::memory::desc& from, const void* data, const dnnl::memory::desc& to) {
  const Digest content = digest(data, from.get_size());
  if (dnnl::memory known = cache().find(content, from, to)) return known;
  // oneDNN reads only; its handle isn't const.
  dnnl::memory source(from, cpu_engine(), const_cast<void*>(data));
  dnnl::memory target(to, cpu_engine());
  dnnl::stream stream(cpu_engine());
  dnnl::reorder(source, target).execute(stream, source, target);
  stream.wait();
  cache().keep({content, from, to, target});
  return target;
}

void forget_packed_weights() { cache().clear(); }

}  // namespace kerf::engine
