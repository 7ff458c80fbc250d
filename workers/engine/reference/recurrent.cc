// RNN, GRU and LSTM.
#include <algorithm>
#include <cmath>

#include "workers/engine/reference/kernels.h"

namespace kerf::engine::reference {
namespace {

/// A gate's function: those that ONNX names, alpha and beta as it gives them.
struct Activation {
  std::string name;
  double alpha = 0;
  double beta = 0;

  [[nodiscard]] double operator()(double x) const {
    if (name == "Sigmoid") return 1.0 / (1.0 + std::exp(-x));
    if (name == "Tanh") return std::tanh(x);
    if (name == "Relu") return std::max(0.0, x);
    if (name == "LeakyRelu") return x < 0 ? alpha * x : x;
    if (name == "ThresholdedRelu") return x > alpha ? x : 0.0;
    if (name == "ScaledTanh") return alpha * std::tanh(beta * x);
    if (name == "HardSigmoid") return std::max(0.0, std::min(1.0, alpha * x + beta));
    if (name == "Elu") return x < 0 ? alpha * std::expm1(x) : x;
    if (name == "Softsign") return x / (1.0 + std::fabs(x));
    if (name == "Softplus") return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
    return alpha * x + beta;  // Affine
  }
};

Result<std::vector<Activation>> activations(const Node& node, std::size_t each,
                                            std::size_t directions) {
  static const std::map<std::string, std::pair<double, double>, std::less<>> known{
      {"Sigmoid", {0, 0}},     {"Tanh", {0, 0}},           {"Relu", {0, 0}},
      {"LeakyRelu", {0.01, 0}}, {"ThresholdedRelu", {1, 0}}, {"ScaledTanh", {1, 1}},
      {"HardSigmoid", {0.2, 0.5}}, {"Elu", {1, 0}},        {"Softsign", {0, 0}},
      {"Softplus", {0, 0}},    {"Affine", {1, 0}}};
  std::vector<std::string> names;
  if (const auto found = node.attributes.find("activations"); found != node.attributes.end()) {
    if (const auto* given = std::get_if<std::vector<std::string>>(&found->second)) names = *given;
  }
  if (names.empty()) {
    for (std::size_t d = 0; d < directions; ++d) {
      if (each > 1) names.push_back("Sigmoid");
      for (std::size_t i = each > 1 ? 1 : 0; i < each; ++i) names.push_back("Tanh");
    }
  }
  if (names.size() != each * directions) return bad(node, "activations don't fit its gates");
  const auto numbers = [&](const char* name) {
    const auto found = node.attributes.find(name);
    const auto* list = found == node.attributes.end()
                           ? nullptr
                           : std::get_if<std::vector<float>>(&found->second);
    return list == nullptr ? std::vector<float>() : *list;
  };
  const std::vector<float> alphas = numbers("activation_alpha");
  const std::vector<float> betas = numbers("activation_beta");
  std::vector<Activation> out;
  std::size_t alpha = 0;
  std::size_t beta = 0;
  for (const std::string& name : names) {
    const auto found = known.find(name);
    if (found == known.end()) return bad(node, "activation '" + name + "' isn't known");
    Activation made{name, found->second.first, found->second.second};
    // The lists hold numbers for those that take them only, in order.
    const bool takes_alpha = found->second.first != 0;
    const bool takes_beta = name == "ScaledTanh" || name == "HardSigmoid" || name == "Affine";
    if (takes_alpha && alpha < alphas.size()) made.alpha = static_cast<double>(alphas[alpha++]);
    if (takes_beta && beta < betas.size()) made.beta = static_cast<double>(betas[beta++]);
    out.push_back(std::move(made));
  }
  return out;
}

/// One direction of one of the three ops.
struct Cell {
  std::size_t gates = 1, input = 0, hidden = 0;
  const float* w = nullptr;  ///< [gates * hidden, input]
  const float* r = nullptr;  ///< [gates * hidden, hidden]
  const float* b = nullptr;  ///< [2 * gates * hidden], or null
  const float* p = nullptr;  ///< [3 * hidden], or null
  const Activation* f = nullptr;
  double clip = 0;
  bool couple = false;  ///< LSTM's input_forget.
  bool reset_after = false;  ///< GRU's linear_before_reset.

