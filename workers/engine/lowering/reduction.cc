// Reduce…, ArgMax and ArgMin.
#include "workers/engine/kernels/reduction.h"

#include <set>

#include "workers/engine/geometry.h"
#include "workers/engine/lowering/light.h"

namespace kerf::engine {

using graph::DType;
using graph::Node;
using graph::Shape;

namespace {

struct Kind {
  Fold fold = Fold::kSum;
  Finish finish = Finish::kNone;
  bool log_sum_exp = false;
};

std::optional<Kind> kind_of(const std::string& op) {
  static const std::map<std::string, Kind, std::less<>> kinds{
      {"ReduceSum", {}},
      {"ReduceMean", {Fold::kSum, Finish::kScale}},
      {"ReduceMax", {Fold::kMaximum}},
      {"ReduceMin", {Fold::kMinimum}},
      {"ReduceProd", {Fold::kProduct}},
      {"ReduceL1", {Fold::kSumOfAbsolutes}},
      {"ReduceL2", {Fold::kSumOfSquares, Finish::kSquareRoot}},
      {"ReduceSumSquare", {Fold::kSumOfSquares}},
      {"ReduceLogSum", {Fold::kSum, Finish::kLogarithm}},
      {"ReduceLogSumExp", {Fold::kMaximum, Finish::kNone, true}}};
  const auto found = kinds.find(op);
  if (found == kinds.end()) return std::nullopt;
  return found->second;
}

/// Neighbouring dimensions that are all reduced, or all kept, as one.
std::vector<std::pair<std::int64_t, bool>> merged(const Shape& shape, const std::set<std::int64_t>& axes) {
  std::vector<std::pair<std::int64_t, bool>> out;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == 1) continue;
    const bool reduced = axes.contains(static_cast<std::int64_t>(i));
    if (out.empty() || out.back().second != reduced) out.emplace_back(1, reduced);
    out.back().first *= shape[i];
  }
  return out;
}

/// One fold a run of reduced dimensions, the last one first; what lies between is scratch.
std::vector<Folding> foldings(std::vector<std::pair<std::int64_t, bool>> parts, Fold fold, int threads) {
  std::vector<Folding> out;
  std::int64_t inner = 1;
  for (std::size_t i = parts.size(); i-- > 0;) {
    if (!parts[i].second) {
      inner *= parts[i].first;
      continue;
    }
    Folding f{fold, 1, parts[i].first, inner, threads};
    for (std::size_t k = 0; k < i; ++k) f.outer *= parts[k].first;
    out.push_back(f);
    // Squares and absolutes are taken once.
    if (fold == Fold::kSumOfSquares || fold == Fold::kSumOfAbsolutes) fold = Fold::kSum;
  }
  // Nothing longer than 1 is reduced: each element is its own fold.
  if (out.empty()) out.push_back({fold, 1, 1, inner, threads});
  return out;
}

/// Runs the folds through two pieces of scratch.
template <class T>
void fold_in_turn(const std::vector<Folding>& folds, const T* x, T* y, std::byte* scratch) {
  T* halves[2] = {reinterpret_cast<T*>(scratch), reinterpret_cast<T*>(scratch)};
  if (folds.size() > 1) halves[1] += folds[0].outer * folds[0].inner;
  for (std::size_t i = 0; i < folds.size(); ++i) {
    T* to = i + 1 == folds.size() ? y : halves[i % 2];
    fold(folds[i], x, to);
    x = to;
  }
}

