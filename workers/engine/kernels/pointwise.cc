#include "workers/engine/kernels/pointwise.h"

#include <algorithm>
#include <cstring>

#include "workers/engine/kernels/lookup.h"
#include "workers/engine/kernels/parallel.h"
#include "workers/engine/kernels/vector.h"

namespace kerf::engine {
namespace {

using graph::DType;
using vector::kBlock;

void load(const std::byte* from, const Numeric& numeric, std::size_t offset, std::size_t n, float* to) {
  const auto zero = static_cast<float>(numeric.zero);
  switch (numeric.dtype) {
    case DType::kF32: vector::load_f32(reinterpret_cast<const float*>(from) + offset, n, to); break;
    case DType::kBF16: vector::load_bf16(reinterpret_cast<const std::uint16_t*>(from) + offset, n, to); break;
    case DType::kU8: vector::load_u8(reinterpret_cast<const std::uint8_t*>(from) + offset, n, numeric.scale, zero, to); break;
    default: vector::load_s8(reinterpret_cast<const std::int8_t*>(from) + offset, n, numeric.scale, zero, to); break;
  }
}

void store(const float* from, const Numeric& numeric, std::size_t offset, std::size_t n, std::byte* to) {
  const auto zero = static_cast<float>(numeric.zero);
  switch (numeric.dtype) {
    case DType::kF32: std::memcpy(reinterpret_cast<float*>(to) + offset, from, n * sizeof(float)); break;
    case DType::kBF16: vector::store_bf16(from, n, reinterpret_cast<std::uint16_t*>(to) + offset); break;
    case DType::kU8: vector::store_u8(from, n, numeric.scale, zero, reinterpret_cast<std::uint8_t*>(to) + offset); break;
    default: vector::store_s8(from, n, numeric.scale, zero, reinterpret_cast<std::int8_t*>(to) + offset); break;
  }
}

enum class Access : std::uint8_t { kContiguous, kScalar, kPeriodic, kStrided };

class PointwiseStep final : public Step {
 public:
  explicit PointwiseStep(Pointwise pointwise) : p_(std::move(pointwise)) {
    for (const PointOperand& operand : p_.operands) reads.push_back(operand.slot);
    writes = {p_.output};
    collapse();
    for (PointOperand& operand : p_.operands) access_.push_back(access_of(operand));
    if (p_.operands[0].numeric.dtype == p_.output_numeric.dtype && access_[0] == Access::kContiguous) {
      in_place = p_.operands[0].slot;
    }
    blocks_ = (run_ + block_ - 1) / block_;
  }

  void run(Pointers pointers) override {
    parallel_for(outer_ * blocks_, block_, p_.threads, [&](std::size_t i) { run_block(pointers, i / blocks_, i % blocks_ * block_); });
  }

 private:
  /// Merges neighbouring dimensions that every operand walks alike; what is left of the last one,
  /// or of the last two where an operand repeats itself over them, is the run.
  void collapse() {
    graph::Shape dims;
    std::vector<graph::Shape> strides(p_.operands.size());
    for (std::size_t d = 0; d < p_.dims.size(); ++d) {
      if (p_.dims[d] == 1) continue;
      bool merge = !dims.empty();
      for (std::size_t k = 0; merge && k < strides.size(); ++k) {
        merge = strides[k].back() == p_.operands[k].strides[d] * p_.dims[d];
      }
      if (merge) {
        dims.back() *= p_.dims[d];
        for (std::size_t k = 0; k < strides.size(); ++k) strides[k].back() = p_.operands[k].strides[d];
      } else {
        dims.push_back(p_.dims[d]);
        for (std::size_t k = 0; k < strides.size(); ++k) strides[k].push_back(p_.operands[k].strides[d]);
      }
    }
    if (dims.empty()) {
      dims.push_back(1);
      for (graph::Shape& s : strides) s.push_back(0);
    }
    const std::size_t last = dims.size() - 1;
    run_ = static_cast<std::size_t>(dims[last]);
    outer_dims_.assign(dims.begin(), dims.end() - 1);
    if (last > 0 && run_ <= kBlock) {
      // Each operand over the last two dimensions: contiguous, one value, or repeating.
      const bool pairs = std::all_of(strides.begin(), strides.end(), [&](const graph::Shape& s) {
        return (s[last] == 1 && (s[last - 1] == dims[last] || s[last - 1] == 0)) || (s[last] == 0 && s[last - 1] == 0);
      });
      if (pairs) {
        period_ = run_;
        run_ *= static_cast<std::size_t>(dims[last - 1]);
        outer_dims_.pop_back();
      }
    }
    block_ = period_ > 0 ? kBlock / period_ * period_ : kBlock;
    outer_ = 1;
    for (const std::int64_t extent : outer_dims_) outer_ *= static_cast<std::size_t>(extent);
    for (std::size_t k = 0; k < strides.size(); ++k) {
      tail_.push_back({period_ > 0 ? strides[k][last - 1] : strides[k][last], strides[k][last]});
      strides[k].resize(outer_dims_.size());
      p_.operands[k].strides = strides[k];
    }
  }

