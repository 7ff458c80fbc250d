// Comparisons, logic, Where, and arithmetic and functions of integers.
#include "workers/engine/geometry.h"
#include "workers/engine/kernels/broadcast.h"
#include "workers/engine/kernels/logic.h"
#include "workers/engine/lowering/light.h"

namespace kerf::engine {

using graph::DType;
using graph::Node;
using graph::Shape;

namespace {

std::optional<PairOp> pair_op(const Node& node) {
  static const std::map<std::string, PairOp, std::less<>> ops{
      {"Equal", PairOp::kEqual},       {"Less", PairOp::kLess},         {"LessOrEqual", PairOp::kLessOrEqual},
      {"Greater", PairOp::kGreater},   {"GreaterOrEqual", PairOp::kGreaterOrEqual},
      {"And", PairOp::kAnd},           {"Or", PairOp::kOr},             {"Xor", PairOp::kXor},
      {"Add", PairOp::kAdd},           {"Sum", PairOp::kAdd},           {"Sub", PairOp::kSubtract},
      {"Mul", PairOp::kMultiply},      {"Div", PairOp::kDivide},        {"Max", PairOp::kMaximum},
      {"Min", PairOp::kMinimum},       {"BitwiseAnd", PairOp::kBitAnd}, {"BitwiseOr", PairOp::kBitOr},
      {"BitwiseXor", PairOp::kBitXor}};
  if (node.op == "Mod") return node.integer("fmod", 0) != 0 ? PairOp::kTruncatedRemainder : PairOp::kRemainder;
  const auto found = ops.find(node.op);
  if (found == ops.end()) return std::nullopt;
  return found->second;
}

std::optional<ElementType> element_type(DType dtype) {
  switch (dtype) {
    case DType::kF32: return ElementType::kF32;
    case DType::kS32: return ElementType::kS32;
    case DType::kS64: return ElementType::kS64;
    case DType::kU8:
    case DType::kBool: return ElementType::kU8;
    case DType::kS8: return ElementType::kS8;
    default: return std::nullopt;
  }
}

Result<bool> pair(Values& values, const Node& node) {
  const auto op = pair_op(node);
  if (!op || node.inputs.size() != 2 || !has_full_inputs(values, node)) return false;
  const DType dtype = values.info(node.inputs[0]).dtype;
  const auto type = element_type(dtype);
  if (!type || values.info(node.inputs[1]).dtype != dtype) return false;
  if (*op > PairOp::kXor && (dtype == DType::kF32 || dtype == DType::kBool)) return false;
  KERF_ASSIGN(const Rep a, plain_input(values, node.inputs[0]));
  KERF_ASSIGN(const Rep b, plain_input(values, node.inputs[1]));
  const Shape shape = values.info(node.outputs[0]).shape;
  if (shape.size() > 16) return false;
  const Broadcast<2> walk(shape, {values.dims(a), values.dims(b)}, values.threads());
  const SlotId to = make_output(values, node);
  const auto size = static_cast<std::int64_t>(graph::element_size(dtype));
  const auto to_size = static_cast<std::int64_t>(graph::element_size(values.info(node.outputs[0]).dtype));
  const PairRun run = pair_run(*type);
  values.emit(make_call("kerf:pairs", {a.slot, b.slot}, {to},
                        [walk, run, op = *op, from = std::array{a.slot, b.slot}, to, size, to_size](Pointers pointers, std::byte*) {
                          const auto& strides = walk.run_strides();
                          walk.each_run([&](std::int64_t out, const auto& in, std::int64_t n) {
                            run(op, pointers[from[0]] + in[0] * size, strides[0], pointers[from[1]] + in[1] * size, strides[1],
                                pointers[to] + out * to_size, n);
                          });
                        }),
              node.name, node.op, std::string(graph::to_string(dtype)));
  return true;
}

Result<bool> where(Values& values, const Node& node) {
  if (!has_full_inputs(values, node) || values.info(node.inputs[1]).dtype != values.info(node.inputs[2]).dtype) return false;
  KERF_ASSIGN(const Rep c, plain_input(values, node.inputs[0]));
  KERF_ASSIGN(const Rep a, plain_input(values, node.inputs[1]));
  KERF_ASSIGN(const Rep b, plain_input(values, node.inputs[2]));
  const Shape shape = values.info(node.outputs[0]).shape;
  if (shape.size() > 16) return false;
  const Broadcast<3> walk(shape, {values.dims(c), values.dims(a), values.dims(b)}, values.threads());
  const SlotId to = make_output(values, node);
  const auto size = static_cast<std::int64_t>(graph::element_size(values.info(node.outputs[0]).dtype));
  const SelectRun run = select_run(static_cast<std::size_t>(size));
  values.emit(make_call("kerf:where", {c.slot, a.slot, b.slot}, {to},
                        [walk, run, from = std::array{c.slot, a.slot, b.slot}, to, size](Pointers pointers, std::byte*) {
                          const auto& strides = walk.run_strides();
                          walk.each_run([&](std::int64_t out, const auto& in, std::int64_t n) {
                            run(at<const std::uint8_t>(pointers, from[0]) + in[0], strides[0], pointers[from[1]] + in[1] * size,
                                strides[1], pointers[from[2]] + in[2] * size, strides[2], pointers[to] + out * size, n);
                          });
                        }),
              node.name, node.op, std::string(graph::to_string(values.info(node.outputs[0]).dtype)));
  return true;
}

Result<bool> unary(Values& values, const Node& node) {
  const bool floats = node.op != "Not";
  if (values.info(node.inputs[0]).dtype != (floats ? DType::kF32 : DType::kBool)) return false;
  KERF_ASSIGN(const Rep x, plain_input(values, node.inputs[0]));
  const SlotId to = make_output(values, node);
  const auto n = static_cast<std::size_t>(*graph::element_count(values.dims(x)));
  enum class Kind : std::uint8_t { kNot, kNan, kInfinite };
  const Kind kind = node.op == "Not" ? Kind::kNot : node.op == "IsNaN" ? Kind::kNan : Kind::kInfinite;
  const bool positive = node.integer("detect_positive", 1) != 0;
  const bool negative = node.integer("detect_negative", 1) != 0;
  values.emit(make_call("kerf:predicate", {x.slot}, {to},
                        [=, from = x.slot](Pointers pointers, std::byte*) {
                          auto* out = at<std::uint8_t>(pointers, to);
                          if (kind == Kind::kNot) invert(at<const std::uint8_t>(pointers, from), out, n);
                          else if (kind == Kind::kNan) is_nan(at<const float>(pointers, from), out, n);
                          else is_infinite(at<const float>(pointers, from), out, n, positive, negative);
                        }),
              node.name, node.op, floats ? "f32" : "bool");
  return true;
}

/// Of integers, between two numbers or on one side of one.
Result<bool> clip(Values& values, const Node& node) {
  const graph::ValueInfo& info = values.info(node.inputs[0]);
  const auto type = element_type(info.dtype);
  if (!type || info.dtype == DType::kF32 || info.dtype == DType::kBool) return false;
  for (std::size_t i = 1; i < node.inputs.size(); ++i) {
    if (node.has_input(i) && graph::element_count(values.info(node.inputs[i]).shape) != 1) return false;
  }
  KERF_ASSIGN(const Rep x, plain_input(values, node.inputs[0]));
  std::vector<SlotId> reads{x.slot};
  std::array<SlotId, 2> bounds{-1, -1};
  for (std::size_t i = 1; i < 3; ++i) {
    if (!node.has_input(i)) continue;
    KERF_ASSIGN(const Rep bound, plain_input(values, node.inputs[i]));
    reads.push_back(bounds[i - 1] = bound.slot);
  }
  const SlotId y = make_output(values, node);
  const std::int64_t n = *graph::element_count(info.shape);
  const PairRun run = pair_run(*type);
  const std::size_t bytes = static_cast<std::size_t>(n) * graph::element_size(info.dtype);
  values.emit(make_call("kerf:pairs", std::move(reads), {y},
                        [=, from = x.slot](Pointers p, std::byte*) {
                          const std::byte* source = p[from];
                          for (std::size_t i = 0; i < 2; ++i) {
                            if (bounds[i] < 0) continue;
                            run(i == 0 ? PairOp::kMaximum : PairOp::kMinimum, source, 1, p[bounds[i]], 0, p[y], n);
                            source = p[y];
                          }
                          if (source == p[from]) std::copy_n(source, bytes, p[y]);
                        }),
              node.name, node.op, std::string(graph::to_string(info.dtype)));
  return true;
}

/// Functions of one integer, and PRelu, by runs over pairs.
Result<bool> integer_function(Values& values, const Node& node) {
  enum class Kind : std::uint8_t { kRelu, kNegate, kAbsolute, kSign, kNot, kPRelu };
  static const std::map<std::string, Kind, std::less<>> kinds{{"Relu", Kind::kRelu}, {"Neg", Kind::kNegate},     {"Abs", Kind::kAbsolute},
                                                              {"Sign", Kind::kSign}, {"BitwiseNot", Kind::kNot}, {"PRelu", Kind::kPRelu}};
  const auto found = kinds.find(node.op);
  if (found == kinds.end() || !has_full_inputs(values, node)) return false;
  const graph::ValueInfo info = values.info(node.inputs[0]);
  const auto type = element_type(info.dtype);
  if (!type || info.dtype == DType::kF32 || info.dtype == DType::kBool || info.shape.size() > 16) return false;
  const Kind kind = found->second;
  const bool pairs = kind == Kind::kPRelu;
  if (pairs && (node.inputs.size() != 2 || values.info(node.inputs[1]).dtype != info.dtype)) return false;
  KERF_ASSIGN(const Rep x, plain_input(values, node.inputs[0]));
  KERF_ASSIGN(const Rep slope, plain_input(values, node.inputs[pairs ? 1 : 0]));
  const Broadcast<2> walk(info.shape, {info.shape, values.dims(slope)}, values.threads());
  const SlotId y = make_output(values, node);
  const auto size = static_cast<std::int64_t>(graph::element_size(info.dtype));
  const PairRun run = pair_run(*type);
  std::vector<SlotId> reads{x.slot};
  if (pairs) reads.push_back(slope.slot);
  values.emit(make_call("kerf:pairs", std::move(reads), {y},
                        [=, from = x.slot, with = slope.slot](Pointers p, std::byte*) {
                          // 0, 1 and -1 of every type are their first bytes.
                          alignas(8) static constexpr unsigned char kZero[8] = {};
                          alignas(8) static constexpr unsigned char kOne[8] = {1};
                          alignas(8) static constexpr unsigned char kMinusOne[8] = {255, 255, 255, 255, 255, 255, 255, 255};
                          walk.each_run([&](std::int64_t out, const auto& in, std::int64_t n) {
                            const std::byte* a = p[from] + in[0] * size;
                            std::byte* to = p[y] + out * size;
                            switch (kind) {
                              case Kind::kRelu: run(PairOp::kMaximum, a, 1, kZero, 0, to, n); break;
                              case Kind::kNegate: run(PairOp::kSubtract, kZero, 0, a, 1, to, n); break;
                              case Kind::kNot: run(PairOp::kBitXor, a, 1, kMinusOne, 0, to, n); break;
                              case Kind::kAbsolute:
                                run(PairOp::kSubtract, kZero, 0, a, 1, to, n);
                                run(PairOp::kMaximum, a, 1, to, 1, to, n);
                                break;
                              case Kind::kSign:
                                run(PairOp::kMinimum, a, 1, kOne, 0, to, n);
                                if (*type != ElementType::kU8) run(PairOp::kMaximum, to, 1, kMinusOne, 0, to, n);
                                break;
                              case Kind::kPRelu: {
                                // The negative part times its slope, and the rest.
                                constexpr std::int64_t kBlock = 512;
                                alignas(64) std::byte part[kBlock * sizeof(std::int64_t)];
                                const std::int64_t step = walk.run_strides()[1];
                                for (std::int64_t i = 0; i < n; i += kBlock) {
                                  const std::int64_t count = std::min(kBlock, n - i);
                                  run(PairOp::kMinimum, a + i * size, 1, kZero, 0, part, count);
                                  run(PairOp::kMultiply, part, 1, p[with] + (in[1] + i * step) * size, step, part, count);
                                  run(PairOp::kMaximum, a + i * size, 1, kZero, 0, to + i * size, count);
                                  run(PairOp::kAdd, to + i * size, 1, part, 1, to + i * size, count);
                                }
                                break;
                              }
                            }
                          });
                        }),
              node.name, node.op, std::string(graph::to_string(info.dtype)));
  return true;
}

}  // namespace

Result<bool> lower_logic(Values& values, const Node& node) {
  if (node.op == "Clip") return clip(values, node);
  if (node.op == "Where") return where(values, node);
  if (node.op == "Not" || node.op == "IsNaN" || node.op == "IsInf") return unary(values, node);
  KERF_ASSIGN(const bool lowered, integer_function(values, node));
  if (lowered) return true;
  return pair(values, node);
}

}  // namespace kerf::engine
