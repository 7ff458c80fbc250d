#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "workers/graph/graph.h"

namespace kerf::engine {

struct TrainerOptions {
  std::int64_t batch = 32;  ///< Samples of a step.
  int threads = 1;          ///< OpenMP threads of the calling thread's team; at least 1.
};

/// A model that can be differentiated: forward keeps what backward needs, backward gives the
/// gradient of every parameter. What a step does with the gradients is the caller's business.
///
/// Graph:    f32, the output of simplify(). A QuantizeLinear with one constant scale rounds to the
///           values that its integers stand for, the DequantizeLinear behind it then only passes them
///           on; a Sign before such a pair gives −s, 0 and s; a layer with the attribute kerf_precision = "bf16" reads its input rounded to bf16.
/// Maths:    rounding has the gradient 1 inside the range and 0 where it saturates (the clipped
///           straight-through estimator), a sign where |x| isn't above 2s; that of bf16 is 1. Weights are taken as they are: who
///           rounds them gives the rounded ones and applies the gradient to the unrounded ones.
/// Learnt:   the constants that Conv, Gemm and MatMul have as weights and bias, the scale and bias
///           of a BatchNormalization (whose statistics stay), and the constant of an Add with more
///           than one element.
/// Memory:   every value of the graph and its gradient, for one batch.
/// Threads:  not thread-safe. The same number of threads gives the same numbers.
/// Errors:   forward() and backward() throw where oneDNN does (a broken world).
/// Source:   Bengio et al. 2013, arXiv:1308.3432 (straight-through estimator).
class Trainer {
 public:
  /// A constant that is learnt.
  struct Parameter {
    std::string name;          ///< Of the initializer.
    std::string node;          ///< The first that reads it.
    std::size_t input = 0;     ///< As which of its inputs.
    graph::Shape shape;
    std::span<float> value;    ///< What forward() reads.
    std::span<float> gradient; ///< What backward() leaves there.
  };

  /// Errors:   unimplemented naming the node and op that has no gradient here; failed_precondition
  ///           where the graph mixes samples; invalid_argument for inputs that aren't f32, and where
  ///           nothing is there to learn.
  [[nodiscard]] static Result<std::unique_ptr<Trainer>> make(const graph::Graph& graph,
                                                             const TrainerOptions& options);
  ~Trainer();
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  [[nodiscard]] std::vector<Parameter>& parameters();

  [[nodiscard]] std::size_t inputs() const;
  [[nodiscard]] std::size_t outputs() const;
  [[nodiscard]] const graph::Shape& output_shape(std::size_t i) const;  ///< Batch first.
  [[nodiscard]] std::span<float> input(std::size_t i);                  ///< Row-major; to be filled.
  [[nodiscard]] std::span<const float> output(std::size_t i) const;     ///< Row-major.
  /// The gradient of the loss by an output: to be filled between forward() and backward().
  [[nodiscard]] std::span<float> output_gradient(std::size_t i);

  void forward();
  void backward();

  /// oneDNN's names of the kernels in use, one a primitive: "Conv 'conv1' weights: jit:avx512_core".
  [[nodiscard]] std::vector<std::string> kernels() const;

  struct Impl;

 private:
  explicit Trainer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// The same graph with its outputs taken before a Softmax, LogSoftmax or Sigmoid that makes
/// probabilities of them (Reshape, Flatten, Squeeze and the like may stand between).
struct Logits {
  graph::Graph graph;
  std::vector<std::string> removed;  ///< The op that was taken off each output; "" for none.
};
[[nodiscard]] Logits without_final_softmax(graph::Graph graph);

}  // namespace kerf::engine
