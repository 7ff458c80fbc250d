#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/plan.h"
#include "core/result.h"
#include "workers/compress/training_samples.h"
#include "workers/compress/watch.h"
#include "workers/graph/graph.h"

namespace kerf::compress {

/// What distillation works on.
struct DistillTask {
  const graph::Graph* teacher = nullptr;  ///< The f32 model.
  graph::Graph student;                   ///< f32, pruned; not rounded.
  /// Output of a layer that lost channels -> which of the teacher's it has, in its order.
  std::map<std::string, std::vector<std::int64_t>> kept_channels;
  std::vector<graph::Tensor> inputs;      ///< Of the calibration set, in the order of graph.inputs.
  Labels labels;

  /// Layers whose stored weights aren't the f32 ones, and what they are stored as: the same code as
  /// the final rounding.
  std::set<std::string> rounded_layers;
  std::function<Result<graph::Tensor>(const std::string& layer, const graph::Tensor& weights)> rounded;
  /// Layers whose zeros stay zero.
  std::set<std::string> masked_layers;
  /// The student with Q/DQ pairs around the values that integer layers read, weights still f32, and
  /// with bf16 layers marked; empty where activations stay f32. Asked anew after each epoch, so that
  /// ranges follow the weights.
  std::function<Result<graph::Graph>(const graph::Graph& student)> with_rounded_activations;

  DistillSpec spec;
  int threads = 1;
  std::uint64_t seed = 1;
  Watch watch;  ///< May be empty.
};

/// What came of it.
struct Distilled {
  graph::Graph graph;  ///< The student with the weights and biases that were best.
  int epochs = 0;      ///< Whole ones that ran.
  std::size_t rounding = 0;  ///< Which call of with_rounded_activations the best weights were validated with.
  int best_epoch = 0;  ///< 0: the weights that it started with.
  double loss_before = 0, loss_after = 0;  ///< On the part of the samples that was held out.
  std::vector<std::string> notes;  ///< What a user should know: stopped early, diverged.
};

/// Trains the student to answer like the teacher, with its rounding and its zeros in place.
///
/// Data:     a fifth of the samples is held out (one at least; below five samples none: then the
///           loss on all of them decides). After each epoch, and before the first, the loss there is
///           taken; the weights with the least are kept, so that the student is never worse than
///           without, by that measure.
/// Loss:     class_loss() with the labels' share of 0.3 where the set has classes, and of 0 where it
///           has no labels; value_loss() for regression targets, for maps, and for further outputs.
///           A Softmax or Sigmoid at the end is left out of both models. In training, 100 times the
///           mean value_loss() of up to eight values inside both models, of the channels that are left
///           (sums of branches after their activation, else outputs of activations) is added: few
///           samples say more there than at the output.
/// Samples:  pictures are moved by up to an eighth of their extent, for teacher and student alike.
/// Rounding: weights are rounded as they will be stored in each step, and the gradient goes to the
///           unrounded ones (straight through); activations as Trainer does it.
/// Average:  what is validated and kept are averages of the weights over the last steps, m ← m + (1 − d)(w − m)
///           with d = min(0.97, (1 + t) / (10 + t)) at step t: with few bits the weights swing over the
///           edges between two integers, and where one step leaves them is luck.
/// Steps:    batches of 32 (fewer where values and gradients would take more than 1 GiB), in an order that the seed decides; adam or sgd; a learning rate that
///           rises over half an epoch and falls along a cosine over spec.epochs. spec.seconds ends
///           training early, which is noted: only then the result depends on the machine's speed.
/// Diverged: a loss that is not finite puts the best weights back and halves the learning rate; the
///           third time ends training.
/// Errors:   unimplemented naming a node that can't be trained; failed_precondition where the model
///           mixes samples; cancelled.
/// Source:   Hinton et al. 2015, arXiv:1503.02531; Jacob et al. 2018, arXiv:1712.05877 (training
///           with rounding in the forward pass); Beyer et al. 2022, arXiv:2106.05237 (teacher and
///           student see the same varied samples); Romero et al. 2015, arXiv:1412.6550 (values inside);
///           Polyak and Juditsky 1992 (averages); Nagel et al. 2022, arXiv:2203.11086 (weights that swing).
[[nodiscard]] Result<Distilled> distill(DistillTask task);

}  // namespace kerf::compress
