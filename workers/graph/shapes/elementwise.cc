// Unary and broadcasting ops; arithmetic on followed contents.
#include <algorithm>
#include <cmath>

#include "workers/graph/shapes/call.h"

namespace kerf::graph::shapes {
namespace {

using Shared = std::shared_ptr<const Elements>;

long double round_to(DType dtype, long double value) {
  return dtype == DType::kF32 ? static_cast<long double>(static_cast<float>(value)) : value;
}

Result<void> unary(Call& call) {
  Shared elements;
  if (const Elements* from = call.elements(0)) {
    const std::string& op = call.node.op;
    long double (*apply)(long double) = nullptr;
    if (op == "Identity" || op == "Dropout") apply = [](long double x) { return x; };
    if (op == "Neg") apply = [](long double x) { return -x; };
    if (op == "Abs") apply = [](long double x) { return std::fabs(x); };
    if (op == "Relu") apply = [](long double x) { return std::max(x, 0.0L); };
    if (op == "Floor") apply = [](long double x) { return std::floor(x); };
    if (op == "Ceil") apply = [](long double x) { return std::ceil(x); };
    if (op == "Round") apply = [](long double x) { return std::nearbyint(x); };
    if (op == "Sqrt") apply = [](long double x) { return std::sqrt(x); };
    if (apply != nullptr) {
      auto to = std::make_shared<Elements>(*from);
      for (Element& e : *to) {
        if (e.known()) {
          e.value = round_to(call.dtype(0), apply(e.value));
        } else if (op == "Neg" || op == "Sqrt") {
          e.symbol = kUnknown;
        }
      }
      elements = std::move(to);
    }
  }
  call.set(0, call.dtype(0), call.shape(0), std::move(elements));
  call.set(1, DType::kBool, call.shape(0));  // Dropout's mask
  return {};
}

Result<void> unary_float(Call& call) {
  if (!is_float(call.dtype(0))) {
    return call.fail("input has type " + std::string(to_string(call.dtype(0))) +
                     ", expected floating point");
  }
  return unary(call);
}

Result<void> to_bool(Call& call) {
  Shared elements;
  if (call.node.op == "Not") {
    if (call.dtype(0) != DType::kBool) return call.fail("input must be bool");
    if (const Elements* from = call.elements(0)) {
      auto to = std::make_shared<Elements>(*from);
      for (Element& e : *to) {
        if (e.known()) e.value = e.value == 0 ? 1 : 0;
      }
      elements = std::move(to);
    }
  }
  call.set(0, DType::kBool, call.shape(0), std::move(elements));
  return {};
}

Result<void> cast(Call& call) {
  static const std::unordered_map<std::int64_t, DType> types = {
      {1, DType::kF32},   {2, DType::kU8},   {3, DType::kS8},   {4, DType::kU16},
      {5, DType::kS16},   {6, DType::kS32},  {7, DType::kS64},  {9, DType::kBool},
      {10, DType::kF16},  {11, DType::kF64}, {12, DType::kU32}, {13, DType::kU64},
      {16, DType::kBF16}, {21, DType::kU4},  {22, DType::kS4}};
  const std::int64_t code = call.node.integer("to", 0);
  const auto to = types.find(code);
  if (to == types.end()) {
    return call.fail("attribute to = " + std::to_string(code) + " is no type that is supported");
  }
  Shared elements;
  if (const Elements* from = call.elements(0)) {
    auto values = std::make_shared<Elements>(*from);
    for (Element& e : *values) {
      if (!e.known()) continue;
      if (to->second == DType::kBool) {
        e.value = e.value != 0 ? 1 : 0;
      } else if (!is_float(to->second) && !(std::fabs(e.value) < 9.2e18L)) {
        // INT64_MAX stays itself; other huge or not finite floats have no integer value.
        if (is_float(call.dtype(0))) e.symbol = kUnknown;
      } else {
        e.value = is_float(to->second) ? round_to(to->second, e.value) : std::trunc(e.value);
      }
    }
    elements = std::move(values);
  }
  call.set(0, to->second, call.shape(0), std::move(elements));
  return {};
}

Element combine(const std::string& op, const Element& a, const Element& b, bool floats) {
  const Element unknown{0, kUnknown};
  if (!a.known() || !b.known()) {
    const Element& other = a.known() ? a : b;
    const Element& symbol = a.known() ? b : a;
    if (other.known()) {
      if (op == "Mul" && other.value == 1) return symbol;
      if (op == "Mul" && other.value == 0) return {0, 0};
      if (op == "Add" && other.value == 0) return symbol;
      if ((op == "Sub" || op == "Div") && b.known() && b.value == (op == "Sub" ? 0 : 1)) return a;
      // A free dimension is never negative: what exporters ask with it.
      if (op == "Equal" && other.value < 0 && symbol.symbol != kUnknown) return {0, 0};
      if (op == "Max" && other.value <= 0 && symbol.symbol != kUnknown) return symbol;
    } else if (a == b && a.symbol != kUnknown) {
      if (op == "Sub") return {0, 0};
      if (op == "Equal") return {1, 0};
      if (op == "Max" || op == "Min") return a;
    }
    return unknown;
  }
  const long double x = a.value;
  const long double y = b.value;
  if (op == "Add" || op == "Sum") return {x + y, 0};
  if (op == "Sub") return {x - y, 0};
  if (op == "Mul") return {x * y, 0};
  if (op == "Div") {
    if (y == 0) return unknown;
    return {floats ? x / y : std::trunc(x / y), 0};
  }
  if (op == "Mod") {
    if (y == 0 || floats) return unknown;
    const long double r = std::fmod(x, y);
    return {r != 0 && (r < 0) != (y < 0) ? r + y : r, 0};
  }
  if (op == "Pow") return {std::pow(x, y), 0};
  if (op == "Max") return {std::max(x, y), 0};
  if (op == "Min") return {std::min(x, y), 0};
  if (op == "Equal") return {x == y ? 1.0L : 0.0L, 0};
  if (op == "Less") return {x < y ? 1.0L : 0.0L, 0};
  if (op == "LessOrEqual") return {x <= y ? 1.0L : 0.0L, 0};
  if (op == "Greater") return {x > y ? 1.0L : 0.0L, 0};
  if (op == "GreaterOrEqual") return {x >= y ? 1.0L : 0.0L, 0};
  if (op == "And") return {x != 0 && y != 0 ? 1.0L : 0.0L, 0};
  if (op == "Or") return {x != 0 || y != 0 ? 1.0L : 0.0L, 0};
  if (op == "Xor") return {(x != 0) != (y != 0) ? 1.0L : 0.0L, 0};
  return unknown;
}

/// Index of the element of `from` that stands at flat index `flat` of the broadcast shape `to`.
std::size_t broadcast_index(const Shape& from, const Shape& to, std::size_t flat) {
  std::size_t index = 0;
  std::size_t stride = 1;
  for (std::size_t i = to.size(); i-- > 0;) {
    const auto size = static_cast<std::size_t>(to[i]);
    const std::size_t at = flat % size;
    flat /= size;
    if (i + from.size() < to.size()) continue;
    const auto own = static_cast<std::size_t>(from[i + from.size() - to.size()]);
    if (own != 1) index += at * stride;
    stride *= own;
  }
  return index;
}

/// The number of elements where it is small enough to follow them, else 0.
std::size_t followed(const Shape& shape) {
  const auto count = element_count(shape);
  return count && *count <= kMaxFollowed ? static_cast<std::size_t>(*count) : 0;
}

Error no_fit(const Call& call, std::size_t a, std::size_t b) {
  return call.fail("shapes " + to_string(call.shape(a)) + " and " + to_string(call.shape(b)) +
                   " don't broadcast");
}

Result<void> binary_as(Call& call, std::optional<DType> result) {
  KERF_TRY(call.want_same_dtype(0, 1));
  const auto shape = broadcast(call.shape(0), call.shape(1));
  if (!shape) return no_fit(call, 0, 1);
  const DType dtype = result.value_or(call.dtype(0));
  Shared elements;
  const std::size_t count = call.follow ? followed(*shape) : 0;
  if (count > 0 && call.elements(0) != nullptr && call.elements(1) != nullptr) {
    auto values = std::make_shared<Elements>(count);
    for (std::size_t i = 0; i < count; ++i) {
      Element e = combine(
          call.node.op, (*call.elements(0))[broadcast_index(call.shape(0), *shape, i)],
          (*call.elements(1))[broadcast_index(call.shape(1), *shape, i)], is_float(call.dtype(0)));
      if (e.known()) e.value = round_to(dtype, e.value);
      (*values)[i] = e;
    }
    elements = std::move(values);
  }
  call.set(0, dtype, *shape, std::move(elements));
  return {};
}

Result<void> arithmetic(Call& call) {
  if (call.dtype(0) == DType::kBool) return call.fail("inputs must be numbers, not bool");
  return binary_as(call, std::nullopt);
}

Result<void> compare(Call& call) { return binary_as(call, DType::kBool); }

Result<void> logical(Call& call) {
  if (call.dtype(0) != DType::kBool) return call.fail("inputs must be bool");
  return binary_as(call, DType::kBool);
}

Result<void> bitwise(Call& call) {
  if (is_float(call.dtype(0)) || call.dtype(0) == DType::kBool)
    return call.fail("inputs must be integers");
  if (call.in.size() == 1) {
    call.set(0, call.dtype(0), call.shape(0));
    return {};
  }
  if (call.node.op == "BitShift") {
    const std::string direction = call.node.text("direction", "");
    if (direction != "LEFT" && direction != "RIGHT")
      return call.fail("direction must be LEFT or RIGHT");
    const DType dtype = call.dtype(0);
    if (dtype != DType::kU8 && dtype != DType::kU16 && dtype != DType::kU32 && dtype != DType::kU64)
      return call.fail("inputs must be unsigned integers");
  }
  return binary_as(call, std::nullopt);
}

/// The exponent may have a type of its own.
Result<void> power(Call& call) {
  const auto shape = broadcast(call.shape(0), call.shape(1));
  if (!shape) return no_fit(call, 0, 1);
  call.set(0, call.dtype(0), *shape);
  return {};
}

Result<void> n_ary(Call& call) {
  if (call.in.size() == 2 && call.node.op != "Mean") return arithmetic(call);
  Shape shape = call.shape(0);
  for (std::size_t i = 1; i < call.in.size(); ++i) {
    if (!call.has(i)) return call.fail("input " + std::to_string(i) + " must be given");
    KERF_TRY(call.want_same_dtype(0, i));
    const auto next = broadcast(shape, call.shape(i));
    if (!next) return no_fit(call, 0, i);
    shape = *next;
  }
  call.set(0, call.dtype(0), shape, call.in.size() == 1 ? call.in[0]->elements : nullptr);
  return {};
}

Result<void> where(Call& call) {
  if (call.dtype(0) != DType::kBool) return call.fail("condition must be bool");
  KERF_TRY(call.want_same_dtype(1, 2));
  const auto values = broadcast(call.shape(1), call.shape(2));
  if (!values) return no_fit(call, 1, 2);
  const auto shape = broadcast(call.shape(0), *values);
  if (!shape) return no_fit(call, 0, 1);
  Shared elements;
  const std::size_t count = call.follow ? followed(*shape) : 0;
  if (count > 0 && call.elements(0) != nullptr && call.elements(1) != nullptr &&
      call.elements(2) != nullptr) {
    auto chosen = std::make_shared<Elements>(count);
    for (std::size_t i = 0; i < count; ++i) {
      const Element& condition = (*call.elements(0))[broadcast_index(call.shape(0), *shape, i)];
      const Element& yes = (*call.elements(1))[broadcast_index(call.shape(1), *shape, i)];
      const Element& no = (*call.elements(2))[broadcast_index(call.shape(2), *shape, i)];
      (*chosen)[i] = condition.known() ? (condition.value != 0 ? yes : no)
                     : yes == no       ? yes
                                       : Element{0, kUnknown};
    }
    elements = std::move(chosen);
  }
  call.set(0, call.dtype(1), *shape, std::move(elements));
  return {};
}

Result<void> clip(Call& call) {
  for (std::size_t i = 1; i < call.in.size(); ++i) {
    if (!call.has(i)) continue;
    KERF_TRY(call.want_same_dtype(0, i));
    if (element_count(call.shape(i)) != 1) {
      return call.fail("bound " + std::to_string(i) + " must be one number");
    }
  }
  call.set(0, call.dtype(0), call.shape(0));
  return {};
}

Result<void> prelu(Call& call) {
  KERF_TRY(call.want_same_dtype(0, 1));
  const auto shape = broadcast(call.shape(0), call.shape(1));
  if (!shape || shape->size() != call.shape(0).size()) return no_fit(call, 0, 1);
  for (std::size_t i = 0; i < shape->size(); ++i) {
    if (!compatible((*shape)[i], call.shape(0)[i])) {
      return call.fail("the slope must broadcast to the input's shape");
    }
  }
  call.set(0, call.dtype(0), call.shape(0));
  return {};
}

Result<void> cumulative_sum(Call& call) {
  if (element_count(call.shape(1)) != 1) return call.fail("axis must be one number");
  call.set(0, call.dtype(0), call.shape(0));
  return {};
}

}  // namespace

void register_elementwise(Registry& registry) {
  for (const char* op : {"Acos",        "Acosh",     "Asin",
                         "Asinh",       "Atan",      "Atanh",
                         "Ceil",        "Celu",      "Cos",
                         "Cosh",        "Elu",       "Erf",
                         "Exp",         "Floor",     "Gelu",
                         "HardSigmoid", "HardSwish", "LeakyRelu",
                         "Log",         "Mish",      "Reciprocal",
                         "Round",       "Selu",      "Shrink",
                         "Sigmoid",     "Sin",       "Sinh",
                         "Softplus",    "Softsign",  "Sqrt",
                         "Tan",         "Tanh",      "ThresholdedRelu"}) {
    registry[op] = {unary_float, 1, 1, 1};
  }
  for (const char* op : {"Abs", "Identity", "Neg", "Relu", "Sign"}) registry[op] = {unary, 1, 1, 1};
  registry["Dropout"] = {unary, 1, 3, 2};
  for (const char* op : {"IsInf", "IsNaN", "Not"}) registry[op] = {to_bool, 1, 1, 1};
  registry["Cast"] = {cast, 1, 1, 1};
  for (const char* op : {"Add", "Sub", "Mul", "Div", "Mod"}) registry[op] = {arithmetic, 2, 2, 1};
  for (const char* op : {"BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitShift"}) {
    registry[op] = {bitwise, 2, 2, 1};
  }
  registry["BitwiseNot"] = {bitwise, 1, 1, 1};
  registry["Pow"] = {power, 2, 2, 1};
  for (const char* op : {"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"}) {
    registry[op] = {compare, 2, 2, 1};
  }
  for (const char* op : {"And", "Or", "Xor"}) registry[op] = {logical, 2, 2, 1};
  for (const char* op : {"Sum", "Max", "Min", "Mean"}) registry[op] = {n_ary, 1, kAny, 1};
  registry["Where"] = {where, 3, 3, 1};
  registry["Clip"] = {clip, 1, 3, 1};
  registry["PRelu"] = {prelu, 2, 2, 1};
  registry["CumSum"] = {cumulative_sum, 2, 2, 1};
}

}  // namespace kerf::graph::shapes