  [[nodiscard]] Access access_of(const PointOperand& operand) const {
    const auto& [row, element] = tail_[static_cast<std::size_t>(&operand - p_.operands.data())];
    if (period_ > 0) {
      if (element == 0) return Access::kScalar;
      return row == 0 ? Access::kPeriodic : Access::kContiguous;
    }
    return element == 1 ? Access::kContiguous : element == 0 ? Access::kScalar : Access::kStrided;
  }

  void fetch(Pointers pointers, std::size_t k, std::size_t base, std::size_t start, std::size_t n, float* to) const {
    const PointOperand& operand = p_.operands[k];
    const std::byte* from = pointers[operand.slot];
    switch (access_[k]) {
      case Access::kContiguous: load(from, operand.numeric, base + start, n, to); break;
      case Access::kScalar:
        load(from, operand.numeric, base, 1, to);
        std::fill(to + 1, to + n, to[0]);
        break;
      case Access::kPeriodic: {
        std::size_t have = std::min(period_, n);
        load(from, operand.numeric, base, have, to);
        while (have < n) {
          const std::size_t more = std::min(have, n - have);
          std::memcpy(to + have, to, more * sizeof(float));
          have += more;
        }
        break;
      }
      case Access::kStrided:
        for (std::size_t i = 0; i < n; ++i) {
          load(from, operand.numeric, base + (start + i) * static_cast<std::size_t>(tail_[k].second), 1, to + i);
        }
        break;
    }
  }

  void run_block(Pointers pointers, std::size_t outer, std::size_t start) const {
    alignas(64) float acc[kBlock];
    alignas(64) float other[kBlock];
    const std::size_t n = std::min(block_, run_ - start);
    const auto base_of = [&](std::size_t k) {
      std::size_t rest = outer;
      std::size_t base = 0;
      for (std::size_t d = outer_dims_.size(); d-- > 0;) {
        const auto extent = static_cast<std::size_t>(outer_dims_[d]);
        base += rest % extent * static_cast<std::size_t>(p_.operands[k].strides[d]);
        rest /= extent;
      }
      return base;
    };
    fetch(pointers, 0, base_of(0), start, n, acc);
    for (const PointStage& stage : p_.stages) {
      const float* b = other;
      if (stage.operand >= 0) {
        const auto k = static_cast<std::size_t>(stage.operand);
        fetch(pointers, k, base_of(k), start, n, other);
      }
      apply(stage, acc, b, n);
    }
    store(acc, p_.output_numeric, outer * run_ + start, n, pointers[p_.output]);
  }

  static void apply(const PointStage& stage, float* acc, const float* b, std::size_t n) {
    switch (stage.op) {
      case PointOp::kAdd: vector::add(acc, b, n); break;
      case PointOp::kSubtract: vector::subtract(acc, b, n); break;
      case PointOp::kSubtractFrom: vector::subtract_from(acc, b, n); break;
      case PointOp::kMultiply: vector::multiply(acc, b, n); break;
      case PointOp::kDivide: vector::divide(acc, b, n); break;
      case PointOp::kDivideInto: vector::divide_into(acc, b, n); break;
      case PointOp::kMaximum: vector::maximum(acc, b, n); break;
      case PointOp::kMinimum: vector::minimum(acc, b, n); break;
      case PointOp::kPRelu: vector::prelu(acc, b, n); break;
      case PointOp::kRelu: vector::relu(acc, n, stage.alpha); break;
      case PointOp::kClip: vector::clip(acc, n, stage.alpha, stage.beta); break;
      case PointOp::kLinear: vector::linear(acc, n, stage.alpha, stage.beta); break;
      case PointOp::kAbsolute: vector::absolute(acc, n); break;
      case PointOp::kSquareRoot: vector::square_root(acc, n); break;
      case PointOp::kHardSigmoid: vector::hard_sigmoid(acc, n, stage.alpha, stage.beta); break;
      case PointOp::kHardSwish: vector::hard_swish(acc, n); break;
      case PointOp::kExponential: vector::exponential(acc, n); break;
      case PointOp::kSigmoid: vector::sigmoid(acc, n); break;
      case PointOp::kSwish: vector::swish(acc, n); break;
      case PointOp::kTanh: vector::hyperbolic_tangent(acc, n); break;
      case PointOp::kElu: vector::elu(acc, n, stage.alpha); break;
      case PointOp::kGelu: vector::gelu(acc, n); break;
      case PointOp::kGeluTanh: vector::gelu_tanh(acc, n, 0, 0); break;
      case PointOp::kMish: vector::mish(acc, n, 0, 0); break;
      case PointOp::kSoftplus: vector::softplus(acc, n, 0, 0); break;
      case PointOp::kSquare: vector::square(acc, n, 0, 0); break;
      case PointOp::kBlock: stage.block(acc, n, stage.alpha, stage.beta); break;
      case PointOp::kFunction:
        for (std::size_t i = 0; i < n; ++i) acc[i] = stage.function(acc[i]);
        break;
    }
  }

