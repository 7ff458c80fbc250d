// LSTM, GRU and RNN with their usual functions and constant weights: what the input gives to all
// steps is one product, then one small product and the gates a step.
#include "workers/engine/kernels/recurrent.h"

#include <algorithm>
#include <array>

#include "workers/engine/kernels/parallel.h"
#include "workers/engine/lowering/light.h"

namespace kerf::engine {

using graph::DType;
using graph::Node;
using graph::Shape;
using graph::Tensor;

namespace {

/// A layer as its step needs it. Slots are -1 where they are left out.
struct Layer {
  std::int64_t gates = 4, sequence = 1, batch = 1, input = 1, hidden = 1, directions = 1;
  bool reverse = false, rows = false, reset_after = false;
  int threads = 1;
  SlotId x = -1, lengths = -1, first_h = -1, first_c = -1;
  SlotId y = -1, last_h = -1, last_c = -1;
  /// Of each direction: w [input, gates * hidden], r [hidden, state_width()], both biases in one,
  /// GRU's recurrent part for the new state [hidden, hidden] and its bias, peepholes.
  struct Direction {
    SlotId w = -1, r = -1, bias = -1, r_new = -1, bias_new = -1, peepholes = -1;
  };
  std::array<Direction, 2> parts;

  [[nodiscard]] std::int64_t width() const { return gates * hidden; }
  /// Of what the state gives before a reset: GRU's new state comes apart.
  [[nodiscard]] std::int64_t state_width() const { return (gates == 3 ? 2 : gates) * hidden; }
  /// Floats: what the input gives, what the state gives, z, r and the reset state, h, c.
  [[nodiscard]] std::int64_t scratch_elements() const {
    return sequence * batch * width() + batch * (width() + 4 * hidden + 2 * hidden);
  }
};

/// One direction of a run.
class Run {
 public:
  Run(const Layer& layer, Pointers pointers, std::byte* scratch) : l_(layer), p_(pointers) {
    auto* next = reinterpret_cast<float*>(scratch);
    const auto take = [&](std::int64_t n) {
      float* out = next;
      next += n;
      return out;
    };
    from_input_ = take(l_.sequence * l_.batch * l_.width());
    from_state_ = take(l_.batch * l_.width());
    z_ = take(l_.batch * l_.hidden);
    r_ = take(l_.batch * l_.hidden);
    held_ = take(l_.batch * l_.hidden);
    fresh_ = take(l_.batch * l_.hidden);
    h_ = take(l_.batch * l_.hidden);
    c_ = take(l_.batch * l_.hidden);
  }

  void direction(std::int64_t d) {
    d_ = d;
    part_ = &l_.parts[static_cast<std::size_t>(d)];
    const std::int64_t all = l_.sequence * l_.batch;
    constexpr std::int64_t kRows = 32;
    parallel_for(static_cast<std::size_t>((all + kRows - 1) / kRows), static_cast<std::size_t>(kRows * l_.width() * l_.input / 8), l_.threads,
                 [&](std::size_t i) {
                   const std::int64_t first = static_cast<std::int64_t>(i) * kRows;
                   multiply_rows({std::min(kRows, all - first), l_.input, l_.width(), l_.input, l_.width()},
                                 at<const float>(p_, l_.x) + first * l_.input, at<const float>(p_, part_->w), at<const float>(p_, part_->bias),
                                 from_input_ + first * l_.width());
                 });
    for (std::int64_t n = 0; n < l_.batch; ++n) {
      load(l_.first_h, n, h_);
      load(l_.first_c, n, c_);
    }
    for (std::int64_t step = 0; step < l_.sequence; ++step) {
      products(h_);
      if (l_.gates == 3) reset(step);
      for (std::int64_t n = 0; n < l_.batch; ++n) advance(step, n);
    }
    for (std::int64_t n = 0; n < l_.batch; ++n) {
      if (l_.last_h >= 0) std::copy_n(h_ + n * l_.hidden, l_.hidden, at<float>(p_, l_.last_h) + state_at(n));
      if (l_.last_c >= 0) std::copy_n(c_ + n * l_.hidden, l_.hidden, at<float>(p_, l_.last_c) + state_at(n));
    }
  }

