// Matrix products.
#include <algorithm>

#include "workers/graph/einsum.h"
#include "workers/graph/shapes/call.h"

namespace kerf::graph::shapes {
namespace {

Result<void> gemm(Call& call) {
  KERF_TRY(call.want_rank(0, 2, 2));
  KERF_TRY(call.want_rank(1, 2, 2));
  KERF_TRY(call.want_same_dtype(0, 1));
  const bool a_turned = call.node.integer("transA", 0) != 0;
  const bool b_turned = call.node.integer("transB", 0) != 0;
  const Shape& a = call.shape(0);
  const Shape& b = call.shape(1);
  if (!compatible(a[a_turned ? 0 : 1], b[b_turned ? 1 : 0])) {
    return call.fail("inner dimensions " + std::to_string(a[a_turned ? 0 : 1]) + " and " +
                     std::to_string(b[b_turned ? 1 : 0]) + " differ");
  }
  Shape out = {a[a_turned ? 1 : 0], b[b_turned ? 0 : 1]};
  if (call.has(2)) {
    KERF_TRY(call.want_same_dtype(0, 2));
    const auto sum = broadcast(call.shape(2), out);
    if (!sum || sum->size() != 2 || !compatible((*sum)[0], out[0]) ||
        !compatible((*sum)[1], out[1])) {
      return call.fail("C of shape " + to_string(call.shape(2)) + " doesn't broadcast to " +
                       to_string(out));
    }
  }
  call.set(0, call.dtype(0), std::move(out));
  return {};
}

Result<void> product_of(Call& call, std::size_t left, std::size_t right, DType result) {
  Shape a = call.shape(left);
  Shape b = call.shape(right);
  if (a.empty() || b.empty()) return call.fail("a factor is a scalar");
  const bool a_vector = a.size() == 1;
  const bool b_vector = b.size() == 1;
  if (a_vector) a.insert(a.begin(), 1);
  if (b_vector) b.push_back(1);
  const std::int64_t inner_a = a.back();
  const std::int64_t inner_b = b[b.size() - 2];
  if (!compatible(inner_a, inner_b)) {
    return call.fail("inner dimensions " + std::to_string(inner_a) + " and " +
                     std::to_string(inner_b) + " differ");
  }
  const auto outer = broadcast(Shape(a.begin(), a.end() - 2), Shape(b.begin(), b.end() - 2));
  if (!outer) return call.fail("the outer dimensions don't broadcast");
  Shape out = *outer;
  if (!a_vector) out.push_back(a[a.size() - 2]);
  if (!b_vector) out.push_back(b.back());
  call.set(0, result, std::move(out));
  return {};
}

Result<void> matmul(Call& call) {
  KERF_TRY(call.want_same_dtype(0, 1));
  return product_of(call, 0, 1, call.dtype(0));
}
Result<void> matmul_integer(Call& call) { return product_of(call, 0, 1, DType::kS32); }
Result<void> qlinear_matmul(Call& call) { return product_of(call, 0, 3, call.dtype(7)); }

Result<void> einsum(Call& call) {
  std::vector<std::size_t> ranks;
  for (std::size_t i = 0; i < call.in.size(); ++i) {
    if (!call.has(i)) return call.fail("input " + std::to_string(i) + " must be given");
    KERF_TRY(call.want_same_dtype(0, i));
    ranks.push_back(call.shape(i).size());
  }
  const std::string text = call.node.text("equation", "");
  const auto equation = parse_einsum(text, ranks);
  if (!equation) return call.fail("equation '" + text + "' doesn't fit the inputs");
  std::unordered_map<char, std::int64_t> extents;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    for (std::size_t k = 0; k < ranks[i]; ++k) {
      const char letter = equation->inputs[i][k];
      const auto joined =
          broadcast({extents.emplace(letter, 1).first->second}, {call.shape(i)[k]});
      if (!joined) return call.fail("axes of one letter differ in '" + text + "'");
      extents[letter] = joined->front();
    }
  }
  Shape out;
  for (const char letter : equation->output) out.push_back(extents[letter]);
  call.set(0, call.dtype(0), std::move(out));
  return {};
}

}  // namespace

void register_matrix(Registry& registry) {
  registry["Gemm"] = {gemm, 2, 3, 1};
  registry["MatMul"] = {matmul, 2, 2, 1};
  registry["MatMulInteger"] = {matmul_integer, 2, 4, 1};
  registry["Einsum"] = {einsum, 1, 16, 1};
  registry["QLinearMatMul"] = {qlinear_matmul, 8, 8, 1};
}

}  // namespace kerf::graph::shapes
