#pragma once

#include <map>
#include <string>

#include "core/result.h"
#include "workers/engine/kernels/pointwise.h"
#include "workers/engine/plan.h"

namespace kerf::engine {

/// One way in which a value lies in memory.
struct Rep {
  SlotId slot = -1;
  Layout layout = Layout::kPlain;
  graph::Shape folded;  ///< Not empty: a [n, rest] value whose memory is `folded` in channels-last order.
  Numeric numeric;
};

/// Bytes whose scale and zero point are known only when they are made (kernels/dynamic.h).
struct DynamicRep {
  Rep rep;  ///< u8.
  SlotId scale = -1;
  SlotId zero_s32 = -1;
};

/// Whether both layouts of `dims` are the same bytes.
[[nodiscard]] bool layouts_coincide(const graph::Shape& dims);

/// Strides by logical axis of dense memory.
[[nodiscard]] graph::Shape layout_strides(const graph::Shape& dims, Layout layout);
/// Axes in memory order: {0, 2, 3, 1} for channels-last of rank 4.
[[nodiscard]] std::vector<std::size_t> memory_order(std::size_t rank, Layout layout);

/// The values of a graph under lowering: where each lies, in which forms, and the steps that turn
/// one form into another, made when first asked for.
class Values {
 public:
  Values(const graph::Graph& graph, Plan& plan, int threads, bool timed) : graph_(graph), plan_(plan), threads_(threads), timed_(timed) {}

  SlotId new_slot(graph::DType dtype, const graph::Shape& dims, Layout layout);
  /// A slot that is the same memory under another shape.
  SlotId alias(SlotId slot, const graph::Shape& dims, Layout layout);
  SlotId constant_slot(const graph::Tensor& tensor);

  /// The value is these bytes. Who can't use them gets them as f32, made when first asked for.
  void set_dynamic(const std::string& value, DynamicRep rep) { dynamic_[value] = std::move(rep); }
  [[nodiscard]] const DynamicRep* dynamic(const std::string& value) const;
  void set(const std::string& value, Rep rep) { reps_[value].push_back(std::move(rep)); }
  [[nodiscard]] bool known(const std::string& value) const;
  /// The form in which the value was made first.
  [[nodiscard]] Result<Rep> first(const std::string& value);
  /// A form of 8 bits, where there is one.
  [[nodiscard]] const Rep* quantized(const std::string& value) const;
  [[nodiscard]] const std::vector<Rep>& all(const std::string& value) const;

  /// The value as `dtype` (f32 or bf16, or its own integer type) in that layout; nullopt = any.
  [[nodiscard]] Result<Rep> as(const std::string& value, graph::DType dtype, std::optional<Layout> layout);
  /// The value rounded to these 8-bit numbers. Not kept as a form of the value, which it isn't.
  [[nodiscard]] Result<Rep> rounded_to(const std::string& value, const Numeric& numeric);
  /// The rep in another layout. `keep`: as a further form of the value.
  [[nodiscard]] Rep in_layout(const std::string& value, const Rep& rep, Layout layout, bool keep = true);

  [[nodiscard]] const graph::Shape& dims(const Rep& rep) const { return plan_.slots[static_cast<std::size_t>(rep.slot)].dims; }
  [[nodiscard]] const graph::ValueInfo& info(const std::string& value) const;
  [[nodiscard]] int threads() const { return threads_; }
  /// Whether kernels may be timed against each other.
  [[nodiscard]] bool timed() const { return timed_; }
  [[nodiscard]] Plan& plan() { return plan_; }
  [[nodiscard]] const graph::Graph& graph() const { return graph_; }

  /// Adds a step and fills its StepInfo's name and op.
  Step& emit(std::unique_ptr<Step> step, const std::string& name, const std::string& op, const std::string& executes_as);

 private:
  Rep converted(const std::string& value, const Rep& from, const Numeric& numeric, bool keep);
  /// A rep that was rounded from floats of few channels, made again in channels-last order from the
  /// floats themselves: one step instead of two. False where it isn't one.
  bool round_into_channels_last(const std::string& value, const Rep& rep, SlotId to);

  const graph::Graph& graph_;
  Plan& plan_;
  int threads_;
  bool timed_;
  std::map<std::string, std::vector<Rep>> reps_;
  /// Slots of bytes: the plain floats that they were rounded from, and how.
  std::map<SlotId, std::pair<SlotId, Numeric>> rounded_from_;
  std::map<std::string, DynamicRep> dynamic_;
  mutable std::map<std::string, graph::ValueInfo> constant_infos_;  ///< Of constants that nodes read as data.
};

/// The steps' word for a number format: "f32", "bf16", "u8", "s8".
[[nodiscard]] std::string executes_as(const Numeric& numeric);

}  // namespace kerf::engine
