#pragma once

#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "workers/engine/plan.h"
#include "workers/graph/graph.h"

namespace kerf::engine::training {

/// Zero-filled floats on a boundary of 64 bytes.
class Floats {
 public:
  Floats() = default;
  explicit Floats(std::size_t count);
  [[nodiscard]] float* get() const { return data_.get(); }

 private:
  struct Free {
    void operator()(float* data) const { std::free(data); }
  };
  std::unique_ptr<float[], Free> data_;
};

/// A value of the graph for one batch, with the gradient of the loss by it.
struct Value {
  graph::Shape dims;  ///< ONNX's order.
  Layout layout = Layout::kPlain;
  bool wants_gradient = false;
  bool rounded = false;  ///< What a QuantizeLinear and a DequantizeLinear behind it give is this.
  std::size_t count = 0;
  float* data = nullptr;
  float* gradient = nullptr;
  Floats data_memory;
  Floats gradient_memory;
  Value* gradient_shared_with = nullptr;  ///< Its gradient may lie there: nobody else needs that.

  [[nodiscard]] std::int64_t dim(std::size_t axis) const { return dims.at(axis); }
  /// In elements, in ONNX's order of the axes.
  [[nodiscard]] graph::Shape strides() const;
};

/// Where an op puts the gradient of one of its inputs.
struct Sink {
  Value* value = nullptr;
  bool accumulate = false;  ///< Another op has put its part there before.

  [[nodiscard]] bool wanted() const { return value != nullptr && value->wants_gradient; }
  [[nodiscard]] float* to() const { return value->gradient; }
};

/// An operator in both directions.
class Op {
 public:
  virtual ~Op() = default;
  /// Called once, when all values have their memory.
  virtual void bind() {}
  virtual void forward() = 0;
  virtual void backward() = 0;
  [[nodiscard]] virtual std::vector<Sink*> sinks() = 0;
  /// The input whose gradient may be written over that of the output; null for none.
  [[nodiscard]] virtual Sink* in_place() { return nullptr; }
  [[nodiscard]] virtual Value* output() const { return nullptr; }

  std::vector<std::string> kernels;
};

/// A graph of static shapes while it is turned into ops, and these ops.
class Network {
 public:
  Network(const graph::Graph& graph, int threads) : graph_(graph), threads_(threads) {}

  [[nodiscard]] const graph::Graph& graph() const { return graph_; }
  [[nodiscard]] int threads() const { return threads_; }

  [[nodiscard]] Value* make(graph::Shape dims, Layout layout, bool wants_gradient);

  /// A value by name; a constant becomes one when it is first asked for.
  [[nodiscard]] Result<Value*> value(const graph::Node& reader, std::size_t input);
  /// The same in that layout, of rank 3 and more.
  [[nodiscard]] Value* in_layout(Value* value, Layout layout);
  [[nodiscard]] Result<Value*> value(const graph::Node& reader, std::size_t input, Layout layout);
  /// A constant that is learnt.
  [[nodiscard]] Result<Value*> parameter(const graph::Node& reader, std::size_t input);

  /// Names what a node gives.
  void set(const std::string& name, Value* value) { by_name_[name] = value; }
  [[nodiscard]] Value* find(const std::string& name) const;
  void add(std::unique_ptr<Op> op) { ops_.push_back(std::move(op)); }

  /// Decides who adds to a gradient and who writes it first, and gives all values their memory.
  /// `outputs` are values whose gradient the caller writes.
  void finish(const std::vector<Value*>& outputs);

  struct Learnt {
    std::string name;
    std::string node;
    std::size_t input = 0;
    Value* value = nullptr;
  };
  [[nodiscard]] const std::vector<Learnt>& learnt() const { return learnt_; }
  [[nodiscard]] const std::vector<std::unique_ptr<Op>>& ops() const { return ops_; }

 private:
  const graph::Graph& graph_;
  int threads_;
  std::vector<std::unique_ptr<Value>> values_;
  std::map<std::string, Value*> by_name_;
  std::map<std::pair<Value*, Layout>, Value*> converted_;
  std::vector<std::unique_ptr<Op>> ops_;
  std::vector<Learnt> learnt_;
};

[[nodiscard]] Error no_gradient(const graph::Node& node, const std::string& why);

// One function a family of ops; false where the node isn't one of its.
[[nodiscard]] Result<bool> add_layer(Network& network, const graph::Node& node);      // layers.cc
[[nodiscard]] Result<bool> add_pool(Network& network, const graph::Node& node);       // pools.cc
[[nodiscard]] Result<bool> add_pointwise(Network& network, const graph::Node& node);  // pointwise.cc
[[nodiscard]] Result<bool> add_binary(Network& network, const graph::Node& node);     // binary.cc
[[nodiscard]] Result<bool> add_mover(Network& network, const graph::Node& node);      // movers.cc

/// A copy between layouts.
[[nodiscard]] std::unique_ptr<Op> make_relayout(Value* from, Value* to);  // movers.cc
/// Rounding to bf16 with the gradient 1.
[[nodiscard]] std::unique_ptr<Op> make_bf16_rounding(Value* from, Value* to, int threads);  // pointwise.cc

}  // namespace kerf::engine::training
