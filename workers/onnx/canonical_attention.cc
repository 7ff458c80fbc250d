// Attention and RotaryEmbedding (opset 23) as the operators that they stand for.
#include <algorithm>
#include <cmath>
#include <limits>

#include "workers/onnx/canonical.h"

namespace kerf::onnx {
namespace {

using graph::Attribute;
using graph::DType;
using graph::Node;
using graph::Shape;
using graph::Tensor;

/// Emits helpers of a node, one after the other.
class Steps {
 public:
  Steps(Canonicalizer& c, const Node& owner) : c_(c), owner_(owner) {}

  Result<std::string> add(const std::string& op, std::vector<std::string> inputs, std::map<std::string, Attribute> attributes = {}) {
    std::string made = c_.fresh(stem() + "/" + op);
    KERF_TRY(c_.emit(Node{c_.fresh(owner_.name + "/" + op), op, "", std::move(inputs), {made}, std::move(attributes)}));
    return made;
  }
  std::string list(const char* what, const std::vector<std::int64_t>& values) {
    return c_.constant(owner_, what, Tensor::s64({static_cast<std::int64_t>(values.size())}, values));
  }
  std::string constant(const char* what, Tensor tensor) { return c_.constant(owner_, what, std::move(tensor)); }
  std::string number(const char* what, float value) { return c_.constant(owner_, what, Tensor::scalar(value)); }

  /// `value` becomes output i of the node, where that has a name.
  Result<void> give(const std::string& value, std::size_t i) {
    if (i >= owner_.outputs.size() || owner_.outputs[i].empty()) return {};
    return c_.emit(Node{c_.fresh(owner_.name + "/output"), "Identity", "", {value}, {owner_.outputs[i]}, {}});
  }

  Result<Shape> shape(const std::string& value) {
    const Node reader{owner_.name, owner_.op, "", {value}, {}, {}};
    KERF_ASSIGN(const graph::shapes::Value* known, c_.input(reader, 0));
    return known->shape;
  }
  Result<DType> dtype(const std::string& value) {
    const Node reader{owner_.name, owner_.op, "", {value}, {}, {}};
    KERF_ASSIGN(const graph::shapes::Value* known, c_.input(reader, 0));
    return known->dtype;
  }

 private:
  [[nodiscard]] std::string stem() const {
    for (const std::string& output : owner_.outputs) {
      if (!output.empty()) return output;
    }
    return owner_.name;
  }

  Canonicalizer& c_;
  const Node& owner_;
};

class Attention {
 public:
  Attention(Canonicalizer& c, const Node& node) : node_(node), steps_(c, node) {}

