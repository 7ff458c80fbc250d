#include "workers/data/bind.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <utility>

#include "workers/data/convert.h"

namespace kerf::data {
namespace {

using graph::DType;
using graph::Shape;
using graph::Tensor;

bool is_float(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16 ||
         dtype == DType::kF64;
}

/// Whether `have` (without ones) from `i` on can lie on `want` from `j` on; `sizes` gets the sizes
/// that want's dimensions take.
bool lay(const Shape& have, std::size_t i, const Shape& want, std::size_t j, Shape& sizes) {
  if (j == want.size()) return i == have.size();
  const auto take = [&](std::int64_t size, std::size_t used) {
    sizes.push_back(size);
    if (lay(have, i + used, want, j + 1, sizes)) return true;
    sizes.pop_back();
    return false;
  };
  if (want[j] == 1) return take(1, 0);
  const bool matches = i < have.size() && (want[j] < 0 || want[j] == have[i]);
  if (matches && take(have[i], 1)) return true;
  return want[j] < 0 && take(1, 0);
}

/// The shape under which a sample fits an input; nullopt where it doesn't.
std::optional<Shape> fit_sample(const Shape& sample, const Shape& want) {
  if (sample.size() == want.size()) {
    bool same = true;
    for (std::size_t i = 0; i < want.size(); ++i) {
      same = same && (want[i] < 0 || want[i] == sample[i]);
    }
    if (same) return sample;
  }
  Shape have;
  for (const std::int64_t dim : sample) {
    if (dim != 1) have.push_back(dim);
  }
  constexpr std::size_t kHighestRank = 16;  // keeps the search small
  if (want.size() > kHighestRank || have.size() > want.size()) return std::nullopt;
  Shape sizes;
  if (!lay(have, 0, want, 0, sizes)) return std::nullopt;
  return sizes;
}

Shape sample_shape(const Shape& shape) {
  return shape.empty() ? Shape{} : Shape(shape.begin() + 1, shape.end());
}

/// How an array becomes an input.
struct Fit {
  Turn turn = Turn::kNone;
  Shape sample;
  bool channels_last = false;
};

std::optional<Fit> find_fit(const Shape& raw, const Shape& want, bool images, bool nhwc) {
  const Shape sample = sample_shape(raw);
  const Shape wanted = sample_shape(want);
  if (sample.size() == 3 && images) {  // planes, whatever `layout` says of files
    if (const auto fits = fit_sample(sample, wanted)) return Fit{Turn::kNone, *fits, false};
    const Shape turned = {sample[1], sample[2], sample[0]};
    if (const auto fits = fit_sample(turned, wanted)) return Fit{Turn::kChannelsLast, *fits, true};
    return std::nullopt;
  }
  if (sample.size() == 3 && nhwc) {
    const Shape turned = {sample[2], sample[0], sample[1]};
    if (const auto fits = fit_sample(turned, wanted)) return Fit{Turn::kChannelsFirst, *fits, false};
    if (const auto fits = fit_sample(sample, wanted)) return Fit{Turn::kNone, *fits, true};
    return std::nullopt;
  }
  if (const auto fits = fit_sample(sample, wanted)) return Fit{Turn::kNone, *fits, false};
  return std::nullopt;
}

/// One number a channel out of none, one or as many.
Result<std::vector<double>> per_channel(const std::vector<double>& given, double fallback,
                                        std::int64_t channels, const char* key,
                                        const std::string& input) {
  const auto count = static_cast<std::size_t>(channels);
  if (given.empty()) return std::vector<double>(count, fallback);
  if (given.size() == 1) return std::vector<double>(count, given.front());
  if (given.size() == count) return given;
  return invalid_argument("preprocess." + std::string(key) + " has " +
                          std::to_string(given.size()) + " values; expected 1 or " +
                          std::to_string(channels) + ", the channels of the model's input '" +
                          input + "'");
}

Tensor to_dtype(const Tensor& floats, DType dtype) {
  if (dtype == DType::kF32) return floats;
  Tensor out(dtype, floats.shape());
  const auto values = floats.as<float>();
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::kF64) out.mutable_as<double>()[i] = values[i];
    if (dtype == DType::kF16) out.mutable_as<std::uint16_t>()[i] = graph::f32_to_f16(values[i]);
    if (dtype == DType::kBF16) out.mutable_as<std::uint16_t>()[i] = graph::f32_to_bf16(values[i]);
  }
  return out;
}

