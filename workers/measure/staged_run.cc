#include "workers/measure/staged_run.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "workers/measure/prefix.h"

namespace kerf::measure {

using graph::Digest;
using graph::Tensor;

const Tensor* PrefixCache::find(const Digest& point, std::size_t shard) const {
  for (const Point& known : points_) {
    if (known.key != point) continue;
    const auto rows = known.shards.find(shard);
    return rows == known.shards.end() ? nullptr : &rows->second;
  }
  return nullptr;
}

void PrefixCache::keep(const Digest& point, std::size_t shard, Tensor rows) {
  auto found = std::find_if(points_.begin(), points_.end(), [&](const Point& known) { return known.key == point; });
  if (found == points_.end()) {
    points_.push_front({point, {}, 0});
  } else {
    points_.splice(points_.begin(), points_, found);
  }
  Point& here = points_.front();
  if (here.shards.contains(shard)) return;
  bytes_ += rows.bytes();
  here.bytes += rows.bytes();
  here.shards[shard] = std::move(rows);
  while (bytes_ > kMostBytes && !points_.empty()) {
    bytes_ -= points_.back().bytes;
    points_.pop_back();
  }
}

bool PrefixCache::holds(const Digest& point, std::size_t shards) const {
  for (std::size_t shard = 0; shard < shards; ++shard) {
    if (find(point, shard) == nullptr) return false;
  }
  return shards > 0;
}

void PrefixCache::clear() {
  points_.clear();
  bytes_ = 0;
  last_points.clear();
  unfit.clear();
}

Result<StagedRun> StagedRun::make(const graph::Graph& graph, const std::vector<Tensor>& inputs,
                                  const engine::ExecutorOptions& options, std::span<const std::int64_t> samples,
                                  std::size_t shard_samples, PrefixCache& cache) {
  constexpr double kWorthIt = 0.25;
  KERF_ASSIGN(Compiled whole, Compiled::make(graph, inputs, options));
  StagedRun out(std::move(whole), inputs, cache);
  if (!out.whole_.fits_batch()) return out;
  // Another batch or team may round otherwise.
  const std::int64_t how[] = {options.batch, options.threads, static_cast<std::int64_t>(shard_samples)};
  const Digest settings = graph::digest(how, sizeof how);
  std::vector<CutPoint> points = cut_points(graph);
  std::set<Digest> now;
  for (CutPoint& point : points) {
    point.fingerprint = point.fingerprint + settings;
    now.insert(point.fingerprint);
  }
  const std::set<Digest> before = std::exchange(cache.last_points, std::move(now));
  const std::size_t shards = (samples.size() + shard_samples - 1) / shard_samples;
  const CutPoint* known = nullptr;
  const CutPoint* shared = nullptr;
  for (const CutPoint& point : points) {
    if (point.share < kWorthIt || cache.unfit.contains(point.fingerprint)) continue;
    if (cache.holds(point.fingerprint, shards)) known = &point;
    if (before.contains(point.fingerprint)) shared = &point;
  }
  const CutPoint* chosen = known != nullptr ? known : shared;
  if (chosen == nullptr) return out;
  KERF_TRY(out.cut(graph, chosen->value, chosen->fingerprint, options, samples.first(std::min(shard_samples, samples.size()))));
  if (out.tail_ && known != nullptr) out.share_reused_ = chosen->share;
  return out;
}

/// Makes head and tail, if together they give the bits of the whole on the first batch. Whatever goes
/// wrong here, the whole is there.
Result<void> StagedRun::cut(const graph::Graph& graph, const std::string& value, const Digest& point,
                            const engine::ExecutorOptions& options, std::span<const std::int64_t> first_shard) {
  cache_->unfit.insert(point);
  const auto samples = first_shard.first(std::min(first_shard.size(), static_cast<std::size_t>(whole_.batch())));
  const auto go_on = [] { return Result<void>(); };
  auto head = Compiled::make(head_of(graph, value), *inputs_, options);
  if (!head.has_value() || !head->fits_batch()) return {};
  auto activations = run_samples(*head, *inputs_, samples, go_on);
  if (!activations.has_value()) return {};
  auto tail = Compiled::make(tail_of(graph, value), {*activations}, options);
  if (!tail.has_value() || !tail->fits_batch()) return {};
  tail_.emplace(std::move(*tail));
  auto staged = rows_of_tail(*activations, go_on);
  KERF_ASSIGN(const Tensor wanted, run_samples(whole_, *inputs_, samples, go_on));
  if (!staged.has_value() || staged->bytes() != wanted.bytes() ||
      std::memcmp(staged->raw(), wanted.raw(), wanted.bytes()) != 0) {
    tail_.reset();
    return {};
  }
  cache_->unfit.erase(point);
  head_.emplace(std::move(*head));
  point_ = point;
  return {};
}

Result<Tensor> StagedRun::rows_of_tail(const Tensor& activations, const std::function<Result<void>()>& between) {
  std::vector<std::int64_t> all(static_cast<std::size_t>(activations.dim(0)));
  std::iota(all.begin(), all.end(), 0);
  return run_samples(*tail_, {activations}, all, between);
}

Result<Tensor> StagedRun::rows(std::size_t shard, std::span<const std::int64_t> samples,
                               const std::function<Result<void>()>& between) {
  if (!tail_) return run_samples(whole_, *inputs_, samples, between);
  if (const Tensor* kept = cache_->find(point_, shard)) return rows_of_tail(*kept, between);
  KERF_ASSIGN(Tensor activations, run_samples(*head_, *inputs_, samples, between));
  KERF_ASSIGN(Tensor rows, rows_of_tail(activations, between));
  cache_->keep(point_, shard, std::move(activations));
  return rows;
}

}  // namespace kerf::measure
