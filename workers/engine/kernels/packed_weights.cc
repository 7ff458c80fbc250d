#include "workers/engine/kernels/packed_weights.h"

#include <cstdint>
#include <list>
#include <mutex>
#include <unordered_map>

#include "workers/engine/kernels/primitive.h"
#include "workers/graph/digest.h"

namespace kerf::engine {
namespace {

using graph::Digest;

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

dnnl::memory packed_by(const dnnl::memory::desc& from, const void* data, const dnnl::memory::desc& to,
                       const std::function<void(dnnl::memory&)>& pack) {
  const Digest content = graph::digest(data, from.get_size());
  if (dnnl::memory known = cache().find(content, from, to)) return known;
  dnnl::memory target(to, cpu_engine());
  pack(target);
  cache().keep({content, from, to, target});
  return target;
}

dnnl::memory packed(const dnnl::memory::desc& from, const void* data, const dnnl::memory::desc& to) {
  return packed_by(from, data, to, [&](dnnl::memory& target) {
    // oneDNN reads only; its handle isn't const.
    dnnl::memory source(from, cpu_engine(), const_cast<void*>(data));
    dnnl::stream stream(cpu_engine());
    dnnl::reorder(source, target).execute(stream, source, target);
    stream.wait();
  });
}

void forget_packed_weights() { cache().clear(); }

}  // namespace kerf::engine
