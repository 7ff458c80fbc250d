#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/plan.h"
#include "core/result.h"
#include "workers/compress/calibration.h"
#include "workers/compress/model.h"
#include "workers/compress/watch.h"
#include "workers/graph/graph.h"

namespace kerf::compress {

/// What became of one layer.
struct LayerReport {
  std::string name;
  int weight_bits = 32;                ///< As stored; of an index where values are shared.
  int activation_bits = 32;            ///< As executed.
  double sparsity = 0;                 ///< Share of zeros in the stored weights.
  double channel_share_kept = 1;       ///< Output channels kept / output channels of the model.
  std::int64_t weight_bits_total = 0;  ///< Elements × bits, without scales.
  /// "f32", "bf16", "s8", "f32 (4-bit weights)", "f32 (16 shared values)"; an executor's steps say f32 instead where
  /// the processor has no exact or no fast kernel for it.
  std::string executes_as;
};

/// A plan applied to a model.
struct CompressedModel {
  graph::Graph graph;  ///< f32 or QDQ form, shapes inferred: ready for Executor::compile.
  std::vector<LayerReport> layers;
  std::int64_t storage_bytes = 0;  ///< Of its packed file (packed/packed_file.h), exactly.
  std::int64_t macs = 0;           ///< Of one sample.
  double recovery_seconds = 0;
  std::vector<std::string> warnings;  ///< What a user should know of how it was made.
  std::map<std::string, double>
      phase_ms;  ///< "prune", "weights", "calibration", "qdq", "recovery", "size".
};

enum class Sizing { kPackedFile, kNone };

/// Applies a plan: ranges of channels are evened out, channels go, layers are factorized, then
/// single weights go; recovery makes up for that in f32 and weights get their form (layer after
/// layer where the plan reconstructs, and biases make up for the rounding where it wants that);
/// activation ranges are chosen and Q/DQ pairs put in. Where the plan wants distillation, the pruned
/// model is trained with the rounding in place before it is rounded for good.
///
/// A factorized layer is reported as its parts ("conv.1", "conv.2").
///
/// What a layer's own entry asks for must be possible; what "*" or `global` ask for and a layer
/// can't do leaves that layer as it is. With 8-bit activations `symmetric` is about these: integer
/// kernels take weights whose zero point is 0. With 32-bit ones it is about the weights.
///
/// The same model, plan and calibration data give the same graph, unless plan.global.distill.seconds
/// ended the training (then `warnings` say so).
///
/// `watch` is told how far long recoveries are, and can cancel them; it may be empty.
/// `sizing`: whether storage_bytes are wanted, which takes longer than rounding a layer.
///
/// Errors:   invalid_argument: a layer that the model doesn't have (and the nearest one), tied
///           layers with different ratios, channels that can't go (and why), 8-bit activations
///           without calibration, a recovery without calibration. unimplemented: a value of the plan that this build doesn't do
///           (and what it does).
[[nodiscard]] Result<CompressedModel> compress(const PreparedModel& model,
                                               const CompressionPlan& plan,
                                               Calibration* calibration,
                                               const Watch& watch = {},
                                               Sizing sizing = Sizing::kPackedFile);

/// Whether the plan needs a Calibration: see ResolvedPlan::why_calibration().
[[nodiscard]] bool needs_calibration(const PreparedModel& model, const CompressionPlan& plan);

}  // namespace kerf::compress
