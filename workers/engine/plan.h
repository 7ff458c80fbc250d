#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "workers/engine/executor.h"
#include "workers/graph/graph.h"

namespace kerf::engine {

using SlotId = int;

/// How a slot's elements lie in memory. Of rank 2 and below, and where all spatial extents are 1,
/// both are the same bytes.
enum class Layout : std::uint8_t {
  kPlain,         ///< Row-major, as ONNX says it.
  kChannelsLast,  ///< N, spatial…, C.
};

/// Memory of one value at run time.
struct Slot {
  graph::DType dtype = graph::DType::kF32;
  graph::Shape dims;  ///< Logical (ONNX's order), static.
  Layout layout = Layout::kPlain;
  std::int64_t bytes = 0;
  SlotId same_as = -1;        ///< Shares the memory of another slot.
  int external_input = -1;    ///< Lies in the caller's buffer.
  int external_output = -1;
  const std::byte* constant = nullptr;
  std::int64_t offset = -1;   ///< In the arena, once planned.
};

/// Where the slots lie during a run; indexed by SlotId.
using Pointers = std::byte* const*;

/// One prepared action of a compiled model.
class Step {
 public:
  virtual ~Step() = default;
  /// Called once, when the arena and the scratchpad have their addresses.
  virtual void bind(Pointers pointers, std::byte* scratchpad) {
    (void)pointers;
    (void)scratchpad;
  }
  virtual void run(Pointers pointers) = 0;
  [[nodiscard]] virtual std::int64_t scratchpad_bytes() const { return 0; }
  [[nodiscard]] virtual std::int64_t weight_bytes() const { return 0; }

  StepInfo info;
  int team = 1;  ///< Threads that it was made for.
  std::vector<SlotId> reads;
  std::vector<SlotId> writes;
  /// The output may lie where this input lay, if nobody needs that any more; -1 for none.
  SlotId in_place = -1;
  /// A plain copy that vanishes where its output may lie where its input lay.
  bool elidable_copy = false;
  /// Goes where nobody reads what it writes.
  bool droppable = false;
};

/// What lowering makes of a graph.
struct Plan {
  std::vector<Slot> slots;
  std::vector<std::unique_ptr<Step>> steps;
  std::vector<graph::Tensor> constants;  ///< Keeps the memory of constant slots.
  std::vector<graph::ValueInfo> inputs, outputs;
  std::vector<SlotId> output_slots;

  [[nodiscard]] SlotId root(SlotId slot) const {
    while (slots[static_cast<std::size_t>(slot)].same_as >= 0) {
      slot = slots[static_cast<std::size_t>(slot)].same_as;
    }
    return slot;
  }
};

/// Drops steps and copies that aren't needed, lets outputs take over inputs that die, and gives every slot
/// its offset. Slots that live at the same time don't overlap; offsets are multiples of 64.
///
/// Returns the arena's size.
[[nodiscard]] std::int64_t plan_memory(Plan& plan);

}  // namespace kerf::engine
