#pragma once

#include <dnnl.hpp>

#include "workers/engine/plan.h"

namespace kerf::engine {

/// The processor's engine, one a process.
[[nodiscard]] const dnnl::engine& cpu_engine();

[[nodiscard]] dnnl::memory::data_type dnnl_type(graph::DType dtype);

/// A descriptor of `dims` as they lie in memory under the layout.
[[nodiscard]] dnnl::memory::desc dnnl_desc(const graph::Shape& dims, graph::DType dtype, Layout layout);

/// A oneDNN primitive with its arguments. The argument list is made once; run() only refreshes the
/// handles of what lies in the caller's buffers.
class PrimitiveStep final : public Step {
 public:
  PrimitiveStep(const dnnl::primitive& primitive, std::string kernel, const dnnl::memory::desc& scratchpad);

  /// An argument that lies in a slot. Inputs and outputs are told apart by `written`.
  void add(int argument, const dnnl::memory::desc& desc, SlotId slot, bool written);
  /// An argument that stays: weights, bias, scales, zero points.
  void add_fixed(int argument, dnnl::memory memory);

  void bind(Pointers pointers, std::byte* scratchpad) override;
  void run(Pointers pointers) override;
  [[nodiscard]] std::int64_t scratchpad_bytes() const override;
  [[nodiscard]] std::int64_t weight_bytes() const override { return fixed_bytes_; }

 private:
  struct Argument {
    int id;
    dnnl::memory::desc desc;
    SlotId slot;
    dnnl::memory memory;
  };
  dnnl::primitive primitive_;
  dnnl::stream stream_;
  dnnl::memory::desc scratchpad_desc_;
  std::vector<Argument> arguments_;
  std::vector<dnnl::memory> fixed_;
  std::vector<dnnl_exec_arg_t> list_;
  std::vector<std::size_t> external_;  ///< Indices into arguments_.
  std::int64_t fixed_bytes_ = 0;
};

[[nodiscard]] dnnl::memory f32_vector(const std::vector<float>& values);
[[nodiscard]] dnnl::memory s32_scalar(std::int32_t value);

}  // namespace kerf::engine