std::string found_names(const DataSet& data) {
  std::string names;
  for (const auto& [name, tensor] : data.inputs) names += (names.empty() ? "" : ", ") + name;
  if (data.labels) names += names.empty() ? "y" : ", y";
  return names.empty() ? "nothing" : names;
}

/// A data set and what messages say of it.
class Binder {
 public:
  Binder(const DataSet& data, const graph::Graph& graph,
         const std::optional<Preprocess>& preprocess, const std::string& file)
      : data_(data), graph_(graph), preprocess_(preprocess), file_(file), labels_(data.labels) {}

  Result<BoundData> run() {
    if (graph_.inputs.empty()) return invalid_argument("the model has no inputs to bind data to");
    const bool any_float = std::any_of(graph_.inputs.begin(), graph_.inputs.end(),
                                       [](const auto& input) { return is_float(input.dtype); });
    if (preprocess_ && !any_float) {
      return invalid_argument("preprocess: the model's input '" + graph_.inputs[0].name +
                              "' takes " + std::string(graph::to_string(graph_.inputs[0].dtype)) +
                              "; expected a float input");
    }
    for (const graph::ValueInfo& input : graph_.inputs) KERF_TRY(bind_input(input));
    KERF_TRY(bind_labels());
    return std::move(bound_);
  }

 private:
  [[nodiscard]] std::string where(const std::string& array) const { return file_ + ": " + array; }

  Result<std::pair<std::string, Tensor>> find_array(const graph::ValueInfo& input) {
    const bool sole = graph_.inputs.size() == 1;
    for (const std::string& name : {input.name, std::string("x")}) {
      if (name != input.name && !sole) continue;
      if (const auto found = data_.inputs.find(name); found != data_.inputs.end()) {
        return std::pair{name, found->second};
      }
      if (name == "y" && labels_) {  // the model's input has the labels' name
        std::pair taken{name, *labels_};
        labels_.reset();
        return taken;
      }
      if (const auto left = data_.left_out.find(name); left != data_.left_out.end()) {
        return invalid_argument(file_ + ": " + left->second);
      }
    }
    return invalid_argument(file_ + ": no array '" + input.name + "'" +
                            (sole && input.name != "x" ? " and no 'x'" : "") +
                            "; expected one for the model's input (found: " + found_names(data_) +
                            ")");
  }

  /// A CSV without a header has its label last where the model takes one column less.
  Tensor without_last_column(const Tensor& x, const graph::ValueInfo& input) {
    if (!data_.last_column || x.rank() != 2) return x;
    const Shape want = sample_shape(input.shape);
    if (fit_sample({x.dim(1)}, want)) return x;
    if (!fit_sample({x.dim(1) - 1}, want)) return x;
    labels_ = data_.last_column;
    Tensor out(x.dtype(), {x.dim(0), x.dim(1) - 1});
    const auto from = x.as<float>();
    const auto to = out.mutable_as<float>();
    const auto width = static_cast<std::size_t>(x.dim(1));
    for (std::size_t row = 0; row < static_cast<std::size_t>(x.dim(0)); ++row) {
      std::copy_n(from.data() + row * width, width - 1, to.data() + row * (width - 1));
    }
    return out;
  }