  Result<void> run() {
    KERF_ASSIGN(const Shape given, steps_.shape(node_.inputs[0]));
    flat_ = given.size() == 3;
    KERF_ASSIGN(std::string query, split(0, node_.integer("q_num_heads", 0)));
    KERF_ASSIGN(std::string key, split(1, node_.integer("kv_num_heads", 0)));
    KERF_ASSIGN(std::string value, split(2, node_.integer("kv_num_heads", 0)));
    std::int64_t past = 0;
    if (node_.has_input(4)) {
      KERF_ASSIGN(const Shape shape, steps_.shape(node_.inputs[4]));
      if (shape.size() != 4) return node_error(node_, "past_key must have rank 4");
      past = shape[2];
      KERF_ASSIGN(key, steps_.add("Concat", {node_.inputs[4], key}, {{"axis", std::int64_t{2}}}));
      KERF_ASSIGN(value, steps_.add("Concat", {node_.inputs[5], value}, {{"axis", std::int64_t{2}}}));
    }
    KERF_TRY(steps_.give(key, 1));
    KERF_TRY(steps_.give(value, 2));
    KERF_ASSIGN(const Shape q, steps_.shape(query));
    KERF_ASSIGN(const Shape k, steps_.shape(key));
    KERF_ASSIGN(const Shape v, steps_.shape(value));
    if (q.size() != 4 || k.size() != 4 || v.size() != 4) return node_error(node_, "query, key and value must all have rank 3, or all 4");
    if (q[1] != k[1]) {
      KERF_ASSIGN(key, repeated(key, k, q[1]));
      KERF_ASSIGN(value, repeated(value, v, q[1]));
    }
    KERF_ASSIGN(const std::string turned, steps_.add("Transpose", {key}, {{"perm", std::vector<std::int64_t>{0, 1, 3, 2}}}));
    KERF_ASSIGN(std::string scores, steps_.add("MatMul", {query, turned}));
    if (q[3] < 1 && !node_.attributes.contains("scale")) return node_unsupported(node_, "the size of a head must be known");
    const float scale = node_.real("scale", static_cast<float>(1.0 / std::sqrt(static_cast<double>(std::max<std::int64_t>(q[3], 1)))));
    KERF_ASSIGN(scores, steps_.add("Mul", {scores, steps_.number("scale", scale)}));
    const std::int64_t mode = node_.integer("qk_matmul_output_mode", 0);
    if (mode == 0) KERF_TRY(steps_.give(scores, 3));
    if (const float cap = node_.real("softcap", 0.0F); cap > 0.0F) {
      KERF_ASSIGN(scores, steps_.add("Div", {scores, steps_.number("softcap", cap)}));
      KERF_ASSIGN(scores, steps_.add("Tanh", {scores}));
      KERF_ASSIGN(scores, steps_.add("Mul", {scores, steps_.number("softcap", cap)}));
    }
    if (mode == 1) KERF_TRY(steps_.give(scores, 3));
    KERF_TRY(read_masks(q[2], k[2], past));
    KERF_ASSIGN(scores, masked(scores));
    if (mode == 2) KERF_TRY(steps_.give(scores, 3));
    KERF_ASSIGN(std::string shares, steps_.add("Softmax", {scores}, {{"axis", std::int64_t{-1}}}));
    KERF_ASSIGN(shares, without_blind(shares));
    if (mode == 3) KERF_TRY(steps_.give(shares, 3));
    KERF_ASSIGN(std::string mixed, steps_.add("MatMul", {shares, value}));
    if (flat_) {
      KERF_ASSIGN(mixed, steps_.add("Transpose", {mixed}, {{"perm", std::vector<std::int64_t>{0, 2, 1, 3}}}));
      KERF_ASSIGN(mixed, steps_.add("Reshape", {mixed, steps_.list("joined", {0, 0, -1})}));
    }
    return steps_.give(mixed, 0);
  }

 private:
  /// Input i as [batch, heads, length, size].
  Result<std::string> split(std::size_t i, std::int64_t heads) {
    if (!node_.has_input(i)) return node_error(node_, "query, key and value must be given");
    if (!flat_) return node_.inputs[i];
    KERF_ASSIGN(const Shape shape, steps_.shape(node_.inputs[i]));
    if (heads < 1 || shape.size() != 3 || (shape[2] > 0 && shape[2] % heads != 0)) {
      return node_error(node_, "an input of shape " + graph::to_string(shape) + " doesn't split into " + std::to_string(heads) + " heads");
    }
    const std::int64_t size = shape[2] > 0 ? shape[2] / heads : -1;
    KERF_ASSIGN(const std::string parts, steps_.add("Reshape", {node_.inputs[i], steps_.list("heads", {0, 0, heads, size})}));
    return steps_.add("Transpose", {parts}, {{"perm", std::vector<std::int64_t>{0, 2, 1, 3}}});
  }

  /// Each head as often as there are queries' heads for it, one after the other.
  Result<std::string> repeated(const std::string& value, const Shape& shape, std::int64_t heads) {
    if (heads < 1 || shape[1] < 1 || heads % shape[1] != 0 || shape[3] < 1) {
      return node_error(node_, std::to_string(heads) + " heads of queries don't share " + std::to_string(shape[1]) + " of keys and values");
    }
    KERF_ASSIGN(const std::string apart, steps_.add("Unsqueeze", {value, steps_.list("axes", {2})}));
    KERF_ASSIGN(const std::string often, steps_.add("Expand", {apart, steps_.list("times", {1, 1, heads / shape[1], 1, 1})}));
    return steps_.add("Reshape", {often, steps_.list("heads", {0, heads, -1, shape[3]})});
  }

