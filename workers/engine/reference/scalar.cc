#include "workers/engine/reference/scalar.h"

#include <algorithm>
#include <numbers>

namespace kerf::engine::reference {
namespace {

using Function = std::function<float(float)>;

float sigmoid(float x) { return 1.0F / (1.0F + std::exp(-x)); }

float softplus(float x) { return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)); }

std::optional<Function> with_attributes(const Node& node, Inputs inputs) {
  const std::string& op = node.op;
  if (op == "LeakyRelu") {
    return [a = node.real("alpha", 0.01F)](float x) { return x < 0 ? a * x : x; };
  }
  if (op == "Elu") {
    return [a = node.real("alpha", 1.0F)](float x) { return x < 0 ? a * std::expm1(x) : x; };
  }
  if (op == "Selu") {
    return [a = node.real("alpha", 1.67326319F), g = node.real("gamma", 1.05070102F)](float x) {
      return g * (x < 0 ? a * std::expm1(x) : x);
    };
  }
  if (op == "Celu") {
    return [a = node.real("alpha", 1.0F)](float x) {
      return std::max(0.0F, x) + std::min(0.0F, a * std::expm1(x / a));
    };
  }
  if (op == "ThresholdedRelu") {
    return [a = node.real("alpha", 1.0F)](float x) { return x > a ? x : 0.0F; };
  }
  if (op == "HardSigmoid") {
    return [a = node.real("alpha", 0.2F), b = node.real("beta", 0.5F)](float x) {
      return std::max(0.0F, std::min(1.0F, a * x + b));
    };
  }
  if (op == "Shrink") {
    return [b = node.real("bias", 0.0F), l = node.real("lambd", 0.5F)](float x) {
      return x < -l ? x + b : x > l ? x - b : 0.0F;
    };
  }
  if (op == "Gelu") {
    if (node.text("approximate", "none") == "tanh") {
      return [](float x) {
        const float k = std::sqrt(2.0F / std::numbers::pi_v<float>);
        return 0.5F * x * (1.0F + std::tanh(k * (x + 0.044715F * x * x * x)));
      };
    }
    return [](float x) { return 0.5F * x * (1.0F + std::erf(x / std::numbers::sqrt2_v<float>)); };
  }
  if (op == "QuickGelu") {
    return [a = node.real("alpha", 1.702F)](float x) { return x * sigmoid(a * x); };
  }
  if (op == "Clip") {
    float low = std::numeric_limits<float>::lowest();
    float high = std::numeric_limits<float>::max();
    if (given(inputs, 1)) low = inputs[1].to_floats().at(0);
    if (given(inputs, 2)) high = inputs[2].to_floats().at(0);
    return [low, high](float x) { return std::min(std::max(x, low), high); };
  }
  return std::nullopt;
}

std::optional<Function> plain(const std::string& op) {
  using F = float (*)(float);
  static const std::map<std::string, F, std::less<>> functions{
      {"Relu", [](float x) { return x > 0 ? x : 0.0F; }},
      {"Sigmoid", sigmoid},
      {"Tanh", [](float x) { return std::tanh(x); }},
      {"HardSwish", [](float x) { return x * std::max(0.0F, std::min(1.0F, x / 6.0F + 0.5F)); }},
      {"Softplus", softplus},
      {"Softsign", [](float x) { return x / (1.0F + std::fabs(x)); }},
      {"Mish", [](float x) { return x * std::tanh(softplus(x)); }},
      {"Exp", [](float x) { return std::exp(x); }},
      {"Log", [](float x) { return std::log(x); }},
      {"Sqrt", [](float x) { return std::sqrt(x); }},
      {"Abs", [](float x) { return std::fabs(x); }},
      {"Neg", [](float x) { return -x; }},
      {"Sign", [](float x) { return static_cast<float>((x > 0) - (x < 0)); }},
      {"Floor", [](float x) { return std::floor(x); }},
      {"Ceil", [](float x) { return std::ceil(x); }},
      {"Round", [](float x) { return std::nearbyint(x); }},
      {"Reciprocal", [](float x) { return 1.0F / x; }},
      {"Erf", [](float x) { return std::erf(x); }},
      {"Sin", [](float x) { return std::sin(x); }},
      {"Cos", [](float x) { return std::cos(x); }},
      {"Tan", [](float x) { return std::tan(x); }},
      {"Asin", [](float x) { return std::asin(x); }},
      {"Acos", [](float x) { return std::acos(x); }},
      {"Atan", [](float x) { return std::atan(x); }},
      {"Sinh", [](float x) { return std::sinh(x); }},
      {"Asinh", [](float x) { return std::asinh(x); }},
      {"Acosh", [](float x) { return std::acosh(x); }},
      {"Atanh", [](float x) { return std::atanh(x); }},
      {"Cosh", [](float x) { return std::cosh(x); }},
      {"Identity", [](float x) { return x; }},
      {"kerf_Swish", [](float x) { return x * sigmoid(x); }},
  };
  const auto found = functions.find(op);
  if (found == functions.end()) return std::nullopt;
  return Function(found->second);
}

}  // namespace

std::optional<Function> scalar_function(const Node& node, Inputs inputs) {
  if (auto function = plain(node.op)) return function;
  return with_attributes(node, inputs);
}

}  // namespace kerf::engine::reference
