// What the executor adds to a primitive's own call, and whether the times of single steps add up.
//
// usage: bench_engine_overhead [MODEL.onnx …]
//
// 1. A chain of tiny convolutions, run by the executor and as bare primitives with prepared
//    arguments, in turns; the difference a primitive is our own.
// 2. For each model (batch 1, one thread): the median of a run, and the sum of the medians of its
//    steps timed one by one. A clock is read between steps: the sum may be a little more.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <dnnl.hpp>
#include <memory>
#include <string>
#include <vector>

#include "workers/engine/executor.h"
#include "workers/engine/passes.h"
#include "workers/onnx/reader.h"

namespace {

using Clock = std::chrono::steady_clock;
using kerf::graph::DType;
using kerf::graph::Graph;
using kerf::graph::Tensor;

constexpr int kLayers = 40;
constexpr std::int64_t kChannels = 16;

double us_since(Clock::time_point start) { return std::chrono::duration<double, std::micro>(Clock::now() - start).count(); }

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

/// An executor with buffers.
struct Model {
  explicit Model(const Graph& graph) {
    auto made = kerf::engine::Executor::compile(graph, {});
    if (!made.has_value()) {
      std::fprintf(stderr, "%s\n", made.error().message.c_str());
      std::exit(1);
    }
    executor = std::move(*made);
    for (const auto& input : executor->inputs()) from.emplace_back(input.dtype, input.shape);
    for (const auto& output : executor->outputs()) to.emplace_back(output.dtype, output.shape);
    for (Tensor& tensor : from) inputs.push_back(tensor.mutable_raw());
    for (Tensor& tensor : to) outputs.push_back(tensor.mutable_raw());
  }
  std::unique_ptr<kerf::engine::Executor> executor;
  std::vector<Tensor> from, to;
  std::vector<const void*> inputs;
  std::vector<void*> outputs;
};

Graph chain() {
  Graph graph;
  graph.inputs = {{"v0", DType::kF32, {1, kChannels, 2, 2}}};
  for (int i = 0; i < kLayers; ++i) {
    const std::string n = std::to_string(i);
    graph.initializers["w" + n] = Tensor(DType::kF32, {kChannels, kChannels, 1, 1});
    graph.initializers["b" + n] = Tensor(DType::kF32, {kChannels});
    graph.nodes.push_back({"conv" + n, "Conv", "", {"v" + n, "w" + n, "b" + n}, {"v" + std::to_string(i + 1)}, {}});
  }
  graph.outputs = {{"v" + std::to_string(kLayers), DType::kF32, {1, kChannels, 2, 2}}};
  auto simple = kerf::engine::simplify(std::move(graph));
  if (!simple.has_value()) std::exit(1);
  return *simple;
}

/// The same primitives, and nothing else.
class Bare {
 public:
  Bare() : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
    using dnnl::memory;
    const memory::desc activation({1, kChannels, 2, 2}, memory::data_type::f32, memory::format_tag::nhwc);
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::convolution_forward::primitive_desc descriptor(
        engine_, dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, activation,
        memory::desc({kChannels, kChannels, 1, 1}, memory::data_type::f32, memory::format_tag::any),
        memory::desc({kChannels}, memory::data_type::f32, memory::format_tag::x), activation, {1, 1}, {0, 0}, {0, 0}, {0, 0}, attributes);
    primitive_ = dnnl::convolution_forward(descriptor);
    const auto zeros = [&](const memory::desc& desc) {
      memory made(desc, engine_);
      if (desc.get_size() > 0) std::memset(made.get_data_handle(), 0, desc.get_size());
      return made;
    };
    for (int i = 0; i < kLayers; ++i) {
      memory_.push_back(zeros(descriptor.src_desc()));
      memory_.push_back(zeros(descriptor.weights_desc()));
      memory_.push_back(zeros(descriptor.bias_desc()));
      memory_.push_back(zeros(descriptor.dst_desc()));
      memory_.push_back(zeros(descriptor.scratchpad_desc()));
      const int ids[] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DST, DNNL_ARG_SCRATCHPAD};
      std::vector<dnnl_exec_arg_t> list;
      for (std::size_t k = 0; k < 5; ++k) list.push_back({ids[k], memory_[memory_.size() - 5 + k].get()});
      lists_.push_back(std::move(list));
    }
  }

  void run() {
    for (const auto& list : lists_) dnnl_primitive_execute(primitive_.get(), stream_.get(), static_cast<int>(list.size()), list.data());
  }

 private:
  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::primitive primitive_;
  std::vector<dnnl::memory> memory_;
  std::vector<std::vector<dnnl_exec_arg_t>> lists_;
};

void own_overhead() {
  constexpr int kBlocks = 400;
  constexpr int kRuns = 50;
  Model model(chain());
  Bare bare;
  std::vector<double> ours, theirs;
  for (int block = 0; block < kBlocks; ++block) {
    auto start = Clock::now();
    for (int i = 0; i < kRuns; ++i) model.executor->run(model.inputs, model.outputs);
    ours.push_back(us_since(start) / kRuns / kLayers);
    start = Clock::now();
    for (int i = 0; i < kRuns; ++i) bare.run();
    theirs.push_back(us_since(start) / kRuns / kLayers);
  }
  std::printf("a tiny convolution (%zu steps): executor %.3f us, bare primitive %.3f us, own overhead %.3f us\n",
              model.executor->steps().size(), median(ours), median(theirs), median(ours) - median(theirs));
}

void sum_of_steps(const char* path) {
  constexpr int kRuns = 300;
  auto graph = kerf::onnx::read_model(path);
  auto simple = graph.has_value() ? kerf::engine::simplify(std::move(*graph)) : std::move(graph);
  if (!simple.has_value()) {
    std::fprintf(stderr, "%s\n", simple.error().message.c_str());
    std::exit(1);
  }
  Model model(*simple);
  std::vector<double> whole;
  std::vector<std::vector<double>> steps(model.executor->steps().size());
  for (int i = 0; i < kRuns; ++i) {
    const auto start = Clock::now();
    model.executor->run(model.inputs, model.outputs);
    whole.push_back(us_since(start));
    const auto times = model.executor->run_profiled(model.inputs, model.outputs);
    for (std::size_t k = 0; k < times.size(); ++k) steps[k].push_back(times[k]);
  }
  double sum = 0;
  for (const auto& times : steps) sum += median(times);
  std::printf("%-40s whole %9.2f us, steps %9.2f us, sum / whole %.3f\n", path, median(whole), sum, sum / median(whole));
}

}  // namespace

int main(int argc, char** argv) {
  own_overhead();
  for (int i = 1; i < argc; ++i) sum_of_steps(argv[i]);
  return 0;
}
