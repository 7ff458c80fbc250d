#include "workers/engine/kernels/dynamic.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "workers/engine/kernels/parallel.h"
#include "workers/engine/kernels/reduction.h"
#include "workers/engine/kernels/vector.h"

namespace kerf::engine {
namespace {

constexpr std::size_t kPart = 16 * vector::kBlock;  // elements that a thread takes at a time

struct Extent {
  float low = 0;
  float high = 0;
};

/// Smallest and largest with 0.
Extent extent_of(const float* x, std::size_t n) {
  Extent out;
  fold({Fold::kMinimum, 1, static_cast<std::int64_t>(n), 1, 1}, x, &out.low);
  fold({Fold::kMaximum, 1, static_cast<std::int64_t>(n), 1, 1}, x, &out.high);
  return {std::min(out.low, 0.0F), std::max(out.high, 0.0F)};
}

std::size_t parts_of(std::int64_t elements) {
  return (static_cast<std::size_t>(elements) + kPart - 1) / kPart;
}

class QuantizeStep final : public Step {
 public:
  explicit QuantizeStep(const DynamicQuantize& how) : how_(how), extents_(parts_of(how.elements)) {
    reads = {how.from};
    writes = {how.to, how.scale, how.zero, how.zero_s32};
    info.kernel = "kerf:dynamic_quantize";
  }

  void run(Pointers pointers) override {
    const auto* x = reinterpret_cast<const float*>(pointers[how_.from]);
    auto* q = reinterpret_cast<std::uint8_t*>(pointers[how_.to]);
    const auto n = static_cast<std::size_t>(how_.elements);
    parallel_for(extents_.size(), kPart, how_.threads, [&](std::size_t part) {
      extents_[part] = extent_of(x + part * kPart, std::min(kPart, n - part * kPart));
    });
    Extent all;
    for (const Extent& extent : extents_) {
      all.low = std::min(all.low, extent.low);
      all.high = std::max(all.high, extent.high);
    }
    const float scale = all.high > all.low
                            ? std::max((all.high - all.low) / 255.0F, std::numeric_limits<float>::min())
                            : 1.0F;
    const float zero = std::clamp(std::nearbyint(-all.low / scale), 0.0F, 255.0F);
    *reinterpret_cast<float*>(pointers[how_.scale]) = scale;
    *reinterpret_cast<std::uint8_t*>(pointers[how_.zero]) = static_cast<std::uint8_t>(zero);
    *reinterpret_cast<std::int32_t*>(pointers[how_.zero_s32]) = static_cast<std::int32_t>(zero);
    parallel_for(extents_.size(), kPart, how_.threads, [&](std::size_t part) {
      const std::size_t end = std::min(n, (part + 1) * kPart);
      for (std::size_t i = part * kPart; i < end; i += vector::kBlock) {
        vector::store_u8(x + i, std::min(vector::kBlock, end - i), scale, zero, q + i);
      }
    });
  }

 private:
  DynamicQuantize how_;
  std::vector<Extent> extents_;
};

class DequantizeStep final : public Step {
 public:
  explicit DequantizeStep(const DynamicDequantize& how) : how_(how) {
    reads = {how.from, how.scale, how.zero_s32};
    writes = {how.to};
    info.kernel = "kerf:dynamic_dequantize";
  }

  void run(Pointers pointers) override {
    const auto* q = reinterpret_cast<const std::uint8_t*>(pointers[how_.from]);
    auto* x = reinterpret_cast<float*>(pointers[how_.to]);
    const float scale = *reinterpret_cast<const float*>(pointers[how_.scale]);
    const auto zero = static_cast<float>(*reinterpret_cast<const std::int32_t*>(pointers[how_.zero_s32]));
    const auto n = static_cast<std::size_t>(how_.elements);
    parallel_for(parts_of(how_.elements), kPart, how_.threads, [&](std::size_t part) {
      const std::size_t end = std::min(n, (part + 1) * kPart);
      for (std::size_t i = part * kPart; i < end; i += vector::kBlock) {
        vector::load_u8(q + i, std::min(vector::kBlock, end - i), scale, zero, x + i);
      }
    });
  }

 private:
  DynamicDequantize how_;
};

}  // namespace

std::unique_ptr<Step> make_dynamic_quantize(const DynamicQuantize& how) {
  return std::make_unique<QuantizeStep>(how);
}

std::unique_ptr<Step> make_dynamic_dequantize(const DynamicDequantize& how) {
  return std::make_unique<DequantizeStep>(how);
}

}  // namespace kerf::engine
