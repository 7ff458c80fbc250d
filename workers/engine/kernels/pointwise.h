#pragma once

#include <functional>

#include "workers/engine/kernels/functions.h"
#include "workers/engine/plan.h"

namespace kerf::engine {

/// How numbers are written in a slot: floats as they are, integers as (q - zero) * scale.
struct Numeric {
  graph::DType dtype = graph::DType::kF32;
  float scale = 1.0F;
  int zero = 0;
  friend bool operator==(const Numeric&, const Numeric&) = default;
};

enum class PointOp : std::uint8_t {
  // With an operand:
  kAdd, kSubtract, kSubtractFrom, kMultiply, kDivide, kDivideInto, kMaximum, kMinimum, kPRelu,
  // Without:
  kRelu, kClip, kLinear, kAbsolute, kSquareRoot, kHardSigmoid, kHardSwish, kExponential, kSigmoid,
  kSwish, kTanh, kElu, kGelu, kGeluTanh, kMish, kSoftplus, kSquare,
  kBlock,     ///< A loop over a block of its own.
  kFunction,  ///< One call an element.
};

struct PointStage {
  PointOp op = PointOp::kRelu;
  int operand = -1;  ///< Index into the operands.
  float alpha = 0.0F;
  float beta = 0.0F;
  std::function<float(float)> function;
  vector::BlockFunction block = nullptr;
};

struct PointOperand {
  SlotId slot = -1;
  Numeric numeric;
  graph::Shape strides;  ///< Over the output's dimensions in memory order; 0 where broadcast.
};

/// out = stages(operand 0), element by element, in blocks that stay in cache: load as f32, one
/// loop a stage, store.
struct Pointwise {
  graph::Shape dims;  ///< The output's, in memory order.
  std::vector<PointOperand> operands;
  std::vector<PointStage> stages;
  SlotId output = -1;
  Numeric output_numeric;
  int threads = 1;
};

[[nodiscard]] std::unique_ptr<Step> make_pointwise(Pointwise pointwise);

/// 8-bit to 8-bit by a table of 256 entries; index = the byte of the input.
[[nodiscard]] std::unique_ptr<Step> make_lookup(SlotId from, SlotId to, std::int64_t elements,
                                                std::vector<std::uint8_t> table, int threads);

/// Mean (or maximum) over the rows of [n, rows, channels], to f32 or to 8 bits.
struct RowReduction {
  SlotId from = -1, to = -1;
  Numeric from_numeric, to_numeric;
  std::int64_t batch = 0, rows = 0, channels = 0;
  int threads = 1;
};
[[nodiscard]] std::unique_ptr<Step> make_row_mean(const RowReduction& reduction);

}  // namespace kerf::engine
