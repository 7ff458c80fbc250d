// Reduce*, ArgMax, ArgMin, TopK.
#include "workers/graph/shapes/call.h"

#include <algorithm>

namespace kerf::graph::shapes {
namespace {

/// A reduction of followed contents to one element, for shape arithmetic.
std::shared_ptr<const Elements> reduce_all(const Call& call, bool whole) {
  const Elements* from = call.elements(0);
  const std::string& op = call.node.op;
  if (from == nullptr || from->empty() || !whole) return nullptr;
  if (from->size() == 1 && op.size() > 6 && op != "ReduceSumSquare" && !op.starts_with("ReduceL")) {
    return call.in[0]->elements;
  }
  Element sum{op == "ReduceProd" ? 1.0L : 0.0L, 0};
  if (op == "ReduceMax" || op == "ReduceMin") sum = from->front();
  for (const Element& e : *from) {
    if (op == "ReduceProd" && e.known() && e.value == 1) continue;
    if (op == "ReduceProd" && sum == Element{1, 0}) {
      sum = e;
      continue;
    }
    if (!e.known() || !sum.known()) return std::make_shared<Elements>(1, Element{0, kUnknown});
    if (op == "ReduceProd")
      sum.value *= e.value;
    else if (op == "ReduceSum")
      sum.value += e.value;
    else if (op == "ReduceMax")
      sum.value = std::max(sum.value, e.value);
    else if (op == "ReduceMin")
      sum.value = std::min(sum.value, e.value);
    else
      return nullptr;
  }
  return std::make_shared<Elements>(1, sum);
}

Result<void> reduce(Call& call) {
  const bool compares = call.node.op == "ReduceMax" || call.node.op == "ReduceMin";
  if (call.dtype(0) == DType::kBool && !compares)
    return call.fail("input must be numbers, not bool");
  std::vector<std::int64_t> axes;
  if (call.has(1)) {
    KERF_ASSIGN(axes, call.integers(1, "axes"));
  }
  const bool keep = call.node.integer("keepdims", 1) != 0;
  const std::int64_t rank = call.rank(0);
  if (axes.empty() && call.node.integer("noop_with_empty_axes", 0) != 0) {
    call.set(0, call.dtype(0), call.shape(0));
    return {};
  }
  std::vector<bool> gone(static_cast<std::size_t>(rank), axes.empty());
  for (const std::int64_t raw : axes) {
    KERF_ASSIGN(const std::int64_t axis, call.axis(raw, rank));
    gone[static_cast<std::size_t>(axis)] = true;
  }
  Shape out;
  for (std::size_t i = 0; i < gone.size(); ++i) {
    if (!gone[i])
      out.push_back(call.shape(0)[i]);
    else if (keep)
      out.push_back(1);
  }
  const bool whole = std::all_of(gone.begin(), gone.end(), [](bool b) { return b; });
  call.set(0, call.dtype(0), std::move(out), reduce_all(call, whole));
  return {};
}

Result<void> arg_reduce(Call& call) {
  KERF_ASSIGN(const std::int64_t axis, call.axis(call.node.integer("axis", 0), call.rank(0)));
  Shape out = call.shape(0);
  if (call.node.integer("keepdims", 1) != 0)
    out[static_cast<std::size_t>(axis)] = 1;
  else
    out.erase(out.begin() + axis);
  call.set(0, DType::kS64, std::move(out));
  return {};
}

Result<void> top_k(Call& call) {
  KERF_ASSIGN(const std::int64_t axis, call.axis(call.node.integer("axis", -1), call.rank(0)));
  Shape out = call.shape(0);
  std::int64_t& dim = out[static_cast<std::size_t>(axis)];
  const Elements* k = call.elements(1);
  if (element_count(call.shape(1)) != 1) return call.fail("K must be one number");
  const std::int64_t wanted = k != nullptr ? to_dim(k->front()) : kUnknown;
  if (k != nullptr && k->front().known() && (wanted < 0 || (dim >= 0 && wanted > dim))) {
    return call.fail("K = " + std::to_string(wanted) + " is not within 0 and " +
                     std::to_string(dim));
  }
  dim = wanted;
  call.set(1, DType::kS64, out);
  call.set(0, call.dtype(0), std::move(out));
  return {};
}

}  // namespace

void register_reduction(Registry& registry) {
  for (const char* op : {"ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax",
                         "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"}) {
    registry[op] = {reduce, 1, 2, 1};
  }
  registry["ArgMax"] = {arg_reduce, 1, 1, 1};
  registry["ArgMin"] = {arg_reduce, 1, 1, 1};
  registry["TopK"] = {top_k, 2, 2, 2};
}

}  // namespace kerf::graph::shapes
