// Reduce…, ArgMax and ArgMin.
#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "workers/engine/geometry.h"
#include "workers/engine/reference/kernels.h"
#include "workers/engine/reference/scalar.h"

namespace kerf::engine::reference {
namespace {

struct Plan {
  Shape kept;        ///< With reduced axes as 1.
  Shape result;      ///< As keepdims wants it.
  Shape to_strides;  ///< Of the output, 0 on reduced axes.
};

Plan plan_of(const Shape& shape, const std::set<std::int64_t>& axes, bool keep) {
  Plan plan;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const bool reduced = axes.contains(static_cast<std::int64_t>(i));
    plan.kept.push_back(reduced ? 1 : shape[i]);
    if (!reduced || keep) plan.result.push_back(plan.kept.back());
  }
  plan.to_strides = broadcast_strides(plan.kept, shape);
  return plan;
}

/// Integers and bool: sums in 64 bits, which wrap as they do in the type itself.
Outputs reduce_exactly(const Node& node, const Tensor& x, const Plan& plan, Tensor out) {
  const std::string& op = node.op;
  const bool known = dispatch(x.dtype(), [&]<class T>(T) {
    const auto from = x.as<T>();
    const auto to = out.mutable_as<T>();
    const bool is_bool = x.dtype() == DType::kBool;
    const T low = std::numeric_limits<T>::lowest();
    const T high = is_bool ? T{1} : std::numeric_limits<T>::max();
    std::fill(to.begin(), to.end(),
              op == "ReduceMax" ? low : op == "ReduceMin" ? high : op == "ReduceProd" ? T{1} : T{});
    const std::array<Shape, 2> strides{row_major_strides(x.shape()), plan.to_strides};
    walk(x.shape(), strides, [&](const auto& at) {
      const T v = from[static_cast<std::size_t>(at[0])];
      T& sum = to[static_cast<std::size_t>(at[1])];
      const auto wide = [](T value) { return static_cast<std::uint64_t>(value); };
      if (op == "ReduceMax") sum = std::max(sum, v);
      else if (op == "ReduceMin") sum = std::min(sum, v);
      else if (op == "ReduceProd") sum = static_cast<T>(wide(sum) * wide(v));
      else if (op == "ReduceSumSquare") sum = static_cast<T>(wide(sum) + wide(v) * wide(v));
      else if (op == "ReduceL1") sum = static_cast<T>(wide(sum) + (v < T{} ? 0 - wide(v) : wide(v)));
      else sum = static_cast<T>(wide(sum) + wide(v));
    });
  });
  if (!known) return bad(node, "not for this element type");
  return std::vector<Tensor>{std::move(out)};
}

Outputs reduce(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  std::vector<std::int64_t> wanted = node.integers("axes");
  if (given(inputs, 1)) wanted = inputs[1].to_integers();
  if (wanted.empty() && node.integer("noop_with_empty_axes", 0) != 0) return std::vector<Tensor>{x};
  std::set<std::int64_t> axes;
  for (const std::int64_t axis : wanted) {
    const std::int64_t at = normalized_axis(axis, x.rank());
    if (at < 0) return bad(node, "axis " + std::to_string(axis) + " outside the input");
    axes.insert(at);
  }
  if (wanted.empty()) {
    for (std::size_t i = 0; i < x.rank(); ++i) axes.insert(static_cast<std::int64_t>(i));
  }
  const Plan plan = plan_of(x.shape(), axes, node.integer("keepdims", 1) != 0);
  Tensor out(x.dtype(), plan.result);
  const std::string& op = node.op;
  if (x.dtype() != DType::kF32 && x.dtype() != DType::kF64 && op != "ReduceMean" &&
      op != "ReduceL2" && !op.starts_with("ReduceLog")) {
    return reduce_exactly(node, x, plan, std::move(out));
  }
  const bool by_max = op == "ReduceMax" || op == "ReduceLogSumExp";
  const bool known = dispatch(x.dtype(), [&]<class T>(T) {
    const auto from = x.as<T>();
    const auto to = out.mutable_as<T>();
    const double start = op == "ReduceProd" ? 1.0 : by_max ? -INFINITY : op == "ReduceMin" ? INFINITY : 0.0;
    std::vector<double> high(to.size(), start);
    const std::array<Shape, 2> strides{row_major_strides(x.shape()), plan.to_strides};
    const auto each = [&](auto&& f) {
      walk(x.shape(), strides, [&](const auto& at) {
        f(static_cast<double>(from[static_cast<std::size_t>(at[0])]), static_cast<std::size_t>(at[1]));
      });
    };
    each([&](double v, std::size_t at) {
      double& h = high[at];
      if (by_max) h = std::max(h, v);
      else if (op == "ReduceMin") h = std::min(h, v);
      else if (op == "ReduceProd") h *= v;
      else if (op == "ReduceL1") h += std::fabs(v);
      else if (op == "ReduceL2" || op == "ReduceSumSquare") h += v * v;
      else h += v;
    });
    if (op == "ReduceLogSumExp") {
      std::vector<double> sums(to.size(), 0.0);
      each([&](double v, std::size_t at) { sums[at] += std::exp(v - high[at]); });
      for (std::size_t i = 0; i < sums.size(); ++i) high[i] += std::log(sums[i]);
    }
    const double count = to.empty() ? 1.0 : static_cast<double>(from.size()) / static_cast<double>(to.size());
    for (std::size_t i = 0; i < to.size(); ++i) {
      double v = high[i];
      if (op == "ReduceMean") v /= count;
      if (op == "ReduceL2") v = std::sqrt(v);
      if (op == "ReduceLogSum") v = std::log(v);
      to[i] = saturating_cast<T>(v);
    }
  });
  if (!known) return bad(node, "not for this element type");
  return std::vector<Tensor>{std::move(out)};
}

Outputs arg_reduce(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  const std::int64_t axis = normalized_axis(node.integer("axis", 0), x.rank());
  if (axis < 0) return bad(node, "axis outside the input");
  const bool last = node.integer("select_last_index", 0) != 0;
  const Plan plan = plan_of(x.shape(), {axis}, node.integer("keepdims", 1) != 0);
  Tensor out(DType::kS64, plan.result);
  const auto to = out.mutable_as<std::int64_t>();
  std::vector<bool> seen(to.size(), false);
  const std::int64_t inner = row_major_strides(x.shape())[static_cast<std::size_t>(axis)];
  const std::array<Shape, 2> strides{row_major_strides(x.shape()), plan.to_strides};
  const bool known = dispatch(x.dtype(), [&]<class T>(T) {
    const auto values = x.as<T>();
    std::vector<T> best(to.size());
    walk(x.shape(), strides, [&](const auto& at) {
      const auto i = static_cast<std::size_t>(at[1]);
      const T v = values[static_cast<std::size_t>(at[0])];
      const bool better = node.op == "ArgMax" ? v > best[i] : v < best[i];
      if (!seen[i] || better || (last && v == best[i])) {
        seen[i] = true;
        best[i] = v;
        to[i] = at[0] / inner % x.dim(static_cast<std::size_t>(axis));
      }
    });
  });
  if (!known) return bad(node, "not for this element type");
  return std::vector<Tensor>{std::move(out)};
}

}  // namespace

void add_reduction(Registry& registry) {
  for (const char* op : {"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd",
                         "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum",
                         "ReduceLogSumExp"}) {
    registry[op] = reduce;
  }
  registry["ArgMax"] = arg_reduce;
  registry["ArgMin"] = arg_reduce;
}

}  // namespace kerf::engine::reference
