#include "workers/engine/lowering/boundary.h"

#include <algorithm>

namespace kerf::engine {

using graph::DType;

namespace {

class CopyOut final : public Step {
 public:
  CopyOut(SlotId from, SlotId to, std::size_t bytes) : bytes_(bytes) {
    reads = {from};
    writes = {to};
  }
  void run(Pointers pointers) override { std::copy_n(pointers[reads[0]], bytes_, pointers[writes[0]]); }

 private:
  std::size_t bytes_;
};

}  // namespace

Result<void> add_graph_inputs(Values& values) {
  for (std::size_t i = 0; i < values.graph().inputs.size(); ++i) {
    const graph::ValueInfo& input = values.graph().inputs[i];
    if (!graph::element_count(input.shape)) {
      return Error{ErrorCode::kFailedPrecondition, "graph input '" + input.name + "' has the shape " + graph::to_string(input.shape) + ", which isn't static"};
    }
    Rep rep;
    rep.numeric.dtype = input.dtype;
    rep.slot = values.new_slot(input.dtype, input.shape, Layout::kPlain);
    values.plan().slots[static_cast<std::size_t>(rep.slot)].external_input = static_cast<int>(i);
    values.set(input.name, rep);
    values.plan().inputs.push_back(input);
  }
  return {};
}

Result<void> add_graph_outputs(Values& values) {
  for (std::size_t i = 0; i < values.graph().outputs.size(); ++i) {
    const graph::ValueInfo* info = values.graph().value(values.graph().outputs[i].name);
    const std::string& name = values.graph().outputs[i].name;
    if (!values.known(name)) return Error{ErrorCode::kInternal, "graph output '" + name + "' was not made"};
    KERF_ASSIGN(Rep rep, values.first(name));
    if (info == nullptr || info->dtype == DType::kF32) {
      KERF_ASSIGN(rep, values.as(name, DType::kF32, Layout::kPlain));
    }
    rep = values.in_layout(name, rep, Layout::kPlain);
    SlotId root = values.plan().root(rep.slot);
    const Slot& at = values.plan().slots[static_cast<std::size_t>(root)];
    if (at.constant != nullptr || at.external_input >= 0 || at.external_output >= 0) {
      const SlotId copy = values.new_slot(rep.numeric.dtype, values.dims(rep), Layout::kPlain);
      auto step = std::make_unique<CopyOut>(rep.slot, copy, static_cast<std::size_t>(values.plan().slots[static_cast<std::size_t>(copy)].bytes));
      step->info.kernel = "kerf:copy";
      values.emit(std::move(step), name, "copy", executes_as(rep.numeric));
      root = copy;
    }
    values.plan().slots[static_cast<std::size_t>(root)].external_output = static_cast<int>(i);
    values.plan().output_slots.push_back(root);
    values.plan().outputs.push_back({name, rep.numeric.dtype, values.dims(rep)});
  }
  return {};
}

}  // namespace kerf::engine
