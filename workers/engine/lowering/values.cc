#include "workers/engine/lowering/values.h"

#include <cstring>
#include <stdexcept>

#include "workers/engine/geometry.h"
#include "workers/engine/kernels/copy.h"
#include "workers/engine/kernels/dynamic.h"
#include "workers/engine/kernels/interleave.h"
#include "workers/engine/kernels/step.h"

namespace kerf::engine {

using graph::DType;
using graph::Shape;
using graph::Tensor;

bool layouts_coincide(const Shape& dims) {
  if (dims.size() < 3 || dims[1] == 1) return true;
  for (std::size_t i = 2; i < dims.size(); ++i) {
    if (dims[i] != 1) return false;
  }
  return true;
}

std::vector<std::size_t> memory_order(std::size_t rank, Layout layout) {
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < rank; ++i) {
    if (layout == Layout::kPlain || rank < 3 || i != 1) order.push_back(i);
  }
  if (layout == Layout::kChannelsLast && rank >= 3) order.push_back(1);
  return order;
}

Shape layout_strides(const Shape& dims, Layout layout) {
  Shape strides(dims.size(), 1);
  std::int64_t step = 1;
  const std::vector<std::size_t> order = memory_order(dims.size(), layout);
  for (std::size_t i = order.size(); i-- > 0;) {
    strides[order[i]] = step;
    step *= dims[order[i]];
  }
  return strides;
}

std::string executes_as(const Numeric& numeric) { return std::string(graph::to_string(numeric.dtype)); }

SlotId Values::new_slot(DType dtype, const Shape& dims, Layout layout) {
  const auto count = graph::element_count(dims);
  if (!count) throw std::logic_error("a slot of shape " + graph::to_string(dims));
  Slot slot;
  slot.dtype = dtype;
  slot.dims = dims;
  slot.layout = layout;
  slot.bytes = *count * static_cast<std::int64_t>(graph::element_size(dtype));
  plan_.slots.push_back(std::move(slot));
  return static_cast<SlotId>(plan_.slots.size() - 1);
}

SlotId Values::alias(SlotId slot, const Shape& dims, Layout layout) {
  const SlotId made = new_slot(plan_.slots[static_cast<std::size_t>(slot)].dtype, dims, layout);
  plan_.slots[static_cast<std::size_t>(made)].same_as = slot;
  return made;
}

SlotId Values::constant_slot(const Tensor& tensor) {
  const SlotId slot = new_slot(tensor.dtype(), tensor.shape(), Layout::kPlain);
  plan_.constants.push_back(tensor);
  plan_.slots[static_cast<std::size_t>(slot)].constant = plan_.constants.back().raw();
  return slot;
}

bool Values::known(const std::string& value) const {
  return reps_.contains(value) || dynamic_.contains(value) || graph_.constant(value) != nullptr;
}

Result<Rep> Values::first(const std::string& value) {
  if (const auto found = reps_.find(value); found != reps_.end()) return found->second.front();
  if (const DynamicRep* found = dynamic(value)) {
    Rep real = found->rep;
    real.numeric = Numeric{};
    real.slot = new_slot(DType::kF32, dims(found->rep), real.layout);
    DynamicDequantize how{found->rep.slot, found->scale, found->zero_s32, real.slot, *graph::element_count(dims(real)), threads_};
    emit(make_dynamic_dequantize(how), value, "dequantize", executes_as(real.numeric));
    set(value, real);
    return real;
  }
  const Tensor* constant = graph_.constant(value);
  if (constant == nullptr) return Error{ErrorCode::kInternal, "value '" + value + "' isn't there yet"};
  Rep rep;
  rep.slot = constant_slot(*constant);
  rep.numeric.dtype = constant->dtype();
  set(value, rep);
  return rep;
}

const DynamicRep* Values::dynamic(const std::string& value) const {
  const auto found = dynamic_.find(value);
  return found == dynamic_.end() ? nullptr : &found->second;
}

const Rep* Values::quantized(const std::string& value) const {
  for (const Rep& rep : all(value)) {
    if (rep.numeric.dtype == DType::kU8 || rep.numeric.dtype == DType::kS8) return &rep;
  }
  return nullptr;
}

const std::vector<Rep>& Values::all(const std::string& value) const {
  static const std::vector<Rep> none;
  const auto found = reps_.find(value);
  return found == reps_.end() ? none : found->second;
}