Result<bool> reduce(Values& values, const Node& node, const Kind& kind) {
  const graph::ValueInfo& info = values.info(node.inputs[0]);
  const Shape shape = info.shape;
  const DType dtype = info.dtype;
  const bool exact = kind.finish == Finish::kNone && !kind.log_sum_exp && (dtype == DType::kS32 || dtype == DType::kS64);
  if ((dtype != DType::kF32 && !exact) || graph::element_count(shape).value_or(0) == 0) return false;
  std::vector<std::int64_t> wanted = node.integers("axes");
  if (node.has_input(1)) {
    const auto list = constant_integers(values, node, 1);
    if (!list) return false;
    wanted = *list;
  }
  if (wanted.empty() && node.integer("noop_with_empty_axes", 0) != 0) return false;
  std::set<std::int64_t> axes;
  for (const std::int64_t axis : wanted) axes.insert(normalized_axis(axis, shape.size()));
  if (axes.contains(-1)) return false;
  if (wanted.empty()) {
    for (std::size_t i = 0; i < shape.size(); ++i) axes.insert(static_cast<std::int64_t>(i));
  }
  const auto parts = merged(shape, axes);
  const std::vector<Folding> folds = foldings(parts, kind.fold, values.threads());
  if (kind.log_sum_exp && folds.size() > 1) return false;
  KERF_ASSIGN(const Rep x, plain_input(values, node.inputs[0]));
  const SlotId y = make_output(values, node);
  const std::int64_t n = *graph::element_count(values.info(node.outputs[0]).shape);
  const auto factor = static_cast<float>(*graph::element_count(shape) / n);
  const std::int64_t size = static_cast<std::int64_t>(graph::element_size(dtype));
  // The second piece is smaller than the first.
  std::int64_t scratch = folds.size() > 1 ? 2 * folds[0].outer * folds[0].inner * size : 0;
  if (kind.log_sum_exp) scratch = n * size;
  values.emit(make_call("kerf:reduce", {x.slot}, {y},
                        [=, from = x.slot](Pointers p, std::byte* work) {
                          if (dtype == DType::kS32) return fold_in_turn(folds, at<const std::int32_t>(p, from), at<std::int32_t>(p, y), work);
                          if (dtype == DType::kS64) return fold_in_turn(folds, at<const std::int64_t>(p, from), at<std::int64_t>(p, y), work);
                          auto* to = at<float>(p, y);
                          fold_in_turn(folds, at<const float>(p, from), to, work);
                          if (kind.log_sum_exp) {
                            auto* sums = reinterpret_cast<float*>(work);
                            fold_exponentials(folds[0], at<const float>(p, from), to, sums);
                            add_logarithms(sums, to, static_cast<std::size_t>(n));
                          }
                          finish(kind.finish, factor, to, static_cast<std::size_t>(n));
                        },
                        scratch),
              node.name, node.op, std::string(graph::to_string(dtype)));
  return true;
}

Result<bool> extremum(Values& values, const Node& node) {
  const graph::ValueInfo& info = values.info(node.inputs[0]);
  const DType dtype = info.dtype;
  const std::int64_t axis = normalized_axis(node.integer("axis", 0), info.shape.size());
  if (axis < 0 || graph::element_count(info.shape).value_or(0) == 0) return false;
  if (dtype != DType::kF32 && dtype != DType::kS32 && dtype != DType::kS64 && dtype != DType::kU8 && dtype != DType::kBool) return false;
  const AxisSplit split = split_at(info.shape, static_cast<std::size_t>(axis));
  if (split.extent > (1LL << 31) - 1) return false;
  const Extremum what{split.outer, split.extent, split.inner, node.op == "ArgMax", node.integer("select_last_index", 0) != 0, values.threads()};
  KERF_ASSIGN(const Rep x, plain_input(values, node.inputs[0]));
  const SlotId y = make_output(values, node);
  values.emit(make_call("kerf:extremum", {x.slot}, {y},
                        [=, from = x.slot](Pointers p, std::byte*) {
                          auto* to = at<std::int64_t>(p, y);
                          if (dtype == DType::kF32) find_extremum(what, at<const float>(p, from), to);
                          else if (dtype == DType::kS32) find_extremum(what, at<const std::int32_t>(p, from), to);
                          else if (dtype == DType::kS64) find_extremum(what, at<const std::int64_t>(p, from), to);
                          else find_extremum(what, at<const std::uint8_t>(p, from), to);
                        }),
              node.name, node.op, std::string(graph::to_string(dtype)));
  return true;
}

}  // namespace

Result<bool> lower_reduction(Values& values, const Node& node) {
  if (node.op == "ArgMax" || node.op == "ArgMin") return extremum(values, node);
  const auto kind = kind_of(node.op);
  if (!kind) return false;
  return reduce(values, node, *kind);
}

}  // namespace kerf::engine