  Result<void> bind_input(const graph::ValueInfo& input) {
    KERF_ASSIGN(auto array, find_array(input));
    const std::string at = where(array.first);
    const Tensor raw = without_last_column(array.second, input);
    if (input.shape.empty()) {
      return invalid_argument("the model's input '" + input.name +
                              "' takes a single value; expected an axis of samples");
    }
    if (raw.dim(0) == 0) return invalid_argument(at + " holds no samples");
    if (bound_.inputs.empty()) {
      bound_.samples = raw.dim(0);
      first_array_ = array.first;
    } else if (raw.dim(0) != bound_.samples) {
      return invalid_argument(at + " has " + std::to_string(raw.dim(0)) + " samples; expected " +
                              std::to_string(bound_.samples) + " as " + first_array_ + " has");
    }
    const bool nhwc = preprocess_ && preprocess_->layout == "NHWC";
    const auto fit = find_fit(raw.shape(), input.shape, data_.images, nhwc);
    if (!fit) return shape_error(at, raw, input, nhwc);
    Shape shape = fit->sample;
    shape.insert(shape.begin(), bound_.samples);
    if (!is_float(input.dtype)) {
      if (fit->turn != Turn::kNone) return shape_error(at, raw, input, nhwc);
      KERF_ASSIGN(const Tensor integers, to_model_integers(raw, input.dtype, at));
      bound_.inputs.push_back(integers.reshaped(shape));
      return {};
    }
    FloatConversion conversion;
    conversion.turn = fit->turn;
    conversion.channels_last = fit->channels_last;
    if (!fit->sample.empty()) {
      conversion.channels = fit->channels_last ? fit->sample.back() : fit->sample.front();
    }
    if (preprocess_) {
      Affine affine{preprocess_->scale, {}, {}};
      KERF_ASSIGN(affine.mean,
                  per_channel(preprocess_->mean, 0, conversion.channels, "mean", input.name));
      KERF_ASSIGN(affine.std,
                  per_channel(preprocess_->std, 1, conversion.channels, "std", input.name));
      conversion.affine = std::move(affine);
    }
    KERF_ASSIGN(const Tensor floats, to_model_floats(raw, conversion, at));
    bound_.inputs.push_back(to_dtype(floats.reshaped(shape), input.dtype));
    return {};
  }

  Error shape_error(const std::string& at, const Tensor& raw, const graph::ValueInfo& input,
                    bool nhwc) const {
    Shape want = input.shape;
    want[0] = -1;  // any number of samples
    std::string message = at + " has shape " + graph::to_string(raw.shape()) +
                          "; the model's input '" + input.name + "' takes " +
                          graph::to_string(want);
    if (!nhwc && !data_.images && raw.rank() == 4 && is_float(input.dtype) &&
        find_fit(raw.shape(), input.shape, false, true)) {
      message += " (preprocess with \"layout\": \"NHWC\" would turn it)";
    }
    return invalid_argument(message);
  }

  Result<void> bind_labels() {
    if (!labels_) {
      if (const auto left = data_.left_out.find("y"); left != data_.left_out.end()) {
        return invalid_argument(file_ + ": " + left->second);
      }
      return {};
    }
    const Tensor& y = *labels_;
    const std::string at = where("y");
    if (y.dim(0) != bound_.samples) {
      return invalid_argument(at + " has " + std::to_string(y.dim(0)) + " entries; expected " +
                              std::to_string(bound_.samples) + ", one a sample of " + first_array_);
    }
    return is_float(y.dtype()) ? bind_targets(y, at) : bind_classes(y, at);
  }

  [[nodiscard]] std::string output_text() const {
    const graph::ValueInfo& output = graph_.outputs[0];
    return "the model's output '" + output.name + "' of " + graph::to_string(output.shape);
  }

  Result<void> bind_classes(const Tensor& y, const std::string& at) {
    if (y.elements() != bound_.samples) {
      return invalid_argument(at + " has shape " + graph::to_string(y.shape()) + "; expected [" +
                              std::to_string(bound_.samples) + "], one class a sample");
    }
    const auto classes = class_count(graph_);
    if (!graph_.outputs.empty()) {
      const Shape scores = sample_shape(graph_.outputs[0].shape);
      if (std::count_if(scores.begin(), scores.end(), [](auto dim) { return dim > 1; }) > 1) {
        return invalid_argument(at + " holds one class a sample; expected no y, because " +
                                output_text() + " scores many places of a sample");
      }
    }
    if (classes == 1) {
      return invalid_argument(at + " holds integers, which are classes; expected floats "
                                   "(regression targets) for " + output_text());
    }
    bound_.classes = y.to_integers();
    for (std::size_t i = 0; i < bound_.classes.size(); ++i) {
      const std::int64_t value = bound_.classes[i];
      if (value >= 0 && (!classes || value < *classes)) continue;
      return invalid_argument(at + "[" + std::to_string(i) + "] = " + std::to_string(value) +
                              (classes ? "; expected a class from 0 to " + std::to_string(*classes - 1)
                                       : "; expected a class, 0 or above"));
    }
    return {};
  }

