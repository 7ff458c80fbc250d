// Add, Sub, Mul and Div of two values, with broadcasting.
#include <algorithm>
#include <array>

#include "workers/engine/geometry.h"
#include "workers/engine/kernels/parallel.h"
#include "workers/engine/training/loops.h"
#include "workers/engine/training/nest.h"
#include "workers/engine/training/network.h"

namespace kerf::engine::training {

using graph::Node;
using graph::Shape;

namespace {

enum class Kind : std::uint8_t { kAdd, kSubtract, kMultiply, kDivide };

constexpr std::size_t kChunk = 1024;
using Chunk = std::array<float, kChunk>;

/// `n` elements from `from` with a stride, one after another: where they lie, or in `room`.
const float* gathered(const float* from, std::int64_t stride, std::size_t n, Chunk& room) {
  if (stride == 1 || n == 1) return from;
  if (stride == 0) {
    std::fill_n(room.begin(), n, *from);
  } else {
    for (std::size_t i = 0; i < n; ++i) room[i] = from[static_cast<std::int64_t>(i) * stride];
  }
  return room.data();
}

/// Strides of a value when broadcast to `rank` axes.
Shape broadcast(const Value& value, std::size_t rank) {
  Shape out(rank, 0);
  const Shape own = value.strides();
  for (std::size_t i = 0; i < own.size(); ++i) {
    out[rank - own.size() + i] = value.dims[i] == 1 ? 0 : own[i];
  }
  return out;
}

/// y = a ∘ b.
class Binary final : public Op {
 public:
  Binary(Kind kind, Value* a, Value* b, Value* y, int threads)
      : kind_(kind), operands_{Sink{a}, Sink{b}}, y_(y), threads_(threads) {
    const std::size_t rank = y->dims.size();
    Shape order;
    for (std::size_t i = 0; i < rank; ++i) order.push_back(static_cast<std::int64_t>(i));
    const bool last = rank > 2 && y->layout == Layout::kChannelsLast;
    if (last) std::rotate(order.begin() + 1, order.begin() + 2, order.end());
    nest_ = Nest(y->dims, {broadcast(*a, rank), broadcast(*b, rank), y->strides()}, order);
  }

  void forward() override {
    const float* a = operands_[0].value->data;
    const float* b = operands_[1].value->data;
    chunks(true, [&](const Shape& at, std::size_t n) {
      Chunk room_a, room_b;
      const float* left = gathered(a + at[0], nest_.inner_stride(0), n, room_a);
      const float* right = gathered(b + at[1], nest_.inner_stride(1), n, room_b);
      float* y = y_->data + at[2];
      switch (kind_) {
        case Kind::kAdd: loops::add(left, right, n, y); break;
        case Kind::kSubtract: loops::subtract(left, right, n, y); break;
        case Kind::kMultiply: loops::multiply(left, right, n, y, false); break;
        case Kind::kDivide:
          for (std::size_t i = 0; i < n; ++i) y[i] = left[i] / right[i];
          break;
      }
    });
  }

  void backward() override {
    for (std::size_t side = 2; side-- > 0;) {
      const Sink& sink = operands_[side];
      if (!sink.wanted() || sink.to() == y_->gradient) continue;
      const bool whole = sink.value->count == y_->count;
      if (!whole && !sink.accumulate) std::fill_n(sink.to(), sink.value->count, 0.0F);
      const bool accumulate = !whole || sink.accumulate;
      chunks(whole, [&](const Shape& at, std::size_t n) {
        Chunk part;
        float* to = sink.to() + at[side];
        const std::int64_t step = nest_.inner_stride(side);
        const float* dy = y_->gradient + at[2];
        const bool passes = kind_ == Kind::kAdd || (kind_ == Kind::kSubtract && side == 0);
        if (!passes) {
          derive(side, at, n, dy, part);
          dy = part.data();
        }
        if (step == 1 || n == 1) {
          loops::copy(dy, n, to, accumulate);
        } else if (step == 0) {
          *to += loops::sum(dy, n);
        } else {
          for (std::size_t i = 0; i < n; ++i) {
            float& place = to[static_cast<std::int64_t>(i) * step];
            place = accumulate ? place + dy[i] : dy[i];
          }
        }
      });
    }
  }