  [[nodiscard]] double clipped(double v) const {
    return clip > 0 ? std::clamp(v, -clip, clip) : v;
  }
  /// W x + Wb of a row.
  [[nodiscard]] double from_input(std::size_t row, const float* x) const {
    double sum = b != nullptr ? static_cast<double>(b[row]) : 0.0;
    for (std::size_t i = 0; i < input; ++i)
      sum += static_cast<double>(w[row * input + i]) * static_cast<double>(x[i]);
    return sum;
  }
  /// R h + Rb of a row.
  [[nodiscard]] double from_state(std::size_t row, const double* h) const {
    double sum = b != nullptr ? static_cast<double>(b[gates * hidden + row]) : 0.0;
    for (std::size_t i = 0; i < hidden; ++i) sum += static_cast<double>(r[row * hidden + i]) * h[i];
    return sum;
  }
  [[nodiscard]] double peephole(std::size_t gate, std::size_t i, double c) const {
    return p != nullptr ? static_cast<double>(p[gate * hidden + i]) * c : 0.0;
  }

  void step(const float* x, std::vector<double>& h, std::vector<double>& c) const {
    std::vector<double> next(hidden);
    if (gates == 1) {
      for (std::size_t i = 0; i < hidden; ++i)
        next[i] = f[0](clipped(from_input(i, x) + from_state(i, h.data())));
    } else if (gates == 3) {
      gru(x, h, next);
    } else {
      for (std::size_t i = 0; i < hidden; ++i) {
        const auto sum = [&](std::size_t gate) {
          const std::size_t row = gate * hidden + i;
          return from_input(row, x) + from_state(row, h.data());
        };
        const double in = f[0](clipped(sum(0) + peephole(0, i, c[i])));
        const double forget =
            couple ? 1.0 - in : f[0](clipped(sum(2) + peephole(2, i, c[i])));
        const double fresh = f[1](clipped(sum(3)));
        c[i] = forget * c[i] + in * fresh;
        const double out = f[0](clipped(sum(1) + peephole(1, i, c[i])));
        next[i] = out * f[2](c[i]);
      }
    }
    h = std::move(next);
  }

