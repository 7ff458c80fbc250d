// Which layout activations should lie in between layers: channels-last everywhere, or whatever each
// primitive prefers (format any). Convolutions of three small networks, one after another, without
// the engine around them. docs/decisions/0002-activation-layout.md holds what it said.
#include <benchmark/benchmark.h>

#include <cstring>
#include <dnnl.hpp>
#include <unordered_map>
#include <vector>

namespace {

using dnnl::memory;
using Tag = memory::format_tag;
using Type = memory::data_type;

struct Conv {
  int in, out, extent, kernel, stride;
  bool residual = false;
  int groups = 1;
};

const std::vector<std::vector<Conv>> kNetworks{
    // ResNet-8
    {{3, 16, 32, 3, 1}, {16, 16, 32, 3, 1}, {16, 16, 32, 3, 1, true}, {16, 32, 32, 3, 2}, {16, 32, 32, 1, 2},
     {32, 32, 16, 3, 1, true}, {32, 64, 16, 3, 2}, {32, 64, 16, 1, 2}, {64, 64, 8, 3, 1, true}},
    // MobileNet's separable convolutions
    {{3, 8, 96, 3, 2}, {8, 8, 48, 3, 1, false, 8}, {8, 16, 48, 1, 1}, {16, 16, 48, 3, 2, false, 16}, {16, 32, 24, 1, 1},
     {32, 32, 24, 3, 1, false, 32}, {32, 32, 24, 1, 1}, {64, 64, 12, 3, 1, false, 64}, {64, 64, 12, 1, 1},
     {128, 128, 6, 3, 1, false, 128}, {128, 128, 6, 1, 1}},
    // ResNet-8 with pruned channels, which are no multiple of anything
    {{3, 13, 32, 3, 1}, {13, 11, 32, 3, 1}, {11, 13, 32, 3, 1, true}, {13, 27, 32, 3, 2}, {13, 27, 32, 1, 2},
     {27, 27, 16, 3, 1, true}, {27, 50, 16, 3, 2}, {27, 50, 16, 1, 2}, {50, 50, 8, 3, 1, true}}};

struct Layer {
  dnnl::primitive primitive;
  std::unordered_map<int, memory> arguments;
};

memory zeros(const dnnl::engine& engine, const memory::desc& desc) {
  memory made(desc, engine);
  if (desc.get_size() > 0) std::memset(made.get_data_handle(), 0, desc.get_size());
  return made;
}

memory ones(const dnnl::engine& engine, int count) {
  memory made({{count}, Type::f32, Tag::x}, engine);
  for (int i = 0; i < count; ++i) static_cast<float*>(made.get_data_handle())[i] = 1.0F;
  return made;
}

Layer layer_of(const dnnl::engine& engine, const Conv& c, int batch, int precision, bool any, bool first) {
  const Type activation = precision == 0 ? Type::f32 : precision == 1 ? Type::bf16 : Type::u8;
  const Type weight = precision == 0 ? Type::f32 : precision == 1 ? Type::bf16 : Type::s8;
  const int pad = c.kernel / 2;
  const int out = (c.extent + 2 * pad - c.kernel) / c.stride + 1;
  memory::dims weights{c.out, c.in, c.kernel, c.kernel};
  if (c.groups > 1) weights = {c.groups, c.out / c.groups, c.in / c.groups, c.kernel, c.kernel};
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  dnnl::post_ops posts;
  if (c.residual) posts.append_sum(1.0F);
  posts.append_eltwise(dnnl::algorithm::eltwise_relu, 0, 0);
  attributes.set_post_ops(posts);
  if (precision == 2) {
    attributes.set_scales_mask(DNNL_ARG_SRC, 0);
    attributes.set_scales_mask(DNNL_ARG_WEIGHTS, c.groups > 1 ? 3 : 1);
    attributes.set_scales_mask(DNNL_ARG_DST, 0);
  }
  const dnnl::convolution_forward::primitive_desc descriptor(
      engine, dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct,
      memory::desc({batch, c.in, c.extent, c.extent}, activation, any && !first ? Tag::any : Tag::nhwc),
      memory::desc(weights, weight, Tag::any), memory::desc({c.out}, Type::f32, Tag::x),
      memory::desc({batch, c.out, out, out}, activation, any ? Tag::any : Tag::nhwc), {c.stride, c.stride}, {0, 0},
      {pad, pad}, {pad, pad}, attributes);
  Layer layer{dnnl::convolution_forward(descriptor),
              {{DNNL_ARG_SRC, zeros(engine, descriptor.src_desc())},
               {DNNL_ARG_WEIGHTS, zeros(engine, descriptor.weights_desc())},
               {DNNL_ARG_BIAS, zeros(engine, descriptor.bias_desc())},
               {DNNL_ARG_DST, zeros(engine, descriptor.dst_desc())},
               {DNNL_ARG_SCRATCHPAD, zeros(engine, descriptor.scratchpad_desc())}}};
  if (precision == 2) {
    layer.arguments[DNNL_ARG_ATTR_SCALES | DNNL_ARG_SRC] = ones(engine, 1);
    layer.arguments[DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS] = ones(engine, c.out);
    layer.arguments[DNNL_ARG_ATTR_SCALES | DNNL_ARG_DST] = ones(engine, 1);
  }
  return layer;
}

/// Arguments: network, precision (0 f32, 1 bf16, 2 u8), batch, any.
void layout(benchmark::State& state) {
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  std::vector<Layer> layers;
  for (const Conv& conv : kNetworks[static_cast<std::size_t>(state.range(0))]) {
    layers.push_back(layer_of(engine, conv, static_cast<int>(state.range(2)), static_cast<int>(state.range(1)),
                              state.range(3) != 0, layers.empty()));
  }
  for (auto _ : state) {
    for (const Layer& layer : layers) layer.primitive.execute(stream, layer.arguments);
  }
  state.SetItemsProcessed(state.iterations() * state.range(2));
}

}  // namespace

BENCHMARK(layout)->ArgNames({"network", "precision", "batch", "any"})->ArgsProduct({{0, 1, 2}, {0, 1, 2}, {1, 8}, {0, 1}});

BENCHMARK_MAIN();
