#pragma once

#include <utility>

#include "workers/engine/plan.h"

namespace kerf::engine {

/// A step that is one call: f(pointers, scratchpad). The call may not allocate.
template <class F>
class CallStep final : public Step {
 public:
  CallStep(F call, std::int64_t scratchpad) : call_(std::move(call)), scratchpad_bytes_(scratchpad) {}

  void bind(Pointers, std::byte* scratchpad) override { scratchpad_ = scratchpad; }
  void run(Pointers pointers) override { call_(pointers, scratchpad_); }
  [[nodiscard]] std::int64_t scratchpad_bytes() const override { return scratchpad_bytes_; }

 private:
  F call_;
  std::int64_t scratchpad_bytes_;
  std::byte* scratchpad_ = nullptr;
};

template <class F>
[[nodiscard]] std::unique_ptr<Step> make_call(std::string kernel, std::vector<SlotId> reads, std::vector<SlotId> writes,
                                              F call, std::int64_t scratchpad = 0) {
  auto step = std::make_unique<CallStep<F>>(std::move(call), scratchpad);
  step->info.kernel = std::move(kernel);
  step->reads = std::move(reads);
  step->writes = std::move(writes);
  return step;
}

/// A slot's memory as an array of T.
template <class T>
[[nodiscard]] T* at(Pointers pointers, SlotId slot) {
  return reinterpret_cast<T*>(pointers[slot]);
}

}  // namespace kerf::engine