  void gru(const float* x, const std::vector<double>& h, std::vector<double>& next) const {
    std::vector<double> update(hidden);
    std::vector<double> reset(hidden);
    for (std::size_t i = 0; i < hidden; ++i) {
      update[i] = f[0](clipped(from_input(i, x) + from_state(i, h.data())));
      reset[i] = f[0](clipped(from_input(hidden + i, x) + from_state(hidden + i, h.data())));
    }
    std::vector<double> held(hidden);
    for (std::size_t i = 0; i < hidden; ++i) held[i] = reset[i] * h[i];
    for (std::size_t i = 0; i < hidden; ++i) {
      const std::size_t row = 2 * hidden + i;
      const double state =
          reset_after ? reset[i] * from_state(row, h.data()) : from_state(row, held.data());
      const double fresh = f[1](clipped(from_input(row, x) + state));
      next[i] = (1.0 - update[i]) * fresh + update[i] * h[i];
    }
  }
};

Outputs recurrent(const Node& node, Inputs inputs) {
  const std::size_t gates = node.op == "LSTM" ? 4 : node.op == "GRU" ? 3 : 1;
  const Tensor& x = inputs[0];
  for (const std::size_t i : {0U, 1U, 2U}) {
    if (inputs[i].dtype() != DType::kF32 || inputs[i].rank() != 3)
      return bad(node, "expected f32 of rank 3");
  }
  const std::string direction = node.text("direction", "forward");
  const bool rows = node.integer("layout", 0) != 0;
  const auto sequence = static_cast<std::size_t>(x.dim(rows ? 1 : 0));
  const auto batch = static_cast<std::size_t>(x.dim(rows ? 0 : 1));
  const auto directions = static_cast<std::size_t>(direction == "bidirectional" ? 2 : 1);
  Cell cell;
  cell.gates = gates;
  cell.input = static_cast<std::size_t>(x.dim(2));
  cell.hidden = static_cast<std::size_t>(inputs[2].dim(2));
  cell.clip = static_cast<double>(node.real("clip", 0.0F));
  cell.couple = node.integer("input_forget", 0) != 0;
  cell.reset_after = node.integer("linear_before_reset", 0) != 0;
  const std::size_t hidden = cell.hidden;
  const auto fits = [&](std::size_t i, std::size_t elements) {
    return !given(inputs, i) || static_cast<std::size_t>(inputs[i].elements()) == elements;
  };
  if (!fits(1, directions * gates * hidden * cell.input) ||
      !fits(2, directions * gates * hidden * hidden) || !fits(3, directions * 2 * gates * hidden) ||
      !fits(4, batch) || !fits(5, directions * batch * hidden) ||
      !fits(6, directions * batch * hidden) || !fits(7, directions * 3 * hidden)) {
    return bad(node, "weights and states don't fit each other");
  }
  KERF_ASSIGN(const std::vector<Activation> f,
              activations(node, gates == 4 ? 3 : gates == 3 ? 2 : 1, directions));
  std::vector<std::int64_t> lengths(batch, static_cast<std::int64_t>(sequence));
  if (given(inputs, 4)) lengths = inputs[4].to_integers();
  const auto d64 = [](std::size_t v) { return static_cast<std::int64_t>(v); };
  const Shape state_shape = rows ? Shape{d64(batch), d64(directions), d64(hidden)}
                                 : Shape{d64(directions), d64(batch), d64(hidden)};
  Tensor all(DType::kF32, rows ? Shape{d64(batch), d64(sequence), d64(directions), d64(hidden)}
                               : Shape{d64(sequence), d64(directions), d64(batch), d64(hidden)});
  Tensor last_h(DType::kF32, state_shape);
  Tensor last_c(DType::kF32, state_shape);
  const auto to = all.mutable_as<float>();
  const auto to_h = last_h.mutable_as<float>();
  const auto to_c = last_c.mutable_as<float>();
  for (std::size_t d = 0; d < directions; ++d) {
    cell.w = inputs[1].as<float>().data() + d * gates * hidden * cell.input;
    cell.r = inputs[2].as<float>().data() + d * gates * hidden * hidden;
    cell.b = given(inputs, 3) ? inputs[3].as<float>().data() + d * 2 * gates * hidden : nullptr;
    cell.p = gates == 4 && given(inputs, 7) ? inputs[7].as<float>().data() + d * 3 * hidden : nullptr;
    cell.f = f.data() + d * f.size() / directions;
    const bool backwards = direction == "reverse" || d == 1;
    for (std::size_t n = 0; n < batch; ++n) {
      const std::size_t at = (rows ? n * directions + d : d * batch + n) * hidden;
      std::vector<double> h(hidden, 0.0);
      std::vector<double> c(hidden, 0.0);
      for (std::size_t i = 0; i < hidden; ++i) {
        if (given(inputs, 5)) h[i] = static_cast<double>(inputs[5].as<float>()[at + i]);
        if (gates == 4 && given(inputs, 6)) c[i] = static_cast<double>(inputs[6].as<float>()[at + i]);
      }
      // Past its length a sequence gives zeros.
      const auto length = std::min(
          sequence, static_cast<std::size_t>(std::max<std::int64_t>(lengths[n], 0)));
      for (std::size_t s = 0; s < length; ++s) {
        const std::size_t t = backwards ? length - 1 - s : s;
        const std::size_t row = rows ? n * sequence + t : t * batch + n;
        cell.step(x.as<float>().data() + row * cell.input, h, c);
        const std::size_t out = (rows ? (n * sequence + t) * directions + d
                                      : (t * directions + d) * batch + n) * hidden;
        for (std::size_t i = 0; i < hidden; ++i) to[out + i] = static_cast<float>(h[i]);
      }
      for (std::size_t i = 0; i < hidden; ++i) {
        to_h[at + i] = static_cast<float>(h[i]);
        to_c[at + i] = static_cast<float>(c[i]);
      }
    }
  }
  return std::vector<Tensor>{std::move(all), std::move(last_h), std::move(last_c)};
}

}  // namespace

void add_recurrent(Registry& registry) {
  for (const char* op : {"RNN", "GRU", "LSTM"}) registry[op] = recurrent;
}

}  // namespace kerf::engine::reference
