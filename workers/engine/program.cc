#include "workers/engine/program.h"

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <new>

#include "workers/engine/lowering/lowering.h"

namespace kerf::engine {

void Program::Free::operator()(std::byte* memory) const { std::free(memory); }

/// Zeroed memory at a multiple of 64; at least 64 bytes.
Program::Memory Program::aligned(std::int64_t bytes) {
  const auto size = static_cast<std::size_t>((std::max<std::int64_t>(bytes, 1) + 63) / 64 * 64);
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(64, size));
  if (memory == nullptr) throw std::bad_alloc();
  std::fill_n(memory, size, std::byte{0});
  return Memory(memory);
}

namespace {

/// A plan whose steps know the team that they were made for.
Result<Plan> lower_for(const graph::Graph& graph, int threads, bool timed) {
  // oneDNN chooses blockings for the team that will run them.
  omp_set_num_threads(threads);
  KERF_ASSIGN(Plan plan, lower(graph, threads, timed));
  for (const auto& step : plan.steps) step->team = threads;
  return plan;
}

/// Takes the steps that `teams` wants to run on one thread from a plan that was made for that.
Result<void> mix(Plan& plan, const graph::Graph& graph, const std::vector<int>& teams, bool timed) {
  KERF_ASSIGN(Plan alone, lower_for(graph, 1, timed));
  if (alone.steps.size() != plan.steps.size() || alone.slots.size() != plan.slots.size() || teams.size() != plan.steps.size()) return {};
  for (std::size_t i = 0; i < teams.size(); ++i) {
    const bool same = alone.steps[i]->reads == plan.steps[i]->reads && alone.steps[i]->writes == plan.steps[i]->writes;
    if (teams[i] == 1 && same) std::swap(plan.steps[i], alone.steps[i]);
  }
  for (graph::Tensor& constant : alone.constants) plan.constants.push_back(std::move(constant));
  return {};
}

}  // namespace

Result<std::unique_ptr<Program>> Program::make(const graph::Graph& graph, int threads, const std::vector<int>& teams, bool timed) {
  std::unique_ptr<Program> out(new Program());
  KERF_ASSIGN(out->plan_, lower_for(graph, threads, timed));
  Plan& plan = out->plan_;
  if (threads > 1 && !teams.empty()) KERF_TRY(mix(plan, graph, teams, timed));
  for (const auto& step : plan.steps) out->one_team_ = out->one_team_ && step->team == threads;
  out->arena_bytes_ = plan_memory(plan);
  out->arena_ = aligned(out->arena_bytes_);
  std::int64_t scratch = 0;
  for (const auto& step : plan.steps) scratch = std::max(scratch, step->scratchpad_bytes());
  out->scratchpad_ = aligned(scratch);
  out->pointers_.resize(plan.slots.size(), nullptr);
  for (std::size_t i = 0; i < plan.slots.size(); ++i) {
    const Slot& root = plan.slots[static_cast<std::size_t>(plan.root(static_cast<SlotId>(i)))];
    const auto slot = static_cast<SlotId>(i);
    if (root.external_input >= 0) {
      out->from_caller_.push_back({slot, static_cast<std::size_t>(root.external_input), root.bytes});
    } else if (root.external_output >= 0) {
      out->to_caller_.push_back({slot, static_cast<std::size_t>(root.external_output), root.bytes});
    } else if (root.constant != nullptr) {
      // Steps only read constants.
      out->pointers_[i] = const_cast<std::byte*>(root.constant);
    } else if (root.offset >= 0) {
      out->pointers_[i] = out->arena_.get() + root.offset;
    }
  }
  for (const auto& step : plan.steps) {
    step->bind(out->pointers_.data(), out->scratchpad_.get());
    out->weight_bytes_ += step->weight_bytes();
  }
  for (const graph::Tensor& constant : plan.constants) out->weight_bytes_ += static_cast<std::int64_t>(constant.bytes());
  return out;
}

void Program::point_to(std::span<const void* const> inputs, std::span<void* const> outputs, std::int64_t offset) {
  for (const Caller& caller : from_caller_) {
    auto* data = static_cast<std::byte*>(const_cast<void*>(inputs[caller.buffer]));
    pointers_[static_cast<std::size_t>(caller.slot)] = data + offset * caller.bytes;
  }
  for (const Caller& caller : to_caller_) {
    pointers_[static_cast<std::size_t>(caller.slot)] = static_cast<std::byte*>(outputs[caller.buffer]) + offset * caller.bytes;
  }
}

void Program::run_in_teams() const {
  int team = -1;
  for (const auto& step : plan_.steps) {
    if (step->team != team) omp_set_num_threads(team = step->team);
    step->run(pointers_.data());
  }
}

void Program::run_profiled(std::vector<double>& times) const {
  using Clock = std::chrono::steady_clock;
  times.resize(plan_.steps.size());
  Clock::time_point before = Clock::now();
  for (std::size_t i = 0; i < plan_.steps.size(); ++i) {
    if (!one_team_) omp_set_num_threads(plan_.steps[i]->team);
    plan_.steps[i]->run(pointers_.data());
    const Clock::time_point after = Clock::now();
    times[i] += std::chrono::duration<double, std::micro>(after - before).count();
    before = after;
  }
}

}  // namespace kerf::engine