 private:
  [[nodiscard]] std::int64_t state_at(std::int64_t n) const {
    return (l_.rows ? n * l_.directions + d_ : d_ * l_.batch + n) * l_.hidden;
  }
  void load(SlotId slot, std::int64_t n, float* to) const {
    if (slot < 0) std::fill_n(to + n * l_.hidden, l_.hidden, 0.0F);
    else std::copy_n(at<const float>(p_, slot) + state_at(n), l_.hidden, to + n * l_.hidden);
  }
  [[nodiscard]] std::int64_t length_of(std::int64_t n) const {
    if (l_.lengths < 0) return l_.sequence;
    return std::clamp<std::int64_t>(at<const std::int32_t>(p_, l_.lengths)[n], 0, l_.sequence);
  }
  /// The place in time of a sample's step; -1 past its end.
  [[nodiscard]] std::int64_t time_of(std::int64_t step, std::int64_t n) const {
    const std::int64_t length = length_of(n);
    if (step >= length) return -1;
    return l_.reverse || d_ == 1 ? length - 1 - step : step;
  }
  [[nodiscard]] const float* given(std::int64_t time, std::int64_t n) const {
    return from_input_ + (l_.rows ? n * l_.sequence + time : time * l_.batch + n) * l_.width();
  }

  /// What the state gives to all gates.
  void products(const float* h) {
    constexpr std::int64_t kRows = 8;
    parallel_for(static_cast<std::size_t>((l_.batch + kRows - 1) / kRows), static_cast<std::size_t>(kRows * l_.state_width() * l_.hidden / 8), l_.threads,
                 [&](std::size_t i) {
                   const std::int64_t first = static_cast<std::int64_t>(i) * kRows;
                   multiply_rows({std::min(kRows, l_.batch - first), l_.hidden, l_.state_width(), l_.hidden, l_.width()}, h + first * l_.hidden,
                                 at<const float>(p_, part_->r), nullptr, from_state_ + first * l_.width());
                 });
  }

  /// GRU's gates, and what the state gives to the new one.
  void reset(std::int64_t step) {
    for (std::int64_t n = 0; n < l_.batch; ++n) {
      const std::int64_t time = time_of(step, n);
      if (time < 0) continue;
      const std::int64_t own = n * l_.hidden;
      gru_gates(l_.hidden, given(time, n), from_state_ + n * l_.width(), z_ + own, r_ + own);
      if (!l_.reset_after) gru_reset(l_.hidden, r_ + own, h_ + own, held_ + own);
    }
    multiply_rows({l_.batch, l_.hidden, l_.hidden, l_.hidden, l_.hidden}, l_.reset_after ? h_ : held_, at<const float>(p_, part_->r_new),
                  at<const float>(p_, part_->bias_new), fresh_);
  }

  void advance(std::int64_t step, std::int64_t n) {
    const std::int64_t time = time_of(step, n);
    const std::int64_t own = n * l_.hidden;
    if (time < 0) {
      // Past its length a sequence gives zeros.
      if (l_.y >= 0) std::fill_n(at<float>(p_, l_.y) + result_at(step, n), l_.hidden, 0.0F);
      return;
    }
    const float* x = given(time, n);
    const float* s = from_state_ + n * l_.width();
    if (l_.gates == 4) {
      lstm_cell(l_.hidden, x, s, part_->peepholes < 0 ? nullptr : at<const float>(p_, part_->peepholes), h_ + own, c_ + own);
    } else if (l_.gates == 3) {
      gru_cell(l_.hidden, x + 2 * l_.hidden, fresh_ + own, l_.reset_after ? r_ + own : nullptr, z_ + own, h_ + own);
    } else {
      rnn_cell(l_.hidden, x, s, h_ + own);
    }
    if (l_.y >= 0) std::copy_n(h_ + own, l_.hidden, at<float>(p_, l_.y) + result_at(time, n));
  }
  [[nodiscard]] std::int64_t result_at(std::int64_t time, std::int64_t n) const {
    return (l_.rows ? (n * l_.sequence + time) * l_.directions + d_ : (time * l_.directions + d_) * l_.batch + n) * l_.hidden;
  }

