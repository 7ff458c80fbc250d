#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/plan.h"
#include "core/result.h"
#include "core/study.h"
#include "workers/compress/compress.h"
#include "workers/compress/model.h"
#include "workers/data/bind.h"
#include "workers/data/dataset.h"
#include "workers/engine/passes.h"

namespace kerf::cli {

/// --no-pass NAME, for every command that loads a model.
void add_pass_option(CLI::App& command, std::vector<std::string>& disabled);
[[nodiscard]] engine::PassOptions pass_options(const std::vector<std::string>& disabled);

/// onnx::read_model, which says of a packed file what it is.
[[nodiscard]] Result<graph::Graph> read_model_file(const std::string& path);

/// The arguments that infer, bench, eval and export share, and what is made of them.
struct ModelOptions {
  std::string model;
  std::string plan;         ///< Path of a plan's JSON; empty = {}.
  std::string calibration;  ///< Path of a data set; empty = none.
  std::string preprocess;   ///< Path of a preprocess JSON; empty = none.
  int threads = 1;
  std::vector<std::string> disabled_passes;

  void add_to(CLI::App& command);

  [[nodiscard]] Result<std::optional<Preprocess>> read_preprocess() const;
  [[nodiscard]] Result<CompressionPlan> read_plan() const;
  [[nodiscard]] Result<graph::Graph> read_graph() const;       ///< As the file has it, canonical.
  [[nodiscard]] Result<compress::PreparedModel> prepare() const;

  /// Loads a data set and fits it to the model's inputs.
  [[nodiscard]] Result<data::BoundData> load(const std::string& path, const graph::Graph& graph) const;

  /// The plan's candidate, calibrated where the plan needs it.
  [[nodiscard]] Result<compress::CompressedModel> build(const compress::PreparedModel& model) const;
};

}  // namespace kerf::cli