const graph::ValueInfo& Values::info(const std::string& value) const {
  const graph::ValueInfo* info = graph_.value(value);
  if (info == nullptr) {
    if (const Tensor* constant = graph_.constant(value)) {
      return constant_infos_.try_emplace(value, graph::ValueInfo{value, constant->dtype(), constant->shape()}).first->second;
    }
  }
  if (info == nullptr) throw std::logic_error("value '" + value + "' has no type");
  return *info;
}

Step& Values::emit(std::unique_ptr<Step> step, const std::string& name, const std::string& op, const std::string& executes) {
  step->info.name = name;
  step->info.op = op;
  step->info.executes_as = executes;
  plan_.steps.push_back(std::move(step));
  return *plan_.steps.back();
}

Rep Values::in_layout(const std::string& value, const Rep& rep, Layout layout, bool keep) {
  const Shape shape = dims(rep);
  if (rep.folded.empty() && (rep.layout == layout || layouts_coincide(shape))) {
    if (rep.layout == layout) return rep;
    Rep out = rep;
    out.layout = layout;
    out.slot = alias(rep.slot, shape, layout);
    return out;
  }
  for (const Rep& other : all(value)) {
    if (keep && other.layout == layout && other.folded.empty() && other.numeric == rep.numeric) return other;
  }
  const Shape& walked = rep.folded.empty() ? shape : rep.folded;
  const Layout from_layout = rep.folded.empty() ? rep.layout : Layout::kChannelsLast;
  Rep out = rep;
  out.folded.clear();
  out.layout = layout;
  out.slot = new_slot(rep.numeric.dtype, shape, layout);
  if (layout == Layout::kChannelsLast && round_into_channels_last(value, rep, out.slot)) {
    if (keep) set(value, out);
    return out;
  }
  StridedCopy copy;
  const Shape from = layout_strides(walked, from_layout);
  const Shape to = layout_strides(walked, layout);
  for (const std::size_t axis : memory_order(walked.size(), layout)) {
    copy.dims.push_back(walked[axis]);
    copy.from_strides.push_back(from[axis]);
    copy.to_strides.push_back(to[axis]);
  }
  copy.element_size = graph::element_size(rep.numeric.dtype);
  const std::int64_t elements = *graph::element_count(shape);
  const bool constant = plan_.slots[static_cast<std::size_t>(plan_.root(rep.slot))].constant != nullptr;
  auto step = make_copy({{rep.slot, copy}}, out.slot, elements, {}, threads_);
  if (constant) {
    // Done once, now.
    Tensor tensor(rep.numeric.dtype, shape);
    std::vector<std::byte*> pointers(plan_.slots.size(), nullptr);
    pointers[static_cast<std::size_t>(rep.slot)] =
        const_cast<std::byte*>(plan_.slots[static_cast<std::size_t>(plan_.root(rep.slot))].constant);
    pointers[static_cast<std::size_t>(out.slot)] = tensor.mutable_raw();
    step->run(pointers.data());
    plan_.constants.push_back(tensor);
    plan_.slots[static_cast<std::size_t>(out.slot)].constant = plan_.constants.back().raw();
  } else {
    emit(std::move(step), value, "reorder", executes_as(rep.numeric));
  }
  if (keep) set(value, out);
  return out;
}

