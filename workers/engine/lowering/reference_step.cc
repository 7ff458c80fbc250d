#include "workers/engine/lowering/reference_step.h"

#include <cstring>
#include <stdexcept>

#include "workers/engine/reference/reference.h"

namespace kerf::engine {

using graph::DType;
using graph::Node;
using graph::Shape;
using graph::Tensor;

namespace {

class ReferenceStep final : public Step {
 public:
  ReferenceStep(Node node, std::vector<Tensor> inputs, std::vector<SlotId> input_slots, std::vector<SlotId> output_slots,
                std::vector<std::pair<DType, Shape>> types)
      : node_(std::move(node)), inputs_(std::move(inputs)), slots_(std::move(input_slots)), types_(std::move(types)) {
    for (const SlotId slot : slots_) {
      if (slot >= 0) reads.push_back(slot);
    }
    writes = std::move(output_slots);
    info.kernel = "kerf:reference";
  }

  void run(Pointers pointers) override {
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      if (slots_[i] >= 0 && inputs_[i].bytes() > 0) std::memcpy(inputs_[i].mutable_raw(), pointers[slots_[i]], inputs_[i].bytes());
    }
    const auto results = evaluate(node_, inputs_);
    if (!results.has_value()) throw std::runtime_error(results.error().message);
    std::size_t written = 0;
    for (std::size_t i = 0; i < node_.outputs.size(); ++i) {
      if (node_.outputs[i].empty()) continue;
      const Tensor& result = results->at(i);
      // The slot has the inferred shape; a kernel that disagrees must not write past it.
      if (result.dtype() != types_[written].first || result.shape() != types_[written].second) {
        throw std::runtime_error("node " + node_.label() + ": gives " + std::string(graph::to_string(result.dtype())) + " " +
                                 graph::to_string(result.shape()) + ", inferred was " +
                                 std::string(graph::to_string(types_[written].first)) + " " + graph::to_string(types_[written].second));
      }
      if (result.bytes() > 0) std::memcpy(pointers[writes[written]], result.raw(), result.bytes());
      ++written;
    }
  }

 private:
  Node node_;
  std::vector<Tensor> inputs_;
  std::vector<SlotId> slots_;
  std::vector<std::pair<DType, Shape>> types_;  ///< Of the outputs that have names.
};

}  // namespace

std::unique_ptr<Step> make_reference_step(Node node, std::vector<Tensor> inputs, std::vector<SlotId> input_slots,
                                          std::vector<SlotId> output_slots, std::vector<std::pair<DType, Shape>> types) {
  return std::make_unique<ReferenceStep>(std::move(node), std::move(inputs), std::move(input_slots), std::move(output_slots), std::move(types));
}

}  // namespace kerf::engine