  /// Which keys each query sees: attn_mask and is_causal as one, a truth or an addend a score.
  Result<void> read_masks(std::int64_t queries, std::int64_t keys, std::int64_t past) {
    hidden_ = steps_.number("hidden", -std::numeric_limits<float>::infinity());
    if (node_.has_input(3)) {
      KERF_ASSIGN(mask_, whole_mask(keys));
      KERF_ASSIGN(const DType dtype, steps_.dtype(mask_));
      addend_ = dtype == DType::kF32;
    }
    if (node_.integer("is_causal", 0) == 0) return {};
    constexpr std::int64_t kMost = 1 << 26;
    if (queries < 1 || keys < 1 || past < 0 || queries > kMost / keys) {
      return node_unsupported(node_, "with is_causal the lengths of queries and keys must be known");
    }
    std::vector<std::uint8_t> seen(static_cast<std::size_t>(queries * keys));
    for (std::int64_t i = 0; i < queries; ++i) {
      for (std::int64_t j = 0; j < keys; ++j) seen[static_cast<std::size_t>(i * keys + j)] = j <= i + past ? 1 : 0;
    }
    const std::string causal = steps_.constant("seen", Tensor::of(DType::kBool, {queries, keys}, seen));
    if (mask_.empty()) {
      mask_ = causal;
      return {};
    }
    KERF_ASSIGN(mask_, addend_ ? steps_.add("Where", {causal, mask_, hidden_}) : steps_.add("And", {mask_, causal}));
    return {};
  }

  /// attn_mask over all keys: those that it doesn't reach aren't seen.
  Result<std::string> whole_mask(std::int64_t keys) {
    const std::string mask = node_.inputs[3];
    KERF_ASSIGN(const DType dtype, steps_.dtype(mask));
    KERF_ASSIGN(const Shape shape, steps_.shape(mask));
    if (dtype != DType::kBool && dtype != DType::kF32) return node_error(node_, "attn_mask must be bool or floating point");
    const std::int64_t more = shape.empty() || shape.back() < 2 || keys < 0 ? 0 : keys - shape.back();
    if (more <= 0) return mask;
    std::vector<std::int64_t> pads(2 * shape.size(), 0);
    pads.back() = more;
    if (dtype == DType::kF32) return steps_.add("Pad", {mask, steps_.list("pads", pads), hidden_});
    // Pad moves numbers.
    KERF_ASSIGN(std::string number, steps_.add("Cast", {mask}, {{"to", std::int64_t{2}}}));
    KERF_ASSIGN(number, steps_.add("Pad", {number, steps_.list("pads", pads)}));
    return steps_.add("Cast", {number}, {{"to", std::int64_t{9}}});
  }

  /// The scores with what mustn't be seen at minus infinity.
  Result<std::string> masked(const std::string& scores) {
    if (mask_.empty()) return scores;
    return addend_ ? steps_.add("Add", {scores, mask_}) : steps_.add("Where", {mask_, scores, hidden_});
  }

  /// The shares of a query that sees nothing are 0. is_causal alone always leaves it a key.
  Result<std::string> without_blind(const std::string& shares) {
    if (!node_.has_input(3)) return shares;
    const std::string last = steps_.list("axes", {-1});
    std::string sees;
    if (addend_) {
      KERF_ASSIGN(const std::string best, steps_.add("ReduceMax", {mask_, last}));
      KERF_ASSIGN(sees, steps_.add("Greater", {best, hidden_}));
    } else {
      KERF_ASSIGN(const std::string numbers, steps_.add("Cast", {mask_}, {{"to", std::int64_t{6}}}));
      KERF_ASSIGN(const std::string best, steps_.add("ReduceMax", {numbers, last}));
      KERF_ASSIGN(sees, steps_.add("Cast", {best}, {{"to", std::int64_t{9}}}));
    }
    return steps_.add("Where", {sees, shares, steps_.number("nothing", 0.0F)});
  }

  const Node& node_;
  Steps steps_;
  bool flat_ = false;
  std::string mask_;     ///< Empty: every key is seen.
  bool addend_ = false;  ///< The mask is added rather than a truth.
  std::string hidden_;   ///< Minus infinity.
};

Result<void> attention(Canonicalizer& c, Node node) {
  if (node.inputs.size() < 3 || node.outputs.empty()) return node_error(node, "needs query, key and value");
  if (node.has_input(4) != node.has_input(5)) return node_error(node, "past_key and past_value go together");
  if (node.has_input(6)) return node_unsupported(node, "nonpad_kv_seqlen is not supported; give a mask instead");
  for (const char* window : {"left_window_size", "right_window_size"}) {
    if (node.integer(window, -1) >= 0) return node_unsupported(node, "windows are not supported; give a mask instead");
  }
  return Attention(c, node).run();
}

/// Pairs of numbers, turned by the angle of their place.
class Rotation {
 public:
  Rotation(Canonicalizer& c, const Node& node) : node_(node), steps_(c, node) {}

