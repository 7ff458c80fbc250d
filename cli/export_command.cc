#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/model_options.h"
#include "core/sha256.h"
#include "workers/compress/export.h"
#include "workers/onnx/writer.h"

namespace kerf::cli {
namespace {

struct ExportOptions {
  ModelOptions model;
  std::string output;
};

Result<void> export_model(const ExportOptions& options) {
  KERF_ASSIGN(const compress::PreparedModel prepared, options.model.prepare());
  KERF_ASSIGN(const CompressionPlan plan, options.model.read_plan());
  KERF_ASSIGN(const compress::CompressedModel candidate, options.model.build(prepared));
  KERF_ASSIGN(const std::string hash, sha256_file(options.model.model));
  const std::map<std::string, std::string> metadata = {
      {"kerf.plan", canonical_text(plan.to_json())},
      {"kerf.source", "sha256:" + hash},
      {"kerf.version", KERF_VERSION},
  };
  KERF_ASSIGN(const graph::Graph standard, compress::to_standard_onnx(candidate, metadata));
  return onnx::write_model(standard, options.output);
}

}  // namespace

void add_export_command(CLI::App& app, Run* run) {
  CLI::App* command = app.add_subcommand(
      "export", "a plan's candidate as standard ONNX (QDQ), which runs in ONNX Runtime");
  const auto options = std::make_shared<ExportOptions>();
  options->model.add_to(*command);
  command->add_option("-o,--output", options->output, "the ONNX file to write")->required();
  command->callback([=] { *run = [=] { return export_model(*options); }; });
}

}  // namespace kerf::cli
