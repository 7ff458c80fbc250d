// The memory plan: nothing that lives at the same time overlaps.
#include "workers/engine/plan.h"

#include "tests/unit/engine/support.h"

namespace kerf::engine::testing {
namespace {

class Action final : public Step {
 public:
  void run(Pointers) override {}
};

Slot slot_of(std::int64_t bytes) {
  Slot slot;
  slot.dims = {bytes};
  slot.dtype = DType::kU8;
  slot.bytes = bytes;
  return slot;
}

/// Runs the plan symbolically: each slot's bytes are stamped when written, and must be untouched
/// when read.
void expect_values_survive(Plan& plan, std::int64_t total) {
  std::vector<int> memory(static_cast<std::size_t>(total), -1);
  std::vector<int> stamp(plan.slots.size(), -1);
  for (std::size_t i = 0; i < plan.steps.size(); ++i) {
    for (const SlotId read : plan.steps[i]->reads) {
      const Slot& at = plan.slots[static_cast<std::size_t>(plan.root(read))];
      for (std::int64_t byte = 0; byte < at.bytes; ++byte) {
        ASSERT_EQ(memory[static_cast<std::size_t>(at.offset + byte)], stamp[static_cast<std::size_t>(read)]) << "step " << i << " slot " << read;
      }
    }
    for (const SlotId write : plan.steps[i]->writes) {
      const Slot& at = plan.slots[static_cast<std::size_t>(plan.root(write))];
      EXPECT_EQ(at.offset % 64, 0);
      ASSERT_LE(at.offset + at.bytes, total);
      stamp[static_cast<std::size_t>(write)] = static_cast<int>(i);
      for (std::int64_t byte = 0; byte < at.bytes; ++byte) memory[static_cast<std::size_t>(at.offset + byte)] = static_cast<int>(i);
    }
  }
}

TEST(MemoryPlan, ValuesSurviveUntilTheirLastReader) {
  for (std::uint32_t stream = 0; stream < 200; ++stream) {
    Random random(stream);
    SCOPED_TRACE("KERF_TEST_SEED=" + std::to_string(random.seed()));
    Plan plan;
    std::int64_t sum = 0;
    for (int i = 0; i < 25; ++i) {
      auto step = std::make_unique<Action>();
      for (std::int64_t r = random.below(3); r > 0 && !plan.slots.empty(); --r) {
        step->reads.push_back(static_cast<SlotId>(random.below(static_cast<std::int64_t>(plan.slots.size()))));
      }
      const std::int64_t bytes = random.chance(0.5) ? 128 : 1 + random.below(500);
      plan.slots.push_back(slot_of(bytes));
      sum += (bytes + 63) / 64 * 64;
      step->writes.push_back(static_cast<SlotId>(plan.slots.size() - 1));
      if (!step->reads.empty() && random.chance(0.5)) step->in_place = step->reads[0];
      plan.steps.push_back(std::move(step));
    }
    const std::int64_t total = plan_memory(plan);
    EXPECT_LE(total, sum);
    expect_values_survive(plan, total);
  }
}

TEST(MemoryPlan, AChainNeedsTwoBuffersOnly) {
  Plan plan;
  for (int i = 0; i < 10; ++i) {
    auto step = std::make_unique<Action>();
    if (i > 0) step->reads = {i - 1};
    plan.slots.push_back(slot_of(640));
    step->writes = {i};
    plan.steps.push_back(std::move(step));
  }
  EXPECT_EQ(plan_memory(plan), 1280);
}

}  // namespace
}  // namespace kerf::engine::testing
