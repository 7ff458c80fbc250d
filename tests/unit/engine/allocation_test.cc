// run() allocates nothing itself. oneDNN's own bookkeeping inside a primitive isn't counted.
#include <link.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>

#include "core/sanitized.h"
#include "tests/unit/engine/support.h"

namespace {

std::atomic<bool> counting{false};
std::atomic<int> counted{0};
std::uintptr_t library_begin = 0;
std::uintptr_t library_end = 0;

int find_library(dl_phdr_info* info, std::size_t, void*) {
  if (info->dlpi_name == nullptr || std::strstr(info->dlpi_name, "libdnnl") == nullptr) return 0;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    if (info->dlpi_phdr[i].p_type != PT_LOAD) continue;
    const std::uintptr_t begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
    if (library_begin == 0 || begin < library_begin) library_begin = begin;
    library_end = std::max(library_end, begin + info->dlpi_phdr[i].p_memsz);
  }
  return 1;
}

void* allocate(std::size_t size, const void* caller) {
  const auto at = reinterpret_cast<std::uintptr_t>(caller);
  if (counting && (at < library_begin || at >= library_end)) ++counted;
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

// The sanitizers have operators of their own, which know of aligned and sized forms: there nothing is
// counted.
#if !KERF_SANITIZED
// GCC sees free() inlined beside new and not that both are replaced here.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"
void* operator new(std::size_t size) { return allocate(size, __builtin_return_address(0)); }
void* operator new[](std::size_t size) { return allocate(size, __builtin_return_address(0)); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
#endif

namespace kerf::engine::testing {
namespace {

using Ints = std::vector<std::int64_t>;

/// Of the second run, and that no step is a plain kernel's.
void expect_no_allocation(const Builder& b, const Tensor& input) {
  const auto simple = simplify(b.graph);
  ASSERT_TRUE(simple.has_value());
  auto executor = Executor::compile(*simple, {0, 1});
  ASSERT_TRUE(executor.has_value()) << executor.error().message;
  for (const StepInfo& step : (*executor)->steps()) EXPECT_NE(step.kernel, "kerf:reference") << step.op;
  std::vector<Tensor> outputs;
  std::vector<void*> to;
  for (const graph::ValueInfo& output : (*executor)->outputs()) outputs.emplace_back(output.dtype, output.shape);
  for (Tensor& output : outputs) to.push_back(output.mutable_raw());
  const void* from[] = {input.raw()};
  (*executor)->run(from, to);
  counted = 0;
  counting = true;
  (*executor)->run(from, to);
  counting = false;
  EXPECT_EQ(counted, 0);
}

TEST(Run, AllocatesNothing) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's allocator can't be counted";
  dl_iterate_phdr(find_library, nullptr);
  ASSERT_NE(library_begin, 0U);
  Random random;
  Builder b;
  const std::string x = b.input({1, 3, 16, 16});
  const std::string a = b.node("Relu", {b.node("Conv", {x, b.constant(random.f32({16, 3, 3, 3}))}, {{"pads", Ints{1, 1, 1, 1}}})});
  const std::string c = b.node("Add", {b.node("Conv", {a, b.constant(random.f32({16, 16, 3, 3}))}, {{"pads", Ints{1, 1, 1, 1}}}), a});
  const std::string q = b.rounded(b.node("Sigmoid", {c}), 0.004F, 0, DType::kU8);
  const std::string d = b.node("Conv", {q, b.integer_weights(random.bytes(DType::kS8, {8, 16, 1, 1}, -127, 127), {0.01F}, 0)});
  const std::string e = b.node("Concat", {b.node("MaxPool", {d}, {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}}),
                                          b.node("AveragePool", {d}, {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}})}, {{"axis", std::int64_t{1}}});
  const std::string gate = b.node("Mul", {e, b.node("HardSigmoid", {b.node("GlobalAveragePool", {e})})});
  b.output(b.node("Softmax", {b.node("Gemm", {b.node("Flatten", {gate}), b.constant(random.f32({1024, 4}))})}));
  expect_no_allocation(b, random.f32({1, 3, 16, 16}));
}

TEST(Run, OfLightOperatorsAllocatesNothing) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's allocator can't be counted";
  dl_iterate_phdr(find_library, nullptr);
  Random random;
  Builder b;
  const std::string x = b.input({2, 6, 8, 8});
  const auto list = [&](const Ints& values) { return b.constant(Tensor::s64({static_cast<std::int64_t>(values.size())}, values)); };
  const std::string scale = b.constant(random.f32({6}));
  std::string y = b.node("GroupNormalization", {x, scale, scale}, {{"num_groups", std::int64_t{3}}});
  y = b.node("Resize", {y, "", b.constant(Tensor::f32({4}, {1, 1, 2, 1.5F}))}, {{"mode", std::string("linear")}});
  y = b.node("LRN", {y}, {{"size", std::int64_t{3}}});
  y = b.node("DepthToSpace", {b.node("Pad", {b.node("Tile", {y, list({1, 2, 1, 1})}), list({0, 0, 1, 1, 0, 0, 1, 1})}, {{"mode", std::string("reflect")}})}, {{"blocksize", std::int64_t{2}}});
  y = b.node("Mish", {b.node("Pow", {y, b.constant(Tensor::scalar(2.0F))})});
  const std::string rows = b.node("ReduceSum", {y, list({1, 3})}, {{"keepdims", std::int64_t{0}}});
  const std::string extent = b.node("ReduceLogSumExp", {y, list({1, 2, 3})}, {{"keepdims", std::int64_t{0}}});
  const std::string picked = b.node("Gather", {rows, b.node("ArgMax", {rows}, {{"axis", std::int64_t{1}}, {"keepdims", std::int64_t{0}}})}, {{"axis", std::int64_t{1}}});
  const std::string above = b.node("Where", {b.node("Greater", {picked, extent}), picked, extent});
  const std::string top = b.node("TopK", {b.node("CumSum", {rows, b.constant(Tensor::s64({}, {1}))}), list({3})}, {}, 2);
  const std::string sequence = b.node("Unsqueeze", {rows, list({0})});
  const std::int64_t width = 36;
  b.node("GRU", {sequence, b.constant(random.f32({1, 12, width}, 0.1F)), b.constant(random.f32({1, 12, 4}, 0.1F))}, {{"hidden_size", std::int64_t{4}}}, 2);
  b.output(b.graph.nodes.back().outputs[1]);
  b.output(above);
  b.output(top);
  expect_no_allocation(b, random.f32({2, 6, 8, 8}));
}

TEST(Run, OfProductsOfTwoValuesAllocatesNothing) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's allocator can't be counted";
  dl_iterate_phdr(find_library, nullptr);
  Random random;
  Builder b;
  const std::string x = b.input({1, 3, 8, 8});
  const auto shape = [&](const Ints& values) { return b.constant(Tensor::s64({static_cast<std::int64_t>(values.size())}, values)); };
  // The image is its own kernel.
  const std::string conv = b.node("Conv", {x, b.node("Reshape", {x, shape({4, 3, 4, 4})})});
  const std::string turned = b.node("ConvTranspose", {conv, b.node("Reshape", {x, shape({4, 3, 4, 4})})});
  const std::string q = b.rounded(turned, 0.5F, 130, DType::kU8);
  b.output(b.node("MatMul", {q, b.node("Transpose", {q}, {{"perm", Ints{0, 1, 3, 2}}})}));
  expect_no_allocation(b, random.f32({1, 3, 8, 8}));
}

}  // namespace
}  // namespace kerf::engine::testing
