// Ops that turn shapes into values and values into shapes.
#include <cmath>

#include "workers/graph/shapes/call.h"

namespace kerf::graph::shapes {
namespace {

Result<void> shape_of(Call& call) {
  const std::int64_t rank = call.rank(0);
  const auto clip = [&](std::int64_t at) {
    if (at < 0) at += rank;
    return at < 0 ? 0 : at > rank ? rank : at;
  };
  const std::int64_t start = clip(call.node.integer("start", 0));
  const std::int64_t end = clip(call.node.integer("end", rank));
  auto elements = std::make_shared<Elements>();
  for (std::int64_t i = start; i < end; ++i) {
    elements->push_back(to_element(call.shape(0)[static_cast<std::size_t>(i)]));
  }
  const auto count = static_cast<std::int64_t>(elements->size());
  call.set(0, DType::kS64, {count}, std::move(elements));
  return {};
}

Result<void> size_of(Call& call) {
  const auto count = product(call.shape(0));
  if (!count) return call.fail("dimensions overflow");
  call.set(0, DType::kS64, {}, std::make_shared<Elements>(1, to_element(*count)));
  return {};
}

Result<void> constant(Call& call) {
  const auto found = call.node.attributes.find("value");
  const Tensor* tensor =
      found == call.node.attributes.end() ? nullptr : std::get_if<Tensor>(&found->second);
  if (tensor == nullptr) return call.fail("attribute value is missing");
  std::shared_ptr<Elements> elements;
  if (tensor->elements() <= kMaxFollowed && !is_float(tensor->dtype())) {
    elements = std::make_shared<Elements>();
    for (const std::int64_t value : tensor->to_integers()) {
      elements->push_back({static_cast<long double>(value), 0});
    }
  }
  call.set(0, tensor->dtype(), tensor->shape(), std::move(elements));
  return {};
}

Result<void> constant_of_shape(Call& call) {
  const Elements* target = call.elements(0);
  if (call.rank(0) != 1 || is_float(call.dtype(0)) || target == nullptr) {
    return call.fail("the shape must be a constant vector of integers or follow from shapes");
  }
  Shape out;
  for (const Element& element : *target) {
    const std::int64_t dim = to_dim(element);
    if (element.known() && dim < 0) return call.fail("the shape holds " + std::to_string(dim));
    out.push_back(dim);
  }
  DType dtype = DType::kF32;
  Element fill{0, 0};
  if (const auto found = call.node.attributes.find("value"); found != call.node.attributes.end()) {
    const Tensor* value = std::get_if<Tensor>(&found->second);
    if (value == nullptr || value->elements() != 1)
      return call.fail("value must be a tensor of one element");
    dtype = value->dtype();
    fill.value = is_float(dtype) ? static_cast<long double>(value->to_floats().front())
                                 : static_cast<long double>(value->to_integers().front());
  }
  std::shared_ptr<Elements> elements;
  if (const auto count = element_count(out); count && *count <= kMaxFollowed) {
    elements = std::make_shared<Elements>(static_cast<std::size_t>(*count), fill);
  }
  call.set(0, dtype, std::move(out), std::move(elements));
  return {};
}

Result<void> range(Call& call) {
  for (const std::size_t i : {0U, 1U, 2U}) {
    if (element_count(call.shape(i)) != 1)
      return call.fail("start, limit and delta must be one number each");
    KERF_TRY(call.want_same_dtype(0, i));
  }
  std::int64_t count = kUnknown;
  std::shared_ptr<Elements> elements;
  if (call.elements(0) != nullptr && call.elements(1) != nullptr && call.elements(2) != nullptr) {
    const Element& start = call.elements(0)->front();
    const Element& limit = call.elements(1)->front();
    const Element& delta = call.elements(2)->front();
    if (delta.known() && delta.value == 0) return call.fail("delta is 0");
    if (start.known() && limit.known() && delta.known()) {
      const long double steps = std::ceil((limit.value - start.value) / delta.value);
      if (!(steps < 1099511627776.0L)) return call.fail("dimensions overflow");
      count = steps > 0 ? static_cast<std::int64_t>(steps) : 0;
      if (count <= kMaxFollowed) {
        elements = std::make_shared<Elements>();
        for (std::int64_t i = 0; i < count; ++i) {
          elements->push_back({start.value + static_cast<long double>(i) * delta.value, 0});
        }
      }
    } else if (start == Element{0, 0} && delta == Element{1, 0}) {
      count = limit.symbol;
    }
  }
  call.set(0, call.dtype(0), {count}, std::move(elements));
  return {};
}

}  // namespace

void register_contents(Registry& registry) {
  registry["Shape"] = {shape_of, 1, 1, 1};
  registry["Size"] = {size_of, 1, 1, 1};
  registry["Constant"] = {constant, 0, 0, 1};
  registry["ConstantOfShape"] = {constant_of_shape, 1, 1, 1};
  registry["Range"] = {range, 3, 3, 1};
}

}  // namespace kerf::graph::shapes
