#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "core/result.h"

namespace kerf {

/// What to remove from a layer.
struct PruneSpec {
  std::string structure = "channel";  ///< "channel", "unstructured", or n:m such as "2:4".
  double ratio = 0;                   ///< Share removed, 0 ≤ ratio < 1.
  std::string score = "l1";           ///< "l1", "l2", "bn", "apoz", "mean_output", "taylor", "wanda".

  friend bool operator==(const PruneSpec&, const PruneSpec&) = default;
};

/// A factorization of a layer's weights.
struct RankSpec {
  double share = 1;          ///< Of the full rank, 0 < share ≤ 1; 1 = all of it.
  std::string form = "svd";  ///< "svd", "spatial", "tucker".
  bool data_aware = false;
  /// Instead of a share: the fewest ranks that keep this part of the squared weights (of the
  /// squared outputs where data_aware), 0 < energy < 1; 0 = by share.
  double energy = 0;

  [[nodiscard]] bool factorizes() const { return share < 1 || energy > 0; }

  friend bool operator==(const RankSpec&, const RankSpec&) = default;
};

/// A codebook of shared weights; 0 entries = none.
struct CodebookSpec {
  int entries = 0;              ///< 0, or 2…256.
  std::string init = "linear";  ///< "linear", "density", "random".

  friend bool operator==(const CodebookSpec&, const CodebookSpec&) = default;
};

/// weight_bits of a ternary layer; its stored form is the word "ternary".
inline constexpr int kTernaryBits = -3;

/// What happens to one layer, every key with a value. The defaults leave the layer in f32.
struct LayerPlan {
  int weight_bits = 32;                    ///< 32, 16 (bf16), 8…2, 1 (binary), kTernaryBits.
  int activation_bits = 32;                ///< 32, 16, 8, 1.
  std::string activation_range = "static"; ///< "static", "dynamic".
  std::string granularity = "channel";     ///< "channel", "tensor", "group:N".
  bool symmetric = true;
  /// Of activations: "minmax", "moving_average", "percentile", "entropy", "mse".
  std::string range = "minmax";
  /// Of weights, which have no moving average; follows `range` unless given.
  std::string weight_range = "minmax";
  std::string rounding = "nearest";        ///< "nearest", "adaptive".
  PruneSpec prune;
  RankSpec rank;
  CodebookSpec codebook;

  friend bool operator==(const LayerPlan&, const LayerPlan&) = default;

  /// Integer weights with integer activations: runs in integer kernels.
  [[nodiscard]] bool runs_as_integers() const {
    return weight_bits <= 8 && activation_bits <= 8;
  }
};

/// Fine-tuning with the f32 model as teacher.
struct DistillSpec {
  double seconds = 20;
  int epochs = 10;
  double temperature = 2;
  std::string optimizer = "adam";
  double learning_rate = 1e-3;
  int seed = 1;  ///< Of the samples' order and of how they are varied.

  friend bool operator==(const DistillSpec&, const DistillSpec&) = default;
};

/// The keys of a layer as somebody wrote them: only those that were given.
using LayerKeys = std::map<std::string, Json>;

/// A candidate as the user writes it: defaults, and layers by name; "*" names all others.
///
/// parse() checks keys, types and ranges; whether a layer exists, and whether this build can do
/// it, is decided where the plan meets the model.
class CompressionPlan {
 public:
  CompressionPlan();
  ~CompressionPlan();
  CompressionPlan(const CompressionPlan&);
  CompressionPlan(CompressionPlan&&) noexcept;
  CompressionPlan& operator=(const CompressionPlan&);
  CompressionPlan& operator=(CompressionPlan&&) noexcept;

  /// Errors:   invalid_argument: "plan.layers.conv1.weight_bits: 9; expected 32, 16, 8…1 or …".
  [[nodiscard]] static Result<CompressionPlan> parse(const Json& document);

  [[nodiscard]] Json to_json() const;

  /// Same plan, same text: keys that equal their default are left out.
  [[nodiscard]] std::string canonical() const;

  /// The plan of a layer: its own keys, else those of "*", else those of `global`, else defaults.
  [[nodiscard]] LayerPlan layer(const std::string& name) const;

  /// Whether the layer is named itself (not only by "*").
  [[nodiscard]] bool names(const std::string& layer) const;

  /// Whether the layer's own entry (not "*", not global) gives this key ("prune").
  [[nodiscard]] bool names_key(const std::string& layer, const std::string& key) const;

  /// The names that stand in the plan, without "*".
  [[nodiscard]] std::vector<std::string> named_layers() const;

  [[nodiscard]] bool equalize() const;
  [[nodiscard]] const std::vector<std::string>& recovery() const;  ///< In order; empty = none.
  [[nodiscard]] const DistillSpec& distill() const;
  [[nodiscard]] std::optional<double> global_prune_ratio() const;

  /// {}: everything stays f32.
  [[nodiscard]] bool is_baseline() const;

 private:
  std::map<std::string, LayerKeys> layers_;  // as given, "*" included
  LayerKeys defaults_;                       // layer keys in `global`
  bool equalize_ = false;
  std::vector<std::string> recovery_;
  DistillSpec distill_;
  std::optional<double> global_prune_ratio_;
};

/// The weight_range of a layer that gives `range` only: the same; "minmax" for "moving_average",
/// which needs samples that come one after another.
[[nodiscard]] std::string weight_range_of(const std::string& range);

/// Checks one key of a layer and puts its value into `plan`.
///
/// Errors:   invalid_argument naming where, key, value, and what was expected.
[[nodiscard]] Result<void> apply_layer_key(const std::string& key, const Json& value,
                                           std::string_view where, LayerPlan& plan);

/// The keys that apply_layer_key knows.
[[nodiscard]] const std::vector<std::string>& layer_keys();

}  // namespace kerf
