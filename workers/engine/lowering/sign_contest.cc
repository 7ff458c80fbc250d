#include "workers/engine/lowering/sign_contest.h"

#include <omp.h>

#include <chrono>
#include <map>
#include <mutex>

#include "workers/engine/contest.h"
#include "workers/engine/kernels/primitive.h"

namespace kerf::engine {

using graph::DType;

namespace {

/// What was found in this process.
class Known {
 public:
  std::optional<bool> find(const SignGeometry& geometry) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = results_.find(geometry);
    return found == results_.end() ? std::nullopt : std::optional(found->second);
  }
  void keep(const SignGeometry& geometry, bool bits) {
    const std::lock_guard<std::mutex> lock(mutex_);
    results_[geometry] = bits;
  }

 private:
  std::mutex mutex_;
  std::map<SignGeometry, bool> results_;
};

Known& known() {
  static Known made;
  return made;
}

double now_us() {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// The library's primitive on memory of its own.
std::unique_ptr<PrimitiveStep> byte_step(const LayerCall& call, const FoundKernel& found) {
  auto step = std::make_unique<PrimitiveStep>(dnnl::primitive(found.descriptor.get()), found.kernel, found.scratchpad);
  const auto zeros = [](const dnnl::memory::desc& desc) {
    dnnl::memory memory(desc, cpu_engine());
    std::fill_n(static_cast<std::byte*>(memory.get_data_handle()), desc.get_size(), std::byte{0});
    return memory;
  };
  step->add_fixed(DNNL_ARG_SRC, zeros(found.source));
  step->add_fixed(DNNL_ARG_WEIGHTS, zeros(found.weights));
  step->add_fixed(DNNL_ARG_DST, zeros(found.destination));
  if (!call.bias.empty()) step->add_fixed(DNNL_ARG_BIAS, zeros(found.bias));
  step->add_fixed(DNNL_ARG_ATTR_SCALES | DNNL_ARG_SRC, f32_vector({call.input_numeric.scale}));
  step->add_fixed(DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS, f32_vector(call.weight_scales));
  if (found.residual == FoundKernel::Residual::kBinary) {
    step->add_fixed(DNNL_ARG_ATTR_MULTIPLE_POST_OP(found.residual_index) | DNNL_ARG_SRC_1, zeros(dnnl_desc(call.output_dims, DType::kF32, call.layout)));
  }
  return step;
}

/// Counting bits on memory of its own.
class BitWork {
 public:
  BitWork(const SignGeometry& g, const LayerCall& call, const KernelWanted& wanted)
      : product_(g, sign_kernels(), 1),
        x_(static_cast<std::size_t>(g.batch * g.in[0] * g.in[1] * g.channels)),
        weights_(static_cast<std::size_t>(product_.weight_words())),
        numbers_(static_cast<std::size_t>(product_.padded_outputs())),
        y_(static_cast<std::size_t>(g.batch * g.out[0] * g.out[1] * g.outputs)),
        residual_(y_.size()),
        scratch_(static_cast<std::size_t>(product_.scratch_bytes() / 8)) {
    finish_.scales = numbers_.data();
    if (!call.bias.empty()) finish_.bias = numbers_.data();
    finish_.residual = residual_.data();
    finish_.bf16 = wanted.destination == DType::kBF16;
    for (std::size_t i = 0; i < wanted.links; ++i) finish_.stages.push_back(wanted.chain->links[i].stage);
  }
  void run() { product_.run(x_.data(), weights_.data(), finish_, y_.data(), reinterpret_cast<std::byte*>(scratch_.data())); }

 private:
  SignProduct product_;
  SignFinish finish_;
  std::vector<std::int8_t> x_;
  std::vector<std::uint64_t> weights_;
  std::vector<float> numbers_, y_, residual_;
  std::vector<std::uint64_t> scratch_;
};

/// OpenMP's team of this thread while it lives.
class Team {
 public:
  explicit Team(int threads) : before_(omp_get_max_threads()) { omp_set_num_threads(threads); }
  ~Team() { omp_set_num_threads(before_); }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

 private:
  int before_;
};

}  // namespace

bool counting_bits_pays(const SignGeometry& g) {
  const std::int64_t depth = g.channels * g.kernel[0] * g.kernel[1];
  return depth >= 192 || g.batch * g.out[0] * g.out[1] <= 4;
}

bool bits_win(const Values& values, const LayerCall& call, const SignGeometry& geometry, const FoundKernel& bytes, const KernelWanted& wanted) {
  if (const auto found = known().find(geometry)) return *found;
  if (!values.timed()) return counting_bits_pays(geometry);
  const Team alone(1);
  // The library chooses its blocks for the team that will run them.
  const auto found = values.threads() == 1 ? std::optional(bytes) : find_kernel(values, call, *wanted.chain, wanted.links, false, wanted.destination, wanted.by_sum);
  if (!found) return counting_bits_pays(geometry);
  const auto step = byte_step(call, *found);
  dnnl::memory scratchpad(found->scratchpad, cpu_engine());
  step->bind(nullptr, found->scratchpad.get_size() > 0 ? static_cast<std::byte*>(scratchpad.get_data_handle()) : nullptr);
  BitWork bits(geometry, call, wanted);
  const std::vector<Contender> contenders = {{[&] { step->run(nullptr); }, {}}, {[&] { bits.run(); }, {}}};
  constexpr double kBlockUs = 300;
  const bool won = fastest(contenders, {now_us, {}, kBlockUs}) == 1U;
  known().keep(geometry, won);
  return won;
}

}  // namespace kerf::engine
