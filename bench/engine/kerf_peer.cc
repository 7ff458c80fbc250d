// kerf's side of bench/engine/compare.py: compiles a model once, writes what it computes, and then
// times a block of runs for each number that it reads.
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>

#include "cli/model_options.h"
#include "workers/engine/executor.h"

namespace {

using kerf::graph::Tensor;

struct Options {
  kerf::cli::ModelOptions model;
  std::string input, output;
  std::int64_t batch = 1;
  std::vector<std::int64_t> cut;  ///< Micro-batch and lanes; found by timing where empty.
};

kerf::Result<int> serve(const Options& options) {
  KERF_ASSIGN(const kerf::compress::PreparedModel prepared, options.model.prepare());
  KERF_ASSIGN(const kerf::compress::CompressedModel candidate, options.model.build(prepared));
  kerf::engine::ExecutorOptions how{.batch = options.batch, .threads = options.model.threads, .tune = true};
  if (options.cut.size() == 2) how.cut = {options.cut[0], static_cast<int>(options.cut[1])};
  KERF_ASSIGN(auto executor, kerf::engine::Executor::compile(candidate.graph, how));
  std::vector<Tensor> from, to;
  std::ifstream file(options.input, std::ios::binary);
  for (const auto& input : executor->inputs()) {
    from.emplace_back(input.dtype, input.shape);
    file.read(reinterpret_cast<char*>(from.back().mutable_raw()), static_cast<std::streamsize>(from.back().bytes()));
    if (!file) return kerf::invalid_argument(options.input + " is shorter than the model's inputs");
  }
  for (const auto& output : executor->outputs()) to.emplace_back(output.dtype, output.shape);
  std::vector<const void*> inputs;
  std::vector<void*> outputs;
  for (const Tensor& tensor : from) inputs.push_back(tensor.raw());
  for (Tensor& tensor : to) outputs.push_back(tensor.mutable_raw());
  executor->run(inputs, outputs);
  std::ofstream result(options.output, std::ios::binary);
  for (const Tensor& tensor : to) result.write(reinterpret_cast<const char*>(tensor.raw()), static_cast<std::streamsize>(tensor.bytes()));
  result.close();
  std::fprintf(stderr, "micro-batches of %ld on %d lanes; threads of each step:", static_cast<long>(executor->cut().micro), executor->cut().lanes);
  for (const int team : executor->cut().teams) std::fprintf(stderr, " %d", team);
  std::fputs(executor->cut().teams.empty() ? " all\n" : "\n", stderr);
  std::puts("ready");
  std::fflush(stdout);
  for (int runs = 0; std::cin >> runs && runs > 0;) {
    executor->run(inputs, outputs);
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < runs; ++i) executor->run(inputs, outputs);
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - start;
    std::printf("%.4f\n", took.count() / runs);
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("kerf's side of the comparison of engines");
  options.model.add_to(app);
  app.add_option("--batch", options.batch);
  app.add_option("--input", options.input)->required();
  app.add_option("--output", options.output)->required();
  app.add_option("--cut", options.cut)->expected(2);
  CLI11_PARSE(app, argc, argv);
  const auto served = serve(options);
  if (!served.has_value()) std::fprintf(stderr, "kerf: %s\n", served.error().message.c_str());
  return served.has_value() ? 0 : 1;
}
