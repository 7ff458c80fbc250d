// Ops that grow or shrink dimensions: Pad, Expand, Tile, Resize.
#include <algorithm>
#include <cmath>

#include "workers/graph/shapes/call.h"

namespace kerf::graph::shapes {
namespace {

constexpr std::int64_t kMaxDim = 1LL << 40U;

Result<void> pad(Call& call) {
  const std::string mode = call.node.text("mode", "constant");
  if (mode != "constant" && mode != "reflect" && mode != "edge" && mode != "wrap") {
    return call.fail("mode '" + mode + "' isn't one of constant, reflect, edge, wrap");
  }
  KERF_ASSIGN(const std::vector<std::int64_t> pads, call.integers(1, "pads"));
  Shape out = call.shape(0);
  if (pads.size() != 2 * out.size()) {
    return call.fail("pads has " + std::to_string(pads.size()) + " values, expected " +
                     std::to_string(2 * out.size()));
  }
  if (call.has(2) && element_count(call.shape(2)) != 1)
    return call.fail("the value must be one number");
  KERF_TRY(call.want_same_dtype(0, 2));
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::int64_t before = pads[i];
    const std::int64_t after = pads[i + out.size()];
    if (std::min(before, after) < -kMaxDim || std::max(before, after) > kMaxDim) {
      return call.fail("pads overflow");
    }
    if (out[i] < 0) {
      if (before != 0 || after != 0) out[i] = kUnknown;
      continue;
    }
    out[i] += before + after;
    if (out[i] < 0) return call.fail("pads take away more than axis " + std::to_string(i) + " has");
  }
  call.set(0, call.dtype(0), std::move(out));
  return {};
}

/// Contents for an op whose output repeats one followed element.
std::shared_ptr<const Elements> repeated(const Call& call, const Shape& out) {
  const auto count = element_count(out);
  if (call.elements(0) == nullptr || !count || *count > kMaxFollowed) return nullptr;
  if (call.elements(0)->size() == static_cast<std::size_t>(*count)) return call.in[0]->elements;
  if (call.elements(0)->size() != 1) return nullptr;
  return std::make_shared<Elements>(static_cast<std::size_t>(*count), call.elements(0)->front());
}

Result<void> expand(Call& call) {
  const Elements* target = call.elements(1);
  if (call.rank(1) != 1 || is_float(call.dtype(1))) {
    return call.fail("the target shape must be a vector of integers");
  }
  if (target == nullptr) {
    return call.fail("target shape '" + call.node.inputs[1] +
                     "' must be a constant or follow from shapes");
  }
  Shape wanted;
  for (const Element& element : *target) {
    const std::int64_t dim = to_dim(element);
    if (element.known() && (dim < 0 || dim > kMaxDim)) {
      return call.fail("the target shape holds " + std::to_string(dim));
    }
    wanted.push_back(dim);
  }
  const auto out = broadcast(call.shape(0), wanted);
  if (!out)
    return call.fail("cannot expand " + to_string(call.shape(0)) + " to " + to_string(wanted));
  call.set(0, call.dtype(0), *out, repeated(call, *out));
  return {};
}

Result<void> tile(Call& call) {
  KERF_ASSIGN(const std::vector<std::int64_t> repeats, call.integers(1, "repeats"));
  Shape out = call.shape(0);
  if (repeats.size() != out.size()) {
    return call.fail("repeats has " + std::to_string(repeats.size()) + " values, expected " +
                     std::to_string(out.size()));
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (repeats[i] < 0 || repeats[i] > kMaxDim) return call.fail("repeats must not be negative");
    if (repeats[i] == 1) continue;
    if (out[i] > 0 && repeats[i] > kMaxDim / out[i]) return call.fail("dimensions overflow");
    out[i] = out[i] < 0 ? kUnknown : out[i] * repeats[i];
  }
  auto elements = repeated(call, out);
  call.set(0, call.dtype(0), std::move(out), std::move(elements));
  return {};
}

Result<void> resize(Call& call) {
  const Shape& x = call.shape(0);
  const auto vector_of = [&](std::size_t i) { return call.has(i) && call.shape(i) != Shape{0}; };
  const bool by_sizes = vector_of(3);
  if (by_sizes == vector_of(2)) return call.fail("needs either scales or sizes");
  const std::size_t which = by_sizes ? 3 : 2;
  const char* what = by_sizes ? "sizes" : "scales";
  const Elements* values = call.elements(which);
  if (values == nullptr) {
    return call.fail(std::string(what) + " must be a constant or follow from shapes");
  }
  if (values->size() != x.size()) {
    return call.fail(std::string(what) + " has " + std::to_string(values->size()) +
                     " values, expected " + std::to_string(x.size()));
  }
  Shape out;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const Element& value = (*values)[i];
    if (by_sizes) {
      if (value.known() && (value.value < 0 || value.value > kMaxDim)) {
        return call.fail("sizes holds a value that is negative or too large");
      }
      out.push_back(to_dim(value));
    } else if (!value.known()) {
      out.push_back(kUnknown);
    } else if (!(value.value > 0) || value.value > kMaxDim) {
      return call.fail("scales must be positive");
    } else if (value.value == 1) {
      out.push_back(x[i]);
    } else {
      const long double size = std::floor(static_cast<long double>(x[i]) * value.value);
      if (size > kMaxDim) return call.fail("dimensions overflow");
      out.push_back(x[i] < 0 ? kUnknown : static_cast<std::int64_t>(size));
    }
  }
  call.set(0, call.dtype(0), std::move(out));
  return {};
}

}  // namespace

void register_resampling(Registry& registry) {
  registry["Pad"] = {pad, 2, 3, 1};
  registry["Expand"] = {expand, 2, 2, 1};
  registry["Tile"] = {tile, 2, 2, 1};
  registry["Resize"] = {resize, 1, 4, 1};
}

}  // namespace kerf::graph::shapes