  Result<void> run() {
    KERF_ASSIGN(const Shape given, steps_.shape(node_.inputs[0]));
    const bool flat = given.size() == 3;
    if (!flat && given.size() != 4) return node_error(node_, "its input must have rank 3 or 4");
    std::string x = node_.inputs[0];
    std::int64_t size = given.back();
    if (flat) {
      const std::int64_t heads = node_.integer("num_heads", 0);
      if (heads < 1 || size < 1 || size % heads != 0) return node_error(node_, "num_heads doesn't fit an input of shape " + graph::to_string(given));
      size /= heads;
      KERF_ASSIGN(x, steps_.add("Reshape", {x, steps_.list("heads", {0, 0, heads, size})}));
    }
    std::int64_t turned = node_.integer("rotary_embedding_dim", 0);
    if (turned == 0) turned = size;
    if (size < 1 || turned < 2 || turned > size || turned % 2 != 0) {
      return node_error(node_, "cannot turn " + std::to_string(turned) + " of " + std::to_string(size) + " numbers a head");
    }
    // Heads come before places in rank 4, after them in rank 3.
    const std::int64_t axis = flat ? 2 : 1;
    KERF_ASSIGN(const std::string cosine, angles(1, axis));
    KERF_ASSIGN(const std::string sine, angles(2, axis));
    const bool interleaved = node_.integer("interleaved", 0) != 0;
    KERF_ASSIGN(const std::string first, part(x, 0, interleaved ? turned : turned / 2, interleaved ? 2 : 1));
    KERF_ASSIGN(const std::string second, part(x, interleaved ? 1 : turned / 2, turned, interleaved ? 2 : 1));
    KERF_ASSIGN(const std::string a, steps_.add("Mul", {first, cosine}));
    KERF_ASSIGN(const std::string b, steps_.add("Mul", {second, sine}));
    KERF_ASSIGN(std::string real, steps_.add("Sub", {a, b}));
    KERF_ASSIGN(const std::string d, steps_.add("Mul", {first, sine}));
    KERF_ASSIGN(const std::string e, steps_.add("Mul", {second, cosine}));
    KERF_ASSIGN(std::string imaginary, steps_.add("Add", {d, e}));
    std::string y;
    if (interleaved) {
      KERF_ASSIGN(real, steps_.add("Unsqueeze", {real, steps_.list("axes", {4})}));
      KERF_ASSIGN(imaginary, steps_.add("Unsqueeze", {imaginary, steps_.list("axes", {4})}));
      KERF_ASSIGN(y, steps_.add("Concat", {real, imaginary}, {{"axis", std::int64_t{4}}}));
      KERF_ASSIGN(y, steps_.add("Reshape", {y, steps_.list("pairs", {0, 0, 0, turned})}));
    } else {
      KERF_ASSIGN(y, steps_.add("Concat", {real, imaginary}, {{"axis", std::int64_t{3}}}));
    }
    if (turned < size) {
      KERF_ASSIGN(const std::string rest, part(x, turned, size, 1));
      KERF_ASSIGN(y, steps_.add("Concat", {y, rest}, {{"axis", std::int64_t{3}}}));
    }
    if (flat) {
      KERF_ASSIGN(y, steps_.add("Reshape", {y, steps_.list("joined", {0, 0, given.back()})}));
    }
    return steps_.give(y, 0);
  }

 private:
  /// A table's rows for the places, with an axis for the heads.
  Result<std::string> angles(std::size_t table, std::int64_t axis) {
    std::string rows = node_.inputs[table];
    if (node_.has_input(3)) {
      KERF_ASSIGN(rows, steps_.add("Gather", {rows, node_.inputs[3]}, {{"axis", std::int64_t{0}}}));
    }
    return steps_.add("Unsqueeze", {rows, steps_.list("axes", {axis})});
  }

  Result<std::string> part(const std::string& x, std::int64_t first, std::int64_t end, std::int64_t step) {
    return steps_.add("Slice", {x, steps_.list("start", {first}), steps_.list("end", {end}), steps_.list("axis", {3}), steps_.list("step", {step})});
  }

  const Node& node_;
  Steps steps_;
};

Result<void> rotary_embedding(Canonicalizer& c, Node node) {
  if (!node.has_input(0) || !node.has_input(1) || !node.has_input(2) || node.outputs.size() != 1) {
    return node_error(node, "needs an input, cosines and sines, and gives one output");
  }
  return Rotation(c, node).run();
}

}  // namespace

void add_attention_rules(CanonicalRules& rules) {
  rules["Attention"] = attention;
  rules["RotaryEmbedding"] = rotary_embedding;
}

}  // namespace kerf::onnx
