// Einsum, operand after operand, as transposes, sums, matrix products and products of elements.
#include <algorithm>
#include <set>

#include "workers/graph/einsum.h"
#include "workers/onnx/canonical.h"

namespace kerf::onnx {
namespace {

using graph::Node;
using graph::Shape;
using graph::Tensor;

/// A value whose axes have letters.
struct Operand {
  std::string value;
  std::string letters;
  Shape dims;  ///< -1 or below where one isn't known.
};

/// The letters of `text` that stand in `in` (or don't).
std::string filtered(const std::string& text, const std::string& in, bool wanted) {
  std::string out;
  for (const char letter : text) {
    if ((in.find(letter) != std::string::npos) == wanted) out += letter;
  }
  return out;
}

/// The product of dims[first, last); -1 where one isn't known.
std::int64_t product(const Shape& dims, std::size_t first, std::size_t last) {
  std::int64_t out = 1;
  for (std::size_t i = first; i < last; ++i) {
    if (dims[i] < 0) return -1;
    out *= dims[i];
  }
  return out;
}

/// Emits the steps; with `dry` it only counts them, so that a form that isn't taken leaves nothing behind.
class Expansion {
 public:
  Expansion(Canonicalizer& c, const Node& owner, bool dry, std::size_t total) : c_(c), owner_(owner), dry_(dry), total_(total) {}

  /// All operands as one in the order of the output's letters. False for a form that isn't taken.
  Result<bool> run(const graph::Einsum& equation, const std::vector<Shape>& shapes) {
    Operand all{owner_.inputs[0], equation.inputs[0], shapes[0]};
    for (std::size_t i = 1; i < shapes.size(); ++i) {
      last_pair_ = i + 1 == shapes.size();
      std::string keep = equation.output;
      for (std::size_t k = i + 1; k < shapes.size(); ++k) keep += equation.inputs[k];
      KERF_ASSIGN(auto both, joined(std::move(all), {owner_.inputs[i], equation.inputs[i], shapes[i]}, keep));
      if (!both) return false;
      all = std::move(*both);
    }
    KERF_ASSIGN(all, summed(std::move(all), equation.output));
    KERF_ASSIGN(all, turned(std::move(all), equation.output));
    if (count_ == 0) KERF_TRY(emit("Identity", {all.value}, {}));
    return true;
  }

  [[nodiscard]] std::size_t count() const { return count_; }

 private:

  /// `x` with its axes in the order of `letters`.
  Result<Operand> turned(Operand x, const std::string& letters) {
    if (x.letters == letters) return x;
    std::vector<std::int64_t> order;
    Shape dims;
    for (const char letter : letters) {
      order.push_back(static_cast<std::int64_t>(x.letters.find(letter)));
      dims.push_back(x.dims[x.letters.find(letter)]);
    }
    KERF_TRY(emit("Transpose", {x.value}, {{"perm", order}}));
    return Operand{last_, letters, dims};
  }

  /// Sums the letters away that aren't in `keep`.
  Result<Operand> summed(Operand x, const std::string& keep) {
    const std::string left = filtered(x.letters, keep, true);
    if (left.size() == x.letters.size()) return x;
    std::vector<std::int64_t> axes;
    Shape dims;
    for (std::size_t i = 0; i < x.letters.size(); ++i) {
      if (keep.find(x.letters[i]) == std::string::npos) axes.push_back(static_cast<std::int64_t>(i));
      else dims.push_back(x.dims[i]);
    }
    KERF_TRY(emit("ReduceSum", {x.value, constant("axes", axes)}, {{"keepdims", std::int64_t{0}}}));
    return Operand{last_, left, dims};
  }

  /// Two operands as one; letters that `keep` doesn't hold are summed away. nullopt where a shape that
  /// isn't known would have to be.
  Result<std::optional<Operand>> joined(Operand a, Operand b, const std::string& keep) {
    KERF_ASSIGN(a, summed(std::move(a), keep + b.letters));
    KERF_ASSIGN(b, summed(std::move(b), keep + a.letters));
    const std::string common = filtered(a.letters, b.letters, true);
    const std::string batch = filtered(common, keep, true);
    const std::string inner = filtered(common, keep, false);
    const std::string rows = filtered(a.letters, b.letters, false);
    const std::string columns = filtered(b.letters, a.letters, false);
    for (const char letter : inner) {
      // One that is spread over the other isn't a sum of products.
      const std::int64_t of_a = a.dims[a.letters.find(letter)];
      const std::int64_t of_b = b.dims[b.letters.find(letter)];
      if (of_a != of_b && (of_a == 1 || of_b == 1)) return std::optional<Operand>();
    }
    KERF_ASSIGN(a, turned(std::move(a), batch + rows + inner));
    KERF_ASSIGN(b, turned(std::move(b), batch + inner + columns));
    Operand out;
    out.letters = batch + rows + columns;
    for (std::size_t i = 0; i < batch.size(); ++i) out.dims.push_back(a.dims[i] == 1 ? b.dims[i] : a.dims[i]);
    out.dims.insert(out.dims.end(), a.dims.begin() + static_cast<std::ptrdiff_t>(batch.size()), a.dims.begin() + static_cast<std::ptrdiff_t>(batch.size() + rows.size()));
    out.dims.insert(out.dims.end(), b.dims.begin() + static_cast<std::ptrdiff_t>(batch.size() + inner.size()), b.dims.end());
    if (inner.empty()) {
      KERF_ASSIGN(const std::string left, widened(a.value, a.letters.size(), columns.size()));
      KERF_ASSIGN(const std::string right, widened(b.value, batch.size(), rows.size()));
      KERF_TRY(emit("Mul", {left, right}, {}));
      out.value = last_;
      return std::optional(std::move(out));
    }
    if (rows.size() == 1 && columns.size() == 1 && inner.size() == 1) {
      KERF_TRY(emit("MatMul", {a.value, b.value}, {}));
      out.value = last_;
      return std::optional(std::move(out));
    }
    return through_matrices(a, b, out, {batch.size(), rows.size(), inner.size(), columns.size()});
  }