Rep Values::converted(const std::string& value, const Rep& from, const Numeric& numeric, bool keep) {
  Rep out = from;
  out.numeric = numeric;
  out.slot = new_slot(numeric.dtype, dims(from), from.layout);
  const std::int64_t elements = *graph::element_count(dims(from));
  Pointwise pointwise;
  pointwise.dims = {elements};
  pointwise.operands = {{from.slot, from.numeric, {1}}};
  pointwise.output = out.slot;
  pointwise.output_numeric = numeric;
  pointwise.threads = threads_;
  const auto is_byte = [](DType dtype) { return graph::element_size(dtype) == 1; };
  const bool constant = plan_.slots[static_cast<std::size_t>(plan_.root(from.slot))].constant != nullptr;
  if (constant) {
    Tensor tensor(numeric.dtype, dims(from));
    std::vector<std::byte*> pointers(plan_.slots.size(), nullptr);
    pointers[static_cast<std::size_t>(from.slot)] =
        const_cast<std::byte*>(plan_.slots[static_cast<std::size_t>(plan_.root(from.slot))].constant);
    pointers[static_cast<std::size_t>(out.slot)] = tensor.mutable_raw();
    make_pointwise(pointwise)->run(pointers.data());
    plan_.constants.push_back(tensor);
    plan_.slots[static_cast<std::size_t>(out.slot)].constant = plan_.constants.back().raw();
  } else if (is_byte(from.numeric.dtype) && is_byte(numeric.dtype)) {
    std::vector<std::uint8_t> bytes(256);
    for (std::size_t i = 0; i < 256; ++i) bytes[i] = static_cast<std::uint8_t>(i);
    Pointwise table = pointwise;
    table.dims = {256};
    table.operands[0].slot = 0;
    table.output = 1;
    std::vector<std::uint8_t> results(256);
    std::byte* pointers[2] = {reinterpret_cast<std::byte*>(bytes.data()), reinterpret_cast<std::byte*>(results.data())};
    make_pointwise(table)->run(pointers);
    emit(make_lookup(from.slot, out.slot, elements, std::move(results), threads_), value, "requantize", executes_as(numeric));
  } else {
    const char* op = is_byte(numeric.dtype) ? "quantize" : is_byte(from.numeric.dtype) ? "dequantize" : "convert";
    Step& step = emit(make_pointwise(std::move(pointwise)), value, op, executes_as(numeric));
    if (is_byte(numeric.dtype) && from.numeric.dtype == DType::kF32 && from.layout == Layout::kPlain && from.folded.empty()) {
      rounded_from_[out.slot] = {from.slot, numeric};
      step.droppable = true;
    }
  }
  if (keep) set(value, out);
  return out;
}

bool Values::round_into_channels_last(const std::string& value, const Rep& rep, SlotId to) {
  const auto found = rounded_from_.find(rep.slot);
  const Shape& shape = dims(rep);
  if (found == rounded_from_.end() || shape.size() < 3 || shape[1] < 2 || shape[1] > 4 || !rep.folded.empty()) return false;
  // The numbers with which it was rounded; the graph may by now speak of the integers themselves.
  const Numeric numeric = found->second.second;
  Images images{shape[0], shape[1], 1, threads_};
  for (std::size_t i = 2; i < shape.size(); ++i) images.pixels *= shape[i];
  const auto made = [&]<class T>(T) {
    return make_call("kerf:quantize_pixels", {found->second.first}, {to}, [=, from = found->second.first](Pointers pointers, std::byte*) {
      quantize_images(images, at<const float>(pointers, from), numeric.scale, static_cast<float>(numeric.zero), at<T>(pointers, to));
    });
  };
  emit(numeric.dtype == DType::kU8 ? made(std::uint8_t{}) : made(std::int8_t{}), value, "quantize", executes_as(numeric));
  return true;
}

Result<Rep> Values::as(const std::string& value, DType dtype, std::optional<Layout> layout) {
  KERF_ASSIGN(Rep best, first(value));
  Numeric wanted;
  wanted.dtype = dtype;
  // A form of the right type, best in the right layout already.
  const Rep* same = nullptr;
  for (const Rep& rep : all(value)) {
    if (!(rep.numeric == wanted)) continue;
    if (same == nullptr || (layout && rep.folded.empty() && rep.layout == *layout)) same = &rep;
  }
  if (same != nullptr) {
    best = *same;
  } else {
    const auto number = [](DType t) { return t == DType::kF32 || t == DType::kBF16 || t == DType::kU8 || t == DType::kS8; };
    if (!number(best.numeric.dtype) || !number(dtype)) {
      return Error{ErrorCode::kInternal, "value '" + value + "' of type " + std::string(graph::to_string(best.numeric.dtype)) + " read as " + std::string(graph::to_string(dtype))};
    }
    // The more exact form, where there are several.
    for (const Rep& rep : all(value)) {
      if (rep.numeric.dtype == DType::kF32) best = rep;
    }
    if (best.numeric.dtype != DType::kF32 || dtype == DType::kBF16) {
      // Bytes are moved rather than floats.
      if (layout && graph::element_size(best.numeric.dtype) < graph::element_size(dtype)) best = in_layout(value, best, *layout);
      best = converted(value, best, wanted, true);
    }
  }
  if (layout) best = in_layout(value, best, *layout);
  return best;
}

Result<Rep> Values::rounded_to(const std::string& value, const Numeric& numeric) {
  KERF_ASSIGN(Rep best, first(value));
  for (const Rep& rep : all(value)) {
    if (rep.numeric == numeric) return rep;
    if (rep.numeric.dtype == DType::kF32) best = rep;
  }
  return converted(value, best, numeric, false);
}

}  // namespace kerf::engine