  Result<void> bind_targets(const Tensor& y, const std::string& at) {
    const std::int64_t per_sample = y.elements() / bound_.samples;
    if (!graph_.outputs.empty()) {
      const auto expected = graph::element_count(sample_shape(graph_.outputs[0].shape));
      if (expected && *expected != per_sample) {
        const auto classes = class_count(graph_);
        const bool may_be_classes = per_sample == 1 && classes && *classes > 1;
        return invalid_argument(at + " holds floats, which are regression targets, " +
                                std::to_string(per_sample) + " a sample; expected " +
                                (may_be_classes ? "integers (classes from 0 to " +
                                                      std::to_string(*classes - 1) + ") or "
                                                : "") +
                                std::to_string(*expected) + " floats a sample for " + output_text());
      }
    }
    bound_.targets = y.to_floats();
    for (std::size_t i = 0; i < bound_.targets.size(); ++i) {
      if (std::isfinite(bound_.targets[i])) continue;
      return invalid_argument(at + "[" + std::to_string(static_cast<std::int64_t>(i) / per_sample) +
                              "] holds " + (std::isnan(bound_.targets[i]) ? "NaN" : "Inf"));
    }
    return {};
  }

  const DataSet& data_;
  const graph::Graph& graph_;
  const std::optional<Preprocess>& preprocess_;
  const std::string& file_;
  std::optional<Tensor> labels_;
  std::string first_array_;
  BoundData bound_;
};

}  // namespace

Tensor rows(const Tensor& tensor, std::int64_t begin, std::int64_t end) {
  Shape shape = tensor.shape();
  const std::size_t row = tensor.dim(0) == 0 ? 0 : tensor.bytes() / static_cast<std::size_t>(tensor.dim(0));
  shape[0] = end - begin;
  Tensor out(tensor.dtype(), shape);
  if (out.bytes() > 0) {
    std::memcpy(out.mutable_raw(), tensor.raw() + static_cast<std::size_t>(begin) * row, out.bytes());
  }
  return out;
}

BoundData BoundData::slice(std::int64_t begin, std::int64_t end) const {
  begin = std::clamp<std::int64_t>(begin, 0, samples);
  end = std::clamp<std::int64_t>(end, begin, samples);
  BoundData out;
  out.samples = end - begin;
  for (const Tensor& input : inputs) out.inputs.push_back(rows(input, begin, end));
  if (!classes.empty()) out.classes.assign(classes.begin() + begin, classes.begin() + end);
  if (!targets.empty()) {
    const std::int64_t each = targets_per_sample();
    out.targets.assign(targets.begin() + begin * each, targets.begin() + end * each);
  }
  return out;
}

std::optional<std::int64_t> class_count(const graph::Graph& graph) {
  if (graph.outputs.empty() || !is_float(graph.outputs[0].dtype)) return std::nullopt;
  const Shape shape = sample_shape(graph.outputs[0].shape);
  if (graph.outputs[0].shape.empty()) return std::nullopt;
  for (auto dim = shape.rbegin(); dim != shape.rend(); ++dim) {
    if (*dim < 0) return std::nullopt;
    if (*dim != 1) return *dim;
  }
  return 1;
}

Result<BoundData> bind(const DataSet& data, const graph::Graph& graph,
                       const std::optional<Preprocess>& preprocess, const std::string& file_name) {
  return Binder(data, graph, preprocess, file_name).run();
}

}  // namespace kerf::data
