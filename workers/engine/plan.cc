#include "workers/engine/plan.h"

#include <algorithm>
#include <climits>

namespace kerf::engine {
namespace {

constexpr std::int64_t kAlignment = 64;

struct Life {
  int first = INT_MAX;
  int last = -1;
};

/// First writing and last reading step of each root.
std::vector<Life> lives(const Plan& plan) {
  std::vector<Life> out(plan.slots.size());
  const auto touch = [&](SlotId slot, int step) {
    Life& life = out[static_cast<std::size_t>(plan.root(slot))];
    life.first = std::min(life.first, step);
    life.last = std::max(life.last, step);
  };
  for (std::size_t i = 0; i < plan.steps.size(); ++i) {
    for (const SlotId slot : plan.steps[i]->reads) touch(slot, static_cast<int>(i));
    for (const SlotId slot : plan.steps[i]->writes) touch(slot, static_cast<int>(i));
  }
  return out;
}

bool in_arena(const Slot& slot) {
  return slot.external_input < 0 && slot.external_output < 0 && slot.constant == nullptr;
}

/// Whether `to`, first written by step i, may lie where `from` lies.
bool may_take_over(const Plan& plan, const std::vector<Life>& life, int i, SlotId from, SlotId to) {
  const SlotId a = plan.root(from);
  const SlotId b = plan.root(to);
  if (a == b) return false;
  const Slot& source = plan.slots[static_cast<std::size_t>(a)];
  const Slot& target = plan.slots[static_cast<std::size_t>(b)];
  if (!in_arena(source) || (!in_arena(target) && target.external_output < 0)) return false;
  return source.bytes == target.bytes && life[static_cast<std::size_t>(a)].last == i &&
         life[static_cast<std::size_t>(b)].first == i;
}

void join(Plan& plan, std::vector<Life>& life, SlotId from, SlotId to) {
  SlotId a = plan.root(from);
  SlotId b = plan.root(to);
  // What lies in the caller's memory stays there.
  if (plan.slots[static_cast<std::size_t>(b)].external_output >= 0) std::swap(a, b);
  plan.slots[static_cast<std::size_t>(b)].same_as = a;
  Life& whole = life[static_cast<std::size_t>(a)];
  const Life& part = life[static_cast<std::size_t>(b)];
  whole.first = std::min(whole.first, part.first);
  whole.last = std::max(whole.last, part.last);
}

void drop_unread(Plan& plan) {
  std::vector<int> readers(plan.slots.size(), 0);
  for (const auto& step : plan.steps) {
    for (const SlotId slot : step->reads) ++readers[static_cast<std::size_t>(plan.root(slot))];
  }
  std::erase_if(plan.steps, [&](const std::unique_ptr<Step>& step) {
    return step->droppable && std::all_of(step->writes.begin(), step->writes.end(), [&](SlotId slot) {
             const auto root = static_cast<std::size_t>(plan.root(slot));
             return readers[root] == 0 && plan.slots[root].external_output < 0;
           });
  });
}

/// A copy whose source isn't read later vanishes; the step that wrote into the copy then works on
/// the source's memory, which it must not read otherwise.
void drop_copies(Plan& plan) {
  std::vector<Life> life = lives(plan);
  std::vector<bool> drop(plan.steps.size(), false);
  for (std::size_t i = 0; i + 1 < plan.steps.size(); ++i) {
    const Step& copy = *plan.steps[i];
    if (!copy.elidable_copy) continue;
    const Step& user = *plan.steps[i + 1];
    const SlotId from = plan.root(copy.reads[0]);
    const bool reads_it = std::any_of(user.reads.begin(), user.reads.end(),
                                      [&](SlotId slot) { return plan.root(slot) == from; });
    if (reads_it || !may_take_over(plan, life, static_cast<int>(i), copy.reads[0], copy.writes[0])) continue;
    join(plan, life, copy.reads[0], copy.writes[0]);
    drop[i] = true;
  }
  std::size_t write = 0;
  for (std::size_t i = 0; i < plan.steps.size(); ++i) {
    if (!drop[i]) plan.steps[write++] = std::move(plan.steps[i]);
  }
  plan.steps.resize(write);
}

}  // namespace

std::int64_t plan_memory(Plan& plan) {
  drop_unread(plan);
  drop_copies(plan);
  std::vector<Life> life = lives(plan);
  for (std::size_t i = 0; i < plan.steps.size(); ++i) {
    const Step& step = *plan.steps[i];
    if (step.in_place < 0 || step.writes.size() != 1) continue;
    if (may_take_over(plan, life, static_cast<int>(i), step.in_place, step.writes[0])) {
      join(plan, life, step.in_place, step.writes[0]);
    }
  }
  // Largest first, each at the lowest offset where nothing that lives at the same time lies.
  std::vector<SlotId> order;
  for (std::size_t i = 0; i < plan.slots.size(); ++i) {
    const Slot& slot = plan.slots[i];
    if (slot.same_as < 0 && in_arena(slot) && life[i].last >= 0) order.push_back(static_cast<SlotId>(i));
  }
  std::stable_sort(order.begin(), order.end(), [&](SlotId a, SlotId b) {
    return plan.slots[static_cast<std::size_t>(a)].bytes > plan.slots[static_cast<std::size_t>(b)].bytes;
  });
  std::int64_t total = 0;
  std::vector<SlotId> placed;
  for (const SlotId id : order) {
    Slot& slot = plan.slots[static_cast<std::size_t>(id)];
    const Life& mine = life[static_cast<std::size_t>(id)];
    std::vector<std::pair<std::int64_t, std::int64_t>> taken;
    for (const SlotId other : placed) {
      const Life& theirs = life[static_cast<std::size_t>(other)];
      if (theirs.first > mine.last || mine.first > theirs.last) continue;
      const Slot& at = plan.slots[static_cast<std::size_t>(other)];
      taken.emplace_back(at.offset, at.offset + at.bytes);
    }
    std::sort(taken.begin(), taken.end());
    std::int64_t offset = 0;
    for (const auto& [begin, end] : taken) {
      if (offset + slot.bytes <= begin) break;
      offset = std::max(offset, (end + kAlignment - 1) / kAlignment * kAlignment);
    }
    slot.offset = offset;
    total = std::max(total, offset + slot.bytes);
    placed.push_back(id);
  }
  return (total + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace kerf::engine