  Pointwise p_;
  std::vector<Access> access_;
  std::vector<std::pair<std::int64_t, std::int64_t>> tail_;  ///< Strides of row and element in a run.
  graph::Shape outer_dims_;
  std::size_t run_ = 1, period_ = 0, outer_ = 1, block_ = kBlock, blocks_ = 1;
};

class LookupStep final : public Step {
 public:
  LookupStep(SlotId from, SlotId to, std::int64_t elements, std::vector<std::uint8_t> table, int threads)
      : elements_(static_cast<std::size_t>(elements)), table_(std::move(table)), threads_(threads) {
    reads = {from};
    writes = {to};
    in_place = from;
  }

  void run(Pointers pointers) override {
    const auto* from = reinterpret_cast<const std::uint8_t*>(pointers[reads[0]]);
    auto* to = reinterpret_cast<std::uint8_t*>(pointers[writes[0]]);
    constexpr std::size_t kChunk = 8192;
    parallel_for((elements_ + kChunk - 1) / kChunk, kChunk, threads_, [&](std::size_t c) {
      const std::size_t first = c * kChunk;
      look_up(from + first, std::min(kChunk, elements_ - first), table_.data(), to + first);
    });
  }

 private:
  std::size_t elements_;
  std::vector<std::uint8_t> table_;
  int threads_;
};

class RowMeanStep final : public Step {
 public:
  explicit RowMeanStep(const RowReduction& reduction) : r_(reduction) {
    reads = {r_.from};
    writes = {r_.to};
  }

  void run(Pointers pointers) override {
    constexpr std::size_t kGroup = 256;
    const auto channels = static_cast<std::size_t>(r_.channels);
    const auto rows = static_cast<std::size_t>(r_.rows);
    const std::size_t groups = (channels + kGroup - 1) / kGroup;
    parallel_for(static_cast<std::size_t>(r_.batch) * groups, rows * std::min(kGroup, channels), r_.threads, [&](std::size_t i) {
      const std::size_t first = i % groups * kGroup;
      const std::size_t count = std::min(kGroup, channels - first);
      const std::size_t at = i / groups * rows * channels + first;
      alignas(64) float mean[kGroup] = {};
      reduce(pointers[r_.from], at, rows, channels, count, mean);
      store(mean, r_.to_numeric, i / groups * channels + first, count, pointers[r_.to]);
    });
  }

 private:
  void reduce(const std::byte* from, std::size_t at, std::size_t rows, std::size_t channels, std::size_t count, float* mean) const {
    const auto n = static_cast<float>(rows);
    if (r_.from_numeric.dtype == DType::kF32 || r_.from_numeric.dtype == DType::kBF16) {
      if (r_.from_numeric.dtype == DType::kF32) vector::add_rows_f32(reinterpret_cast<const float*>(from) + at, rows, channels, count, mean);
      else vector::add_rows_bf16(reinterpret_cast<const std::uint16_t*>(from) + at, rows, channels, count, mean);
      for (std::size_t c = 0; c < count; ++c) mean[c] /= n;
      return;
    }
    alignas(64) std::int32_t sums[256] = {};
    if (r_.from_numeric.dtype == DType::kU8) vector::add_rows_u8(reinterpret_cast<const std::uint8_t*>(from) + at, rows, channels, count, sums);
    else vector::add_rows_s8(reinterpret_cast<const std::int8_t*>(from) + at, rows, channels, count, sums);
    const auto zero = static_cast<std::int64_t>(rows) * r_.from_numeric.zero;
    for (std::size_t c = 0; c < count; ++c) {
      mean[c] = static_cast<float>(sums[c] - zero) / n * r_.from_numeric.scale;
    }
  }

  RowReduction r_;
};

}  // namespace

std::unique_ptr<Step> make_pointwise(Pointwise pointwise) {
  auto step = std::make_unique<PointwiseStep>(std::move(pointwise));
  step->info.kernel = "kerf:pointwise";
  return step;
}

std::unique_ptr<Step> make_lookup(SlotId from, SlotId to, std::int64_t elements, std::vector<std::uint8_t> table, int threads) {
  auto step = std::make_unique<LookupStep>(from, to, elements, std::move(table), threads);
  step->info.kernel = "kerf:lookup";
  return step;
}

std::unique_ptr<Step> make_row_mean(const RowReduction& reduction) {
  auto step = std::make_unique<RowMeanStep>(reduction);
  step->info.kernel = "kerf:row_mean";
  return step;
}

}  // namespace kerf::engine
