#include "workers/engine/kernels/primitive.h"

#include <cstring>
#include <stdexcept>

namespace kerf::engine {

using graph::DType;

const dnnl::engine& cpu_engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::memory::data_type dnnl_type(DType dtype) {
  using T = dnnl::memory::data_type;
  switch (dtype) {
    case DType::kF32: return T::f32;
    case DType::kBF16: return T::bf16;
    case DType::kS8: return T::s8;
    case DType::kU8: return T::u8;
    case DType::kS32: return T::s32;
    default: throw std::logic_error("no oneDNN type for " + std::string(graph::to_string(dtype)));
  }
}

dnnl::memory::desc dnnl_desc(const graph::Shape& dims, DType dtype, Layout layout) {
  dnnl::memory::dims strides(dims.size(), 1);
  std::int64_t step = 1;
  const bool last = layout == Layout::kChannelsLast && dims.size() > 2;
  if (last) {
    strides[1] = 1;
    step = dims[1];
  }
  for (std::size_t i = dims.size(); i-- > 0;) {
    if (last && i == 1) continue;
    strides[i] = step;
    step *= dims[i];
  }
  return {dims, dnnl_type(dtype), strides};
}

PrimitiveStep::PrimitiveStep(const dnnl::primitive& primitive, std::string kernel,
                             const dnnl::memory::desc& scratchpad)
    : primitive_(primitive), stream_(cpu_engine()), scratchpad_desc_(scratchpad) {
  info.kernel = std::move(kernel);
}

void PrimitiveStep::add(int argument, const dnnl::memory::desc& desc, SlotId slot, bool written) {
  arguments_.push_back({argument, desc, slot, {}});
  (written ? writes : reads).push_back(slot);
}

void PrimitiveStep::add_fixed(int argument, dnnl::memory memory) {
  fixed_bytes_ += static_cast<std::int64_t>(memory.get_desc().get_size());
  list_.push_back({argument, memory.get()});
  fixed_.push_back(std::move(memory));
}

void PrimitiveStep::bind(Pointers pointers, std::byte* scratchpad) {
  for (std::size_t i = 0; i < arguments_.size(); ++i) {
    Argument& argument = arguments_[i];
    std::byte* data = pointers[argument.slot];
    argument.memory = dnnl::memory(argument.desc, cpu_engine(), data);
    list_.push_back({argument.id, argument.memory.get()});
    if (data == nullptr) external_.push_back(i);
  }
  if (scratchpad_desc_.get_size() > 0) {
    fixed_.emplace_back(scratchpad_desc_, cpu_engine(), scratchpad);
    list_.push_back({DNNL_ARG_SCRATCHPAD, fixed_.back().get()});
  }
}

void PrimitiveStep::run(Pointers pointers) {
  for (const std::size_t i : external_) {
    arguments_[i].memory.set_data_handle(pointers[arguments_[i].slot]);
  }
  const dnnl_status_t status = dnnl_primitive_execute(primitive_.get(), stream_.get(),
                                                      static_cast<int>(list_.size()), list_.data());
  if (status != dnnl_success) throw std::runtime_error("oneDNN: " + info.kernel + " of '" + info.name + "' failed");
}

std::int64_t PrimitiveStep::scratchpad_bytes() const {
  return static_cast<std::int64_t>(scratchpad_desc_.get_size());
}

dnnl::memory f32_vector(const std::vector<float>& values) {
  dnnl::memory memory({{static_cast<std::int64_t>(values.size())}, dnnl::memory::data_type::f32, dnnl::memory::format_tag::x}, cpu_engine());
  std::memcpy(memory.get_data_handle(), values.data(), values.size() * sizeof(float));
  return memory;
}

dnnl::memory s32_scalar(std::int32_t value) {
  dnnl::memory memory({{1}, dnnl::memory::data_type::s32, dnnl::memory::format_tag::x}, cpu_engine());
  std::memcpy(memory.get_data_handle(), &value, sizeof value);
  return memory;
}

}  // namespace kerf::engine
