#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>

#include "cli/commands.h"
#include "cli/model_options.h"
#include "core/measurement.h"
#include "core/sha256.h"
#include "workers/compress/export.h"
#include "workers/compress/packed/packed_file.h"
#include "workers/onnx/files.h"
#include "workers/onnx/writer.h"

namespace kerf::cli {
namespace {

struct ExportArguments {
  ModelOptions model;
  std::string output;
  std::string packed;
  std::string measured;
  compress::ExportOptions how;
};

/// Where the file comes from: plan and hash of the model, which storage_bytes counts; with
/// --measured what was measured, too, and the hash of the calibration data.
Result<std::map<std::string, std::string>> where_from(const ExportArguments& arguments,
                                                      const CompressionPlan& plan) {
  KERF_ASSIGN(const std::string hash, sha256_file(arguments.model.model));
  auto out = compress::export_metadata(plan, "sha256:" + hash);
  if (arguments.measured.empty()) return out;
  std::error_code none;
  if (std::filesystem::is_regular_file(arguments.model.calibration, none)) {
    KERF_ASSIGN(const std::string data, sha256_file(arguments.model.calibration));
    out["kerf.calibration"] = "sha256:" + data;
  }
  KERF_ASSIGN(const Json measurement, read_json_file(arguments.measured));
  auto measured = measured_metadata(measurement);
  if (!measured.has_value()) return with_context(arguments.measured, measured.error());
  out.merge(*measured);
  return out;
}

Result<void> export_model(const ExportArguments& arguments) {
  if (arguments.output.empty() && arguments.packed.empty()) {
    return invalid_argument("export: expected --output OUT.onnx, --packed OUT.kerf or both");
  }
  KERF_ASSIGN(const compress::PreparedModel prepared, arguments.model.prepare());
  KERF_ASSIGN(const CompressionPlan plan, arguments.model.read_plan());
  KERF_ASSIGN(const compress::CompressedModel candidate, arguments.model.build(prepared));
  KERF_ASSIGN(const auto metadata, where_from(arguments, plan));
  KERF_ASSIGN(const graph::Graph standard,
              compress::to_standard_onnx(candidate, metadata, arguments.how));
  if (!arguments.packed.empty()) {
    KERF_ASSIGN(const std::string bytes, compress::pack(standard));
    KERF_TRY(onnx::write_whole_file(arguments.packed, bytes));
  }
  if (arguments.output.empty()) return {};
  return onnx::write_model(standard, arguments.output);
}

Result<void> unpack_model(const std::string& packed, const std::string& output) {
  constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 31U;
  KERF_ASSIGN(const onnx::MappedFile file, onnx::MappedFile::open(packed, kMostBytes));
  const auto graph = compress::unpack(file.bytes());
  if (!graph.has_value()) return with_context(packed, graph.error());
  return onnx::write_model(*graph, output);
}

}  // namespace

void add_export_command(CLI::App& app, Run* run) {
  CLI::App* command = app.add_subcommand(
      "export", "a plan's candidate as standard ONNX (QDQ), which runs in ONNX Runtime");
  const auto arguments = std::make_shared<ExportArguments>();
  arguments->model.add_to(*command);
  command->add_option("-o,--output", arguments->output, "the ONNX file to write");
  command->add_option("--packed", arguments->packed,
                      "the smallest file to write; `kerf unpack` makes the ONNX file of it");
  command->add_flag("--int4-as-int8", arguments->how.int4_as_int8,
                    "integers of 4 bits or fewer as int8, for runtimes before opset 21");
  command->add_option("--measured", arguments->measured,
                      "what `kerf eval --json` printed of the candidate: kept in the file's metadata");
  command->callback([=] { *run = [=] { return export_model(*arguments); }; });

  CLI::App* back = app.add_subcommand("unpack", "the ONNX file of a packed one, bit for bit");
  const auto packed = std::make_shared<std::string>();
  const auto output = std::make_shared<std::string>();
  back->add_option("PACKED", *packed, "what `kerf export --packed` wrote")->required();
  back->add_option("-o,--output", *output, "the ONNX file to write")->required();
  back->callback([=] { *run = [=] { return unpack_model(*packed, *output); }; });
}

}  // namespace kerf::cli
