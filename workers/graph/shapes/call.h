#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/result.h"
#include "workers/graph/graph.h"

/// Shape inference from the inside: what one op's rule sees and says. Only workers/graph and the
/// model reader include this.
namespace kerf::graph::shapes {

/// Inside inference a dimension is >= 0, kUnknown, or a symbol: a free dimension of an input, which
/// equals every other dimension with the same symbol.
constexpr std::int64_t kUnknown = -1;
constexpr std::int64_t kBatchSymbol = -2;  ///< The free first dimension of the inputs.
constexpr std::size_t kMaxRank = 16;
constexpr std::int64_t kMaxFollowed = 1024;  ///< Elements of a tensor whose contents are followed.
constexpr std::int64_t kMaxFollowedFloats = 64;  ///< The same for constants: scales, not weights.

/// One element of a tensor that is known before anything runs. A long double holds every s64.
struct Element {
  long double value = 0;
  std::int64_t symbol = 0;  ///< 0: `value` counts; kUnknown; else the symbol that it equals.

  [[nodiscard]] bool known() const { return symbol == 0; }
  friend bool operator==(const Element&, const Element&) = default;
};
using Elements = std::vector<Element>;

/// What is known of a value: its type, and its contents where they are shape arithmetic.
struct Value {
  DType dtype = DType::kF32;
  Shape shape;
  std::shared_ptr<const Elements> elements;  ///< Null: contents are not followed.
};

[[nodiscard]] bool is_float(DType dtype);
/// The canonical type that ONNX's number stands for (f16, bf16 and f64 are f32); nullopt for others.
[[nodiscard]] std::optional<DType> dtype_of_code(std::int64_t code);
[[nodiscard]] std::int64_t to_dim(const Element& element);
[[nodiscard]] Element to_element(std::int64_t dim);

/// Product of dimensions: known, one symbol times ones, or kUnknown; nullopt on overflow (2^40).
[[nodiscard]] std::optional<std::int64_t> product(const Shape& dims);

/// A call of an op with its inputs resolved.
struct Call {
  const Node& node;
  std::vector<const Value*> in;  ///< Null where an optional input is left out.
  std::vector<Value> out;        ///< One for each of the node's outputs.
  bool follow = true;            ///< Whether contents computed here are still kept.

  [[nodiscard]] bool has(std::size_t i) const { return i < in.size() && in[i] != nullptr; }
  [[nodiscard]] const Shape& shape(std::size_t i) const { return in[i]->shape; }
  [[nodiscard]] std::int64_t rank(std::size_t i) const {
    return static_cast<std::int64_t>(in[i]->shape.size());
  }
  [[nodiscard]] DType dtype(std::size_t i) const { return in[i]->dtype; }
  [[nodiscard]] const Elements* elements(std::size_t i) const {
    return has(i) ? in[i]->elements.get() : nullptr;
  }
  void set(std::size_t i, DType dtype, Shape shape,
           std::shared_ptr<const Elements> elements = nullptr);

  /// invalid_argument "node Conv 'c1': <why> (inputs x [1, 3], w [4, 3, 3, 3])".
  [[nodiscard]] Error fail(const std::string& why) const;

  /// `axis` as 0 … rank-1 (or … rank where `end` is allowed).
  [[nodiscard]] Result<std::int64_t> axis(std::int64_t axis, std::int64_t rank) const;

  /// The contents of input i as integers, all known.
  [[nodiscard]] Result<std::vector<std::int64_t>> integers(std::size_t i, const char* what) const;

  /// Input i has one of these ranks.
  [[nodiscard]] Result<void> want_rank(std::size_t i, std::int64_t least, std::int64_t most) const;
  [[nodiscard]] Result<void> want_same_dtype(std::size_t a, std::size_t b) const;
};

using Rule = Result<void> (*)(Call&);
struct Op {
  Rule rule = nullptr;
  std::size_t least_inputs = 1;
  std::size_t most_inputs = 1;
  std::size_t most_outputs = 1;
};
using Registry = std::unordered_map<std::string, Op>;

constexpr std::size_t kAny = 1U << 20U;

/// Each family puts its rules into the registry (one .cc file a family).
void register_elementwise(Registry& registry);
void register_convolution(Registry& registry);
void register_matrix(Registry& registry);
void register_normalization(Registry& registry);
void register_reduction(Registry& registry);
void register_layout(Registry& registry);
void register_selection(Registry& registry);
void register_resampling(Registry& registry);
void register_contents(Registry& registry);
void register_quantization(Registry& registry);
void register_recurrent(Registry& registry);
void register_sampling(Registry& registry);

[[nodiscard]] const Registry& registry();

/// NumPy's rule for two shapes; nullopt where they don't fit.
[[nodiscard]] std::optional<Shape> broadcast(const Shape& a, const Shape& b);

/// Whether two dimensions may be the same (an unknown one may be anything).
[[nodiscard]] inline bool compatible(std::int64_t a, std::int64_t b) {
  return a < 0 || b < 0 || a == b;
}

/// The more definite of two dimensions that have to be equal.
[[nodiscard]] inline std::int64_t merge(std::int64_t a, std::int64_t b) {
  if (a >= 0 || b == kUnknown) return a;
  if (b >= 0 || a == kUnknown) return b;
  return a == b ? a : kUnknown;
}

/// Infers node by node. The graph's initializers and inputs are looked at when a node reads them,
/// so that a reader can add both between two nodes.
class Inference {
 public:
  explicit Inference(const Graph& graph) : graph_(graph) {}

  /// Takes over the graph's inputs; dimension 0 is `batch` where that is positive.
  [[nodiscard]] Result<void> begin(std::int64_t batch = 0);

  /// Infers one node; all it reads must be there.
  [[nodiscard]] Result<void> infer(const Node& node);

  /// What is known of a value; valid until the next infer().
  [[nodiscard]] const Value* find(const std::string& name);

  /// All inputs and outputs of nodes, symbols as -1.
  void store(std::map<std::string, ValueInfo>& values) const;

  /// store(), and the types of the graph's outputs. `graph` is the one that inference ran on.
  [[nodiscard]] Result<void> finish(Graph& graph);

 private:
  [[nodiscard]] static Value from_constant(const Tensor& tensor);

  const Graph& graph_;
  std::unordered_map<std::string, Value> values_;
  std::unordered_map<std::string, Value> constants_;  ///< Those that the last node read.
  std::int64_t next_symbol_ = kBatchSymbol - 1;
  std::int64_t budget_ = 2'000'000;  ///< Computed elements that are kept, over all nodes.
};

}  // namespace kerf::graph::shapes
