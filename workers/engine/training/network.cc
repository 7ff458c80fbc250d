#include "workers/engine/training/network.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "workers/engine/geometry.h"

namespace kerf::engine::training {

using graph::Node;
using graph::Shape;
using graph::Tensor;

Floats::Floats(std::size_t count) {
  const std::size_t bytes = (count * sizeof(float) + 63) / 64 * 64 + 64;
  auto* memory = static_cast<float*>(std::aligned_alloc(64, bytes));
  if (memory == nullptr) throw std::bad_alloc();
  std::memset(memory, 0, bytes);
  data_.reset(memory);
}

Shape Value::strides() const {
  if (layout == Layout::kPlain || dims.size() < 3) return row_major_strides(dims);
  Shape order{dims[0]};
  order.insert(order.end(), dims.begin() + 2, dims.end());
  order.push_back(dims[1]);
  const Shape in_memory = row_major_strides(order);
  Shape out{in_memory[0], in_memory.back()};
  out.insert(out.end(), in_memory.begin() + 1, in_memory.end() - 1);
  return out;
}

Value* Network::make(Shape dims, Layout layout, bool wants_gradient) {
  auto value = std::make_unique<Value>();
  value->count = static_cast<std::size_t>(graph::element_count(dims).value_or(0));
  value->layout = dims.size() < 3 ? Layout::kPlain : layout;
  value->dims = std::move(dims);
  value->wants_gradient = wants_gradient;
  values_.push_back(std::move(value));
  return values_.back().get();
}

Value* Network::find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

Result<Value*> Network::value(const Node& reader, std::size_t input) {
  if (!reader.has_input(input)) return no_gradient(reader, "input " + std::to_string(input) + " is missing");
  const std::string& name = reader.inputs[input];
  if (Value* known = find(name)) return known;
  const Tensor* constant = graph_.constant(name);
  if (constant == nullptr || constant->dtype() != graph::DType::kF32) {
    return no_gradient(reader, "it reads '" + name + "', which isn't f32");
  }
  Value* value = make(constant->shape(), Layout::kPlain, false);
  value->data_memory = Floats(value->count);
  value->data = value->data_memory.get();
  const auto from = constant->as<float>();
  std::copy(from.begin(), from.end(), value->data);
  set(name, value);
  return value;
}

Value* Network::in_layout(Value* value, Layout layout) {
  if (value->layout == layout || value->dims.size() < 3) return value;
  Value*& converted = converted_[{value, layout}];
  if (converted == nullptr) {
    converted = make(value->dims, layout, value->wants_gradient);
    add(make_relayout(value, converted));
  }
  return converted;
}

Result<Value*> Network::value(const Node& reader, std::size_t input, Layout layout) {
  KERF_ASSIGN(Value * found, value(reader, input));
  return in_layout(found, layout);
}

Result<Value*> Network::parameter(const Node& reader, std::size_t input) {
  if (reader.has_input(input) && graph_.constant(reader.inputs[input]) == nullptr) {
    return no_gradient(reader, "input " + std::to_string(input) + " isn't a constant");
  }
  KERF_ASSIGN(Value * found, value(reader, input));
  if (!found->wants_gradient) {
    found->wants_gradient = true;
    learnt_.push_back({reader.inputs[input], reader.name, input, found});
  }
  return found;
}

void Network::finish(const std::vector<Value*>& outputs) {
  std::map<const Value*, int> readers;
  for (const auto& op : ops_) {
    for (Sink* sink : op->sinks()) {
      if (sink->value != nullptr) ++readers[sink->value];
    }
  }
  const auto is_output = [&](const Value* value) {
    return std::find(outputs.begin(), outputs.end(), value) != outputs.end();
  };
  // Backward goes from the last op to the first: who comes first there writes, the others add.
  std::map<const Value*, bool> written;
  for (const Value* output : outputs) written[output] = true;
  for (auto op = ops_.rbegin(); op != ops_.rend(); ++op) {
    Sink* shared = (*op)->in_place();
    if (shared != nullptr && shared->wanted() && readers[shared->value] == 1 && !is_output(shared->value) &&
        (*op)->output()->count == shared->value->count) {
      shared->value->gradient_shared_with = (*op)->output();
    }
    for (Sink* sink : (*op)->sinks()) {
      if (!sink->wanted()) continue;
      bool& before = written[sink->value];
      sink->accumulate = before;
      before = true;
    }
  }
  for (const auto& value : values_) {
    if (value->data == nullptr) {
      value->data_memory = Floats(value->count);
      value->data = value->data_memory.get();
    }
    const bool needs = value->wants_gradient || is_output(value.get());
    if (needs && value->gradient_shared_with == nullptr) {
      value->gradient_memory = Floats(value->count);
      value->gradient = value->gradient_memory.get();
    }
  }
  for (const auto& value : values_) {
    const Value* root = value.get();
    while (root->gradient_shared_with != nullptr) root = root->gradient_shared_with;
    value->gradient = root->gradient;
  }
  for (const auto& op : ops_) op->bind();
}

Error no_gradient(const Node& node, const std::string& why) {
  return unimplemented("node " + node.label() + " can't be trained" + (why.empty() ? "" : ": " + why));
}

}  // namespace kerf::engine::training