  const Layer& l_;
  Pointers p_;
  std::int64_t d_ = 0;
  const Layer::Direction* part_ = nullptr;
  float *from_input_, *from_state_, *z_, *r_, *held_, *fresh_, *h_, *c_;
};

/// Rows [first, first + rows) of a matrix [.., columns], transposed: [columns, rows].
Tensor transposed(const float* from, std::int64_t rows, std::int64_t columns) {
  Tensor out(DType::kF32, {columns, rows});
  const auto to = out.mutable_as<float>();
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) to[static_cast<std::size_t>(c * rows + r)] = from[r * columns + c];
  }
  return out;
}

bool has_usual_functions(const Node& node, std::int64_t directions) {
  const auto found = node.attributes.find("activations");
  if (found == node.attributes.end()) return true;
  const auto* names = std::get_if<std::vector<std::string>>(&found->second);
  if (names == nullptr || names->empty()) return true;
  std::vector<std::string> usual;
  for (std::int64_t d = 0; d < directions; ++d) {
    if (node.op != "RNN") usual.push_back("Sigmoid");
    usual.push_back("Tanh");
    if (node.op == "LSTM") usual.push_back("Tanh");
  }
  return *names == usual;
}

/// The values of input i where it is constant; nullptr otherwise.
const float* constant_floats(Values& values, const Node& node, std::size_t i) {
  if (!node.has_input(i) || values.info(node.inputs[i]).dtype != DType::kF32) return nullptr;
  const auto rep = values.as(node.inputs[i], DType::kF32, Layout::kPlain);
  if (!rep.has_value()) return nullptr;
  const Plan& plan = values.plan();
  return reinterpret_cast<const float*>(plan.slots[static_cast<std::size_t>(plan.root(rep->slot))].constant);
}

void prepare_weights(Values& values, Layer& l, const float* w, const float* r, const float* b, const float* p) {
  const std::int64_t width = l.width();
  const std::int64_t h = l.hidden;
  for (std::int64_t d = 0; d < l.directions; ++d) {
    Layer::Direction& part = l.parts[static_cast<std::size_t>(d)];
    part.w = values.constant_slot(transposed(w + d * width * l.input, width, l.input));
    part.r = values.constant_slot(transposed(r + d * width * h, l.state_width(), h));
    Tensor bias(DType::kF32, {width});
    Tensor bias_new(DType::kF32, {h});
    if (b != nullptr) {
      const float* own = b + d * 2 * width;
      for (std::int64_t k = 0; k < width; ++k) {
        const bool apart = l.gates == 3 && k >= 2 * h;
        bias.mutable_as<float>()[static_cast<std::size_t>(k)] = apart ? own[k] : own[k] + own[width + k];
        if (apart) bias_new.mutable_as<float>()[static_cast<std::size_t>(k - 2 * h)] = own[width + k];
      }
    }
    part.bias = values.constant_slot(bias);
    if (l.gates == 3) {
      part.r_new = values.constant_slot(transposed(r + d * width * h + 2 * h * h, h, h));
      part.bias_new = values.constant_slot(bias_new);
    }
    if (p != nullptr) part.peepholes = values.constant_slot(Tensor::f32({3 * h}, std::vector<float>(p + d * 3 * h, p + (d + 1) * 3 * h)));
  }
}

}  // namespace

