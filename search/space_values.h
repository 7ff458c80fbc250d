#pragma once

#include <string>
#include <vector>

#include "core/json.h"
#include "core/model_info.h"
#include "core/plan.h"
#include "core/result.h"
#include "core/study.h"

// What the values of a layer's keys mean: which are the same, which a layer supports, which
// compresses more. Inside search/ only.
namespace kerf::search {

/// The keys that make up a "<layer>.precision" dimension.
[[nodiscard]] const std::vector<std::string>& precision_keys();

/// Weight bits as a number to compare: 32, 16, 8 … 2, 1.58 for ternary, 1.
[[nodiscard]] double effective_bits(int weight_bits);

/// Whether some kernel stands for the combination of bits and the other keys of precision: integers
/// with integers, weights alone, signs with signs; bf16 and f32 are one thing each. Groups have no
/// integer kernel, and signs neither groups nor a way of rounding.
[[nodiscard]] bool has_meaning(const LayerPlan& plan);

/// Whether the layer supports these bits, as the model's inspection lists them.
[[nodiscard]] bool supports_bits(const LayerInfo& layer, const LayerPlan& plan);

/// Whether this structure may be removed from the layer. One n:m in the layer's list ("2:4") stands
/// for all of them.
[[nodiscard]] bool supports_prune(const LayerInfo& layer, const PruneSpec& prune);

/// Whether the layer can be factorized, or rounded, so.
[[nodiscard]] bool supports_rank(const LayerInfo& layer, const RankSpec& rank);
[[nodiscard]] bool supports_rounding(const LayerInfo& layer, const LayerPlan& plan);

/// The distinct valid combinations of the precision keys, from f32 down, as keys of a layer.
///
/// Errors:   invalid_argument: more than 4,096 combinations.
[[nodiscard]] Result<std::vector<Json>> precision_values(const LayerChoices& choices,
                                                         const LayerInfo& layer);

/// The distinct values of one of "prune", "rank", "codebook", as keys of a layer, from none to most;
/// {} stands for "none". Without that key among the choices: {} alone.
[[nodiscard]] std::vector<Json> single_key_values(const std::string& key,
                                                  const LayerChoices& choices,
                                                  const LayerInfo& layer);

/// A layer's keys as a LayerPlan. The keys were checked when the study was parsed.
[[nodiscard]] LayerPlan layer_plan_of(const Json& keys);

/// Whether each precision compresses weights and activations at least as much as the one before,
/// and nothing else differs.
[[nodiscard]] bool is_chain(const std::vector<Json>& precisions);

}  // namespace kerf::search