  std::vector<Sink*> sinks() override { return {&operands_[1], &operands_[0]}; }
  /// Only one side may take the gradient over: the other one copies it first.
  Sink* in_place() override {
    if (kind_ != Kind::kAdd && kind_ != Kind::kSubtract) return nullptr;
    const Value* a = operands_[0].value;
    return a != operands_[1].value && a->count == y_->count && a->layout == y_->layout ? operands_.data() : nullptr;
  }
  [[nodiscard]] Value* output() const override { return y_; }

 private:
  /// Calls f(offsets, n) for pieces of the inner axis; on the team where they don't meet.
  template <class F>
  void chunks(bool disjoint, F&& f) const {
    const auto inner = static_cast<std::size_t>(nest_.inner());
    const std::size_t pieces = (inner + kChunk - 1) / kChunk;
    nest_.for_each([&](const Shape& offsets) {
      parallel_for(pieces, kChunk, disjoint ? threads_ : 1, [&](std::size_t piece) {
        Shape at = offsets;
        const std::size_t begin = piece * kChunk;
        for (std::size_t k = 0; k < 3; ++k) at[k] += static_cast<std::int64_t>(begin) * nest_.inner_stride(k);
        f(at, std::min(kChunk, inner - begin));
      });
    });
  }

  /// The gradient by one side, element by element of y.
  void derive(std::size_t side, const Shape& at, std::size_t n, const float* dy, Chunk& out) const {
    Chunk room;
    const std::size_t other = 1 - side;
    const float* factor = gathered(operands_[other].value->data + at[other], nest_.inner_stride(other), n, room);
    switch (kind_) {
      case Kind::kAdd: break;
      case Kind::kSubtract: loops::scale(dy, -1.0F, n, out.data(), false); break;
      case Kind::kMultiply: loops::multiply(dy, factor, n, out.data(), false); break;
      case Kind::kDivide:
        if (side == 0) {
          for (std::size_t i = 0; i < n; ++i) out[i] = dy[i] / factor[i];
        } else {
          Chunk own;
          const float* divisor = gathered(operands_[1].value->data + at[1], nest_.inner_stride(1), n, own);
          const float* y = y_->data + at[2];
          for (std::size_t i = 0; i < n; ++i) out[i] = -dy[i] * y[i] / divisor[i];
        }
        break;
    }
  }

  Kind kind_;
  std::array<Sink, 2> operands_;
  Value* y_;
  int threads_;
  Nest nest_;
};

}  // namespace

Result<bool> add_binary(Network& network, const Node& node) {
  Kind kind = Kind::kAdd;
  if (node.op == "Sub") {
    kind = Kind::kSubtract;
  } else if (node.op == "Mul") {
    kind = Kind::kMultiply;
  } else if (node.op == "Div") {
    kind = Kind::kDivide;
  } else if (node.op != "Add") {
    return false;
  }
  std::array<Value*, 2> sides{};
  for (std::size_t i = 0; i < 2; ++i) {
    const graph::Tensor* constant = network.graph().constant(node.inputs.at(i));
    // A bias that stands alone is learnt like one in a layer.
    if (constant != nullptr && kind == Kind::kAdd && constant->elements() > 1) {
      KERF_ASSIGN(sides[i], network.parameter(node, i));
    } else {
      KERF_ASSIGN(sides[i], network.value(node, i));
    }
  }
  KERF_ASSIGN(const Shape dims, broadcast_shapes(sides[0]->dims, sides[1]->dims));
  Layout layout = Layout::kPlain;
  for (const Value* side : sides) {
    if (side->dims == dims && side->layout == Layout::kChannelsLast) layout = Layout::kChannelsLast;
  }
  for (Value*& side : sides) {
    if (side->dims == dims) side = network.in_layout(side, layout);
  }
  Value* y = network.make(dims, layout, sides[0]->wants_gradient || sides[1]->wants_gradient);
  network.add(std::make_unique<Binary>(kind, sides[0], sides[1], y, network.threads()));
  network.set(node.outputs[0], y);
  return true;
}

}  // namespace kerf::engine::training