Result<bool> lower_recurrent(Values& values, const Node& node) {
  if (node.op != "LSTM" && node.op != "GRU" && node.op != "RNN") return false;
  const Shape shape = values.info(node.inputs[0]).shape;
  const Shape states = values.info(node.inputs[2]).shape;
  if (shape.size() != 3 || states.size() != 3 || !has_full_inputs(values, node) || values.info(node.inputs[0]).dtype != DType::kF32) return false;
  Layer l;
  l.gates = node.op == "LSTM" ? 4 : node.op == "GRU" ? 3 : 1;
  const std::string direction = node.text("direction", "forward");
  l.directions = direction == "bidirectional" ? 2 : 1;
  l.reverse = direction == "reverse";
  l.rows = node.integer("layout", 0) != 0;
  l.sequence = shape[l.rows ? 1 : 0];
  l.batch = shape[l.rows ? 0 : 1];
  l.input = shape[2];
  l.hidden = states[2];
  l.reset_after = node.integer("linear_before_reset", 0) != 0;
  l.threads = values.threads();
  if (!has_usual_functions(node, l.directions) || node.real("clip", 0.0F) > 0 || node.integer("input_forget", 0) != 0) return false;
  const auto holds = [&](std::size_t i, std::int64_t elements) {
    return !node.has_input(i) || graph::element_count(values.info(node.inputs[i]).shape) == elements;
  };
  const std::int64_t state = l.directions * l.batch * l.hidden;
  if (!holds(1, l.directions * l.width() * l.input) || !holds(2, l.directions * l.width() * l.hidden) || !holds(3, l.directions * 2 * l.width()) ||
      !holds(4, l.batch) || !holds(5, state) || !holds(6, state) || !holds(7, l.directions * 3 * l.hidden)) {
    return false;
  }
  const float* w = constant_floats(values, node, 1);
  const float* r = constant_floats(values, node, 2);
  const float* b = constant_floats(values, node, 3);
  const float* p = l.gates == 4 ? constant_floats(values, node, 7) : nullptr;
  if (w == nullptr || r == nullptr || (node.has_input(3) && b == nullptr) || (l.gates == 4 && node.has_input(7) && p == nullptr)) return false;
  std::vector<SlotId> reads;
  const auto input = [&](std::size_t i, DType dtype, SlotId& slot) -> Result<bool> {
    if (!node.has_input(i)) return true;
    if (values.info(node.inputs[i]).dtype != dtype) return false;
    KERF_ASSIGN(const Rep rep, plain_input(values, node.inputs[i]));
    slot = rep.slot;
    reads.push_back(slot);
    return true;
  };
  KERF_ASSIGN(bool fits, input(0, DType::kF32, l.x));
  KERF_ASSIGN(const bool lengths_fit, input(4, DType::kS32, l.lengths));
  KERF_ASSIGN(const bool h_fits, input(5, DType::kF32, l.first_h));
  fits = fits && lengths_fit && h_fits;
  if (l.gates == 4) {
    KERF_ASSIGN(const bool c_fits, input(6, DType::kF32, l.first_c));
    fits = fits && c_fits;
  }
  if (!fits) return false;
  prepare_weights(values, l, w, r, b, p);
  std::vector<SlotId> writes;
  SlotId* outputs[] = {&l.y, &l.last_h, &l.last_c};
  for (std::size_t i = 0; i < node.outputs.size() && i < 3; ++i) {
    if (node.outputs[i].empty()) continue;
    *outputs[i] = make_output(values, node, i);
    writes.push_back(*outputs[i]);
  }
  const std::int64_t scratch = l.scratch_elements() * static_cast<std::int64_t>(sizeof(float));
  values.emit(make_call("kerf:recurrent", std::move(reads), std::move(writes),
                        [l](Pointers pointers, std::byte* work) {
                          Run run(l, pointers, work);
                          for (std::int64_t d = 0; d < l.directions; ++d) run.direction(d);
                        },
                        scratch),
              node.name, node.op, "f32");
  return true;
}

}  // namespace kerf::engine
