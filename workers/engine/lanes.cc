#include "workers/engine/lanes.h"

#include <omp.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <system_error>

#include "workers/engine/lowering/prepare.h"
#include "workers/graph/shape_inference.h"

namespace kerf::engine {

using graph::Graph;

namespace {

bool is_static(const Graph& graph) {
  for (const graph::ValueInfo& input : graph.inputs) {
    if (!graph::element_count(input.shape)) return false;
  }
  return true;
}

Result<Graph> for_batch(const Graph& graph, std::int64_t batch) {
  const std::int64_t own = own_batch(graph);
  if (batch <= 0) batch = own > 0 ? own : 1;
  if (is_static(graph) && (own == batch || graph.inputs.empty() || own == 0)) {
    Graph copy = graph;
    KERF_TRY(graph::infer_shapes(copy));
    return copy;
  }
  return graph::with_batch(graph, batch);
}

}  // namespace

std::int64_t own_batch(const Graph& graph) {
  std::int64_t batch = 0;
  for (const graph::ValueInfo& input : graph.inputs) {
    if (input.shape.empty() || (batch != 0 && input.shape[0] != batch)) return 0;
    batch = input.shape[0];
  }
  return batch;
}

Result<std::unique_ptr<Lanes>> Lanes::make(const Graph& graph, std::int64_t batch, int threads, const Cut& cut, bool timed) {
  KERF_ASSIGN(Graph sized, for_batch(graph, cut.micro));
  KERF_ASSIGN(sized, prepare(std::move(sized)));
  std::unique_ptr<Lanes> out(new Lanes());
  out->cut_ = cut;
  out->pieces_ = batch / cut.micro;
  const bool one = !cut.teams.empty() && std::all_of(cut.teams.begin(), cut.teams.end(), [](int team) { return team == 1; });
  const int team = cut.lanes > 1 || one ? 1 : threads;
  out->threads_ = cut.lanes > 1 ? threads : team;
  for (int lane = 0; lane < cut.lanes; ++lane) {
    KERF_ASSIGN(auto program, Program::make(sized, team, one ? std::vector<int>{} : cut.teams, timed));
    out->programs_.push_back(std::move(program));
  }
  if (cut.lanes > 1) {
    try {
      out->pool_ = std::make_unique<LanePool>(cut.lanes);
    } catch (const std::system_error& error) {
      return Error{ErrorCode::kResourceExhausted, std::to_string(cut.lanes) + " threads: " + error.what()};
    }
  }
  const Plan& plan = out->programs_[0]->plan();
  const auto whole = [&](std::vector<graph::ValueInfo> values) {
    if (out->pieces_ > 1) {
      for (graph::ValueInfo& value : values) value.shape[0] *= out->pieces_;
    }
    return values;
  };
  out->inputs_ = whole(plan.inputs);
  out->outputs_ = whole(plan.outputs);
  for (const auto& step : plan.steps) {
    out->infos_.push_back(step->info);
    out->infos_.back().weight_bytes = step->weight_bytes();
  }
  return out;
}

void Lanes::run(std::span<const void* const> from, std::span<void* const> to) {
  omp_set_num_threads(team());
  if (!pool_) {
    if (threads_ > 1) place_team();
    for (std::int64_t piece = 0; piece < pieces_; ++piece) {
      programs_[0]->point_to(from, to, piece);
      programs_[0]->run();
    }
    return;
  }
  const auto count = static_cast<std::int64_t>(programs_.size());
  auto share = [&](int lane) {
    Program& program = *programs_[static_cast<std::size_t>(lane)];
    for (std::int64_t piece = lane; piece < pieces_; piece += count) {
      program.point_to(from, to, piece);
      program.run();
    }
  };
  pool_->run(share);
}

std::vector<double> Lanes::run_profiled(std::span<const void* const> from, std::span<void* const> to) {
  omp_set_num_threads(team());
  if (!pool_ && threads_ > 1) place_team();
  std::vector<double> times;
  for (std::int64_t piece = 0; piece < pieces_; ++piece) {
    programs_[0]->point_to(from, to, piece);
    programs_[0]->run_profiled(times);
  }
  // Lanes work side by side: a step's share of the time is what one of them spends on it.
  for (double& time : times) time /= static_cast<double>(programs_.size());
  return times;
}

std::int64_t Lanes::arena_bytes() const {
  std::int64_t bytes = 0;
  for (const auto& program : programs_) bytes += program->arena_bytes();
  return bytes;
}

/// OpenMP keeps the threads of a team as long as its size stays.
void Lanes::place_team() {
  if (!placement_) {
    placement_.emplace();
#pragma omp parallel num_threads(threads_)
    {
      const int index = omp_get_thread_num();
#pragma omp critical
      if (index > 0) placement_->set_helper(static_cast<std::size_t>(index) - 1, gettid());
    }
  }
  placement_->follow();
}

void Lanes::rest() {
  if (pool_ || threads_ == 1) return;
  omp_pause_resource_all(omp_pause_soft);
  placement_.reset();
}

}  // namespace kerf::engine
