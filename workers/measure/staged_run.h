#pragma once

#include <functional>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "core/result.h"
#include "workers/graph/digest.h"
#include "workers/measure/batch_runner.h"

namespace kerf::measure {

/// Activations of an evaluation set at points where candidates were cut in two, so that the next one
/// that computes the same up to there starts from them. Forgets the least recently used point where
/// they pass 256 MiB.
///
/// Threads:  not thread-safe.
class PrefixCache {
 public:
  /// The rows of a shard at a point; null where they aren't here.
  [[nodiscard]] const graph::Tensor* find(const graph::Digest& point, std::size_t shard) const;
  void keep(const graph::Digest& point, std::size_t shard, graph::Tensor rows);
  /// Whether shards 0 … `shards` - 1 are here.
  [[nodiscard]] bool holds(const graph::Digest& point, std::size_t shards) const;
  void clear();  ///< The evaluation set is another one.

  /// Points of the candidate before this one, and those that turned out not to give the same bits.
  std::set<graph::Digest> last_points;
  std::set<graph::Digest> unfit;

 private:
  struct Point {
    graph::Digest key;
    std::map<std::size_t, graph::Tensor> shards;
    std::size_t bytes = 0;
  };
  static constexpr std::size_t kMostBytes = 256U << 20U;
  std::list<Point> points_;  ///< The last used first.
  std::size_t bytes_ = 0;
};

/// Evaluates a candidate: as a whole, or from activations that an earlier candidate left. The results
/// are the same to the bit: the first batch is computed both ways, and a point where they differ is
/// not used.
///
/// A candidate that shares the beginning (a quarter of the multiply-adds or more) with the one before
/// is cut there, and what the beginning gives is kept; from the next one on the beginning isn't run.
/// Candidates that share nothing cost nothing more than the fingerprints.
class StagedRun {
 public:
  /// `samples`: of the evaluation set, in the order in which rows() is asked for them, `shard_samples`
  /// at a time.
  ///
  /// Errors:   those of Compiled::make.
  [[nodiscard]] static Result<StagedRun> make(const graph::Graph& graph, const std::vector<graph::Tensor>& inputs,
                                              const engine::ExecutorOptions& options, std::span<const std::int64_t> samples,
                                              std::size_t shard_samples, PrefixCache& cache);

  /// See run_samples.
  [[nodiscard]] Result<graph::Tensor> rows(std::size_t shard, std::span<const std::int64_t> samples,
                                           const std::function<Result<void>()>& between);

  [[nodiscard]] const Compiled& whole() const { return whole_; }
  /// Share of the multiply-adds that isn't computed for this candidate, as another one left it.
  [[nodiscard]] double share_reused() const { return share_reused_; }

 private:
  StagedRun(Compiled whole, const std::vector<graph::Tensor>& inputs, PrefixCache& cache)
      : whole_(std::move(whole)), inputs_(&inputs), cache_(&cache) {}
  [[nodiscard]] Result<void> cut(const graph::Graph& graph, const std::string& value, const graph::Digest& point,
                                 const engine::ExecutorOptions& options, std::span<const std::int64_t> first_shard);
  [[nodiscard]] Result<graph::Tensor> rows_of_tail(const graph::Tensor& activations, const std::function<Result<void>()>& between);

  Compiled whole_;
  std::optional<Compiled> head_, tail_;
  graph::Digest point_;
  const std::vector<graph::Tensor>* inputs_;
  PrefixCache* cache_;
  double share_reused_ = 0;
};

}  // namespace kerf::measure
