// RNN, GRU and LSTM.
#include "workers/graph/shapes/call.h"

namespace kerf::graph::shapes {
namespace {

Result<void> want_shape(const Call& call, std::size_t i, const Shape& wanted, const char* what) {
  if (!call.has(i)) return {};
  bool same = call.shape(i).size() == wanted.size();
  for (std::size_t d = 0; same && d < wanted.size(); ++d) {
    same = compatible(call.shape(i)[d], wanted[d]);
  }
  if (same) return {};
  return call.fail(std::string(what) + " has the shape " + to_string(call.shape(i)) +
                   ", expected " + to_string(wanted));
}

Result<void> recurrent(Call& call) {
  const std::string& op = call.node.op;
  const std::int64_t gates = op == "LSTM" ? 4 : op == "GRU" ? 3 : 1;
  for (std::size_t i = 0; i < 3; ++i) KERF_TRY(call.want_rank(i, 3, 3));
  KERF_TRY(call.want_same_dtype(0, 1));
  KERF_TRY(call.want_same_dtype(0, 2));
  if (!is_float(call.dtype(0))) return call.fail("input must be floating point");
  const std::string direction = call.node.text("direction", "forward");
  if (direction != "forward" && direction != "reverse" && direction != "bidirectional") {
    return call.fail("direction '" + direction + "' isn't one of forward, reverse, bidirectional");
  }
  const std::int64_t directions = direction == "bidirectional" ? 2 : 1;
  const std::int64_t hidden = call.shape(2)[2];
  const std::int64_t declared = call.node.integer("hidden_size", hidden);
  if (hidden < 0) return call.fail("the hidden size must be known");
  if (declared != hidden)
    return call.fail("hidden_size is " + std::to_string(declared) + ", R says " + std::to_string(hidden));
  if (hidden > (1LL << 30U)) return call.fail("dimensions overflow");
  const bool rows = call.node.integer("layout", 0) != 0;  // batch before sequence
  const std::int64_t sequence = call.shape(0)[rows ? 1 : 0];
  const std::int64_t batch = call.shape(0)[rows ? 0 : 1];
  const std::int64_t width = gates * hidden;
  KERF_TRY(want_shape(call, 1, {directions, width, call.shape(0)[2]}, "W"));
  KERF_TRY(want_shape(call, 2, {directions, width, hidden}, "R"));
  KERF_TRY(want_shape(call, 3, {directions, 2 * width}, "B"));
  KERF_TRY(want_shape(call, 4, {batch}, "sequence_lens"));
  const Shape state = rows ? Shape{batch, directions, hidden} : Shape{directions, batch, hidden};
  KERF_TRY(want_shape(call, 5, state, "initial_h"));
  KERF_TRY(want_shape(call, 6, state, "initial_c"));
  KERF_TRY(want_shape(call, 7, {directions, 3 * hidden}, "P"));
  call.set(0, call.dtype(0), rows ? Shape{batch, sequence, directions, hidden}
                                  : Shape{sequence, directions, batch, hidden});
  call.set(1, call.dtype(0), state);
  call.set(2, call.dtype(0), state);
  return {};
}

}  // namespace

void register_recurrent(Registry& registry) {
  registry["RNN"] = {recurrent, 3, 6, 2};
  registry["GRU"] = {recurrent, 3, 6, 2};
  registry["LSTM"] = {recurrent, 3, 8, 3};
}

}  // namespace kerf::graph::shapes
