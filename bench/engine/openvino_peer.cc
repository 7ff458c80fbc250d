// OpenVINO's side of bench/engine/compare.py, in C++ so that no wrapper is timed. Same protocol as
// kerf_peer.cc. usage: openvino_peer MODEL f32|bf16 BATCH THREADS INPUT OUTPUT
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <openvino/openvino.hpp>

int main(int argc, char** argv) {
  if (argc != 7) return 2;
  const std::size_t batch = std::strtoul(argv[3], nullptr, 10);
  ov::Core core;
  auto model = core.read_model(argv[1]);
  std::map<ov::Output<ov::Node>, ov::PartialShape> shapes;
  for (const auto& input : model->inputs()) {
    ov::PartialShape shape = input.get_partial_shape();
    shape[0] = static_cast<std::int64_t>(batch);
    shapes[input] = shape;
  }
  model->reshape(shapes);
  ov::CompiledModel compiled = core.compile_model(
      model, "CPU", ov::hint::inference_precision(std::string(argv[2]) == "bf16" ? ov::element::bf16 : ov::element::f32),
      ov::inference_num_threads(static_cast<std::int32_t>(std::strtol(argv[4], nullptr, 10))), ov::num_streams(1),
      ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY));
  ov::InferRequest request = compiled.create_infer_request();
  std::ifstream file(argv[5], std::ios::binary);
  for (std::size_t i = 0; i < compiled.inputs().size(); ++i) {
    ov::Tensor tensor(compiled.input(i).get_element_type(), compiled.input(i).get_shape());
    file.read(static_cast<char*>(tensor.data()), static_cast<std::streamsize>(tensor.get_byte_size()));
    if (!file) return 3;
    request.set_input_tensor(i, tensor);
  }
  request.infer();
  std::ofstream result(argv[6], std::ios::binary);
  for (std::size_t i = 0; i < compiled.outputs().size(); ++i) {
    const ov::Tensor tensor = request.get_output_tensor(i);
    result.write(static_cast<const char*>(tensor.data()), static_cast<std::streamsize>(tensor.get_byte_size()));
  }
  result.close();
  std::puts("ready");
  std::fflush(stdout);
  for (int runs = 0; std::cin >> runs && runs > 0;) {
    request.infer();
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < runs; ++i) request.infer();
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - start;
    std::printf("%.4f\n", took.count() / runs);
    std::fflush(stdout);
  }
  return 0;
}
