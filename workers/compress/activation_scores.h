#pragma once

#include <string>
#include <vector>

#include "core/plan.h"
#include "core/result.h"
#include "workers/compress/calibration.h"
#include "workers/compress/model.h"
#include "workers/graph/graph.h"

namespace kerf::compress {

/// Scores of channels that need more than weights, and of single weights by what they multiply.
///
/// Maths, of channel c (see channel_scores for l1 and l2); each sum runs over layers, and each
/// layer's part is divided by its mean over the channels:
///   bn      Σ |γ|, over the tied layers that a batch normalization follows: its scale, as it was
///           before it was folded.
///   apoz    Σ share of elements that aren't 0 on calibration data, behind the first Relu after each
///           tied layer.
///   mean_output  Σ mean output on calibration data, behind the same Relu.
///   taylor  Σ E[x_c²] · ‖W_c‖², over the layers that read the channel: how much their outputs lose
///           with it, in squares; what a gradient would weigh is taken as equal for all outputs.
/// Source:   Liu et al. 2017, arXiv:1708.06519 (bn); Hu et al. 2016, arXiv:1607.03250 (apoz); the
///           mean activation and the first-order criterion of Molchanov et al. 2017,
///           arXiv:1611.06440, the latter on the next layer's output instead of the loss, so that no
///           gradient is needed (mean_output, taylor).

/// Whether a group's channels can be scored so; `why` says why not.
[[nodiscard]] bool can_score(const PreparedModel& model, const std::vector<std::string>& layers,
                             const std::string& score, std::string& why);

/// Scores of every channel (index = channel), 0 where nothing is known of it.
///
/// Needs:    `calibration` unless score is "bn".
[[nodiscard]] Result<std::vector<double>> activation_scores(const PreparedModel& model,
                                                            const graph::Graph& graph,
                                                            const std::string& variant,
                                                            const std::string& score,
                                                            Calibration* calibration);

/// How much each single weight of a layer matters, in the layout of its weights.
///
/// Maths:    l1, l2: |w|. wanda: |w| · ‖x‖, taylor: its square, with ‖x‖² = E[x²] of the input channel
///           that the weight multiplies; an input that was always 0 counts as a millionth of the mean.
/// Source:   Sun et al. 2024, arXiv:2306.11695 (wanda).
[[nodiscard]] Result<std::vector<double>> weight_scores(const graph::Graph& graph,
                                                        const graph::Node& layer,
                                                        const std::string& variant,
                                                        const std::string& score,
                                                        Calibration* calibration);

/// The scores that a structure takes.
[[nodiscard]] const std::vector<std::string>& scores_for(const std::string& structure);

/// Whether a score needs calibration data.
[[nodiscard]] bool score_needs_data(const std::string& score);

}  // namespace kerf::compress