  struct Counts {
    std::size_t batch, rows, inner, columns;
  };

  /// A product whose rows, columns or summed axes are several, or none: each kind as one axis.
  Result<std::optional<Operand>> through_matrices(const Operand& a, const Operand& b, Operand out, const Counts& n) {
    const std::int64_t rows = product(a.dims, n.batch, n.batch + n.rows);
    const std::int64_t depth = product(a.dims, n.batch + n.rows, a.dims.size());
    const std::int64_t deep = product(b.dims, n.batch, n.batch + n.inner);
    const std::int64_t columns = product(b.dims, n.batch + n.inner, b.dims.size());
    const std::int64_t both = depth < 0 ? deep : depth;
    // A Reshape finds out one extent by itself.
    const auto unknown = std::count_if(out.dims.begin() + static_cast<std::ptrdiff_t>(n.batch), out.dims.end(), [](std::int64_t dim) { return dim < 0; });
    if ((rows < 0 && both < 0) || (columns < 0 && both < 0) || unknown > 1) return std::optional<Operand>();
    KERF_ASSIGN(const std::string left, reshaped(a.value, n.batch, {rows, both}));
    KERF_ASSIGN(const std::string right, reshaped(b.value, n.batch, {both, columns}));
    KERF_TRY(emit("MatMul", {left, right}, {}));
    const std::string matrix = last_;
    KERF_ASSIGN(out.value, reshaped(matrix, n.batch, Shape(out.dims.begin() + static_cast<std::ptrdiff_t>(n.batch), out.dims.end())));
    return std::optional(std::move(out));
  }

  /// The first `kept` dimensions as they are, then these.
  Result<std::string> reshaped(const std::string& value, std::size_t kept, const Shape& tail) {
    std::vector<std::int64_t> dims(kept, 0);
    for (const std::int64_t dim : tail) dims.push_back(dim < 0 ? -1 : dim);
    KERF_TRY(emit("Reshape", {value, constant("shape", dims)}, {}));
    return last_;
  }

  /// `count` axes of extent 1 before the axis `at`.
  Result<std::string> widened(const std::string& value, std::size_t at, std::size_t count) {
    if (count == 0) return value;
    std::vector<std::int64_t> axes;
    for (std::size_t i = 0; i < count; ++i) axes.push_back(static_cast<std::int64_t>(at + i));
    KERF_TRY(emit("Unsqueeze", {value, constant("axes", axes)}, {}));
    return last_;
  }

  std::string constant(const char* what, const std::vector<std::int64_t>& list) {
    return dry_ ? "" : c_.constant(owner_, what, Tensor::s64({static_cast<std::int64_t>(list.size())}, list));
  }

  Result<void> emit(const std::string& op, std::vector<std::string> inputs, std::map<std::string, graph::Attribute> attributes) {
    ++count_;
    if (dry_) return {};
    // The last step makes the output; the last product is the layer that the node was.
    const bool product = last_pair_ && (op == "MatMul" || op == "Mul");
    const bool own = !named_ && (product || count_ == total_);
    named_ = named_ || own;
    last_ = count_ == total_ ? owner_.outputs[0] : c_.fresh(owner_.outputs[0] + "/" + op);
    return c_.emit(Node{own ? owner_.name : c_.fresh(owner_.name + "/" + op), op, "", std::move(inputs), {last_}, std::move(attributes)});
  }

  Canonicalizer& c_;
  const Node& owner_;
  bool dry_;
  std::size_t total_;
  std::size_t count_ = 0;
  bool last_pair_ = false;
  bool named_ = false;  ///< Whether a step has the owner's name.
  std::string last_;
};

bool repeats(const std::string& letters) { return std::set<char>(letters.begin(), letters.end()).size() != letters.size(); }

Result<void> einsum(Canonicalizer& c, Node node) {
  std::vector<std::size_t> ranks;
  std::vector<Shape> shapes;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    KERF_ASSIGN(const graph::shapes::Value* value, c.input(node, i));
    if (value->dtype != graph::DType::kF32) return c.emit(std::move(node));
    ranks.push_back(value->shape.size());
    shapes.push_back(value->shape);
  }
  const auto equation = graph::parse_einsum(node.text("equation", ""), ranks);
  // Diagonals stay what they are.
  if (!equation || node.outputs.size() != 1 || node.inputs.empty() ||
      std::any_of(equation->inputs.begin(), equation->inputs.end(), repeats)) {
    return c.emit(std::move(node));
  }
  Expansion plan(c, node, true, 0);
  KERF_ASSIGN(const bool taken, plan.run(*equation, shapes));
  if (!taken) return c.emit(std::move(node));
  Expansion steps(c, node, false, plan.count());
  KERF_TRY(steps.run(*equation, shapes));
  return {};
}

}  // namespace

void add_einsum_rules(CanonicalRules& rules) { rules["Einsum"] = einsum; }

}  // namespace kerf::onnx
