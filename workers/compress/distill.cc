#include "workers/compress/distill.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <set>

#include "workers/compress/distill_loss.h"
#include "workers/compress/optimizer.h"
#include "workers/engine/executor.h"
#include "workers/engine/training/trainer.h"

namespace kerf::compress {
namespace {

using engine::Executor;
using engine::Trainer;
using graph::Graph;
using graph::Tensor;

constexpr std::int64_t kBatch = 32;
constexpr double kLargestNorm = 5;
constexpr double kWarmupEpochs = 0.5;
constexpr int kMostDivergences = 3;
constexpr double kHeldOut = 0.2;
constexpr std::int64_t kMostBytes = 1LL << 30U;  // of values and their gradients
// Found on small residual networks with 500 samples: what follows the teacher inside recovers more
// than what follows its answers alone, and pictures that move by an eighth last longer.
constexpr double kLabelShare = 0.3;
constexpr double kInnerWeight = 100;
constexpr std::size_t kMostInner = 8;
constexpr double kShift = 0.125;
// Steps of low bits throw weights to and fro over the edges between two integers: what is kept is their
// average over about thirty steps.
constexpr double kAveraging = 0.97;

/// One learnt constant of the student.
struct Learnt {
  std::string name;             ///< Of the initializer.
  std::string layer;            ///< Whose weights it is; "" for biases and the like.
  bool rounded = false;
  std::vector<float> value;     ///< Unrounded.
  std::vector<bool> zero;       ///< Stays zero; empty: nothing does.
  graph::Shape shape;
};

/// A value inside both models.
struct Inner {
  std::string value;
  std::size_t axis = 0;
  std::vector<std::int64_t> kept;  ///< Of the teacher's entries along the axis; empty: all.
};

const std::set<std::string>& functions() {
  static const std::set<std::string> names = {"Relu", "LeakyRelu", "Clip",    "HardSwish", "Elu", "Gelu",
                                              "Tanh", "Sigmoid",   "Softplus", "HardSigmoid"};
  return names;
}

/// Which of the teacher's channels the student still has, for every value whose channels are those of
/// a layer.
std::map<std::string, std::vector<std::int64_t>> kept_everywhere(
    const Graph& teacher, std::map<std::string, std::vector<std::int64_t>> of_layers) {
  static const std::set<std::string> kPass = {"Add", "Sub", "Mul", "Div", "BatchNormalization",
                                              "MaxPool", "AveragePool", "GlobalAveragePool"};
  for (const graph::Node& node : teacher.nodes) {
    if (of_layers.contains(node.outputs[0])) continue;
    if (!functions().contains(node.op) && !kPass.contains(node.op)) continue;
    for (const std::string& input : node.inputs) {
      const auto known = of_layers.find(input);
      if (known == of_layers.end()) continue;
      of_layers[node.outputs[0]] = std::vector<std::int64_t>(known->second);
      break;
    }
  }
  return of_layers;
}

/// How a value of the student lies in that of the teacher; nullopt where it isn't known.
std::optional<Inner> common(const std::string& value, const Graph& teacher, const Graph& student,
                            const std::map<std::string, std::vector<std::int64_t>>& kept) {
  const graph::ValueInfo* own = student.value(value);
  const graph::ValueInfo* theirs = teacher.value(value);
  if (own == nullptr || theirs == nullptr || own->shape.size() != theirs->shape.size() ||
      own->shape.size() < 2) {
    return std::nullopt;
  }
  Inner out{value, 0, {}};
  for (std::size_t axis = 0; axis < own->shape.size(); ++axis) {
    if (own->shape[axis] == theirs->shape[axis]) continue;
    const auto known = kept.find(value);
    const bool fits = known != kept.end() && out.kept.empty() &&
                      static_cast<std::int64_t>(known->second.size()) == own->shape[axis] &&
                      *std::max_element(known->second.begin(), known->second.end()) < theirs->shape[axis];
    if (!fits) return std::nullopt;
    out.axis = axis;
    out.kept = known->second;
  }
  return out;
}

/// At most `most` values inside both models, spread over the depth: sums of two branches with what
/// follows them, or where there are none, outputs of activation functions.
std::vector<Inner> common_values(const Graph& teacher, const Graph& student,
                                 const std::map<std::string, std::vector<std::int64_t>>& kept,
                                 std::size_t most) {
  std::vector<Inner> sums, others;
  for (const graph::Node& node : student.nodes) {
    std::string value = node.outputs[0];
    const bool sum = node.op == "Add" && student.constant(node.inputs[0]) == nullptr &&
                     student.constant(node.inputs[1]) == nullptr;
    if (!sum && !functions().contains(node.op)) continue;
    if (sum) {
      const auto readers = student.consumers(value);
      if (readers.size() == 1 && functions().contains(readers[0]->op)) value = readers[0]->outputs[0];
    }
    if (student.is_output(value)) continue;
    if (auto found = common(value, teacher, student, kept)) (sum ? sums : others).push_back(std::move(*found));
  }
  const std::vector<Inner>& found = sums.empty() ? others : sums;
  std::vector<Inner> out;
  const std::size_t count = std::min(most, found.size());
  for (std::size_t i = 0; i < count; ++i) out.push_back(found[(i + 1) * found.size() / count - 1]);
  return out;
}

/// Of all values and their gradients, for one sample.
std::int64_t sample_bytes(const Graph& graph) {
  std::int64_t bytes = 1;
  for (const auto& [name, info] : graph.values) {
    graph::Shape shape = info.shape;
    if (!shape.empty()) shape[0] = 1;
    bytes += 2 * 4 * graph::element_count(shape).value_or(0);
  }
  return bytes;
}

/// Makes outputs of the values; of the teacher's only what the student still has.
void add_outputs(Graph& graph, const std::vector<Inner>& values, bool teacher) {
  for (const Inner& inner : values) {
    std::string name = inner.value;
    if (teacher && !inner.kept.empty()) {
      graph::Node gather;
      gather.name = graph.fresh_name(inner.value + ".kept");
      gather.op = "Gather";
      const std::string indices = graph.fresh_name(gather.name + ".channels");
      graph.initializers[indices] =
          Tensor::s64({static_cast<std::int64_t>(inner.kept.size())}, inner.kept);
      gather.inputs = {inner.value, indices};
      gather.outputs = {gather.name};
      gather.attributes["axis"] = static_cast<std::int64_t>(inner.axis);
      name = gather.name;
      graph.nodes.push_back(std::move(gather));
    }
    graph.outputs.push_back({name, graph::DType::kF32, {}});
  }
}

/// How the student's first output is compared with the teacher's.
enum class Goal { kClasses, kValues };

class Distillation {
 public:
  explicit Distillation(DistillTask task)
      : task_(std::move(task)), dice_(task_.seed), began_(std::chrono::steady_clock::now()) {}

  Result<Distilled> run() {
    KERF_TRY(prepare());
    KERF_ASSIGN(double best, validate());
    out_.loss_before = out_.loss_after = best;
    std::vector<Learnt> kept = averaged_;
    if (!std::isfinite(best)) {
      out_.notes.push_back("distill: the loss is not finite before training; the weights stay");
      return finished(kept);
    }
    const std::int64_t steps_an_epoch =
        (static_cast<std::int64_t>(training_.size()) + batch_ - 1) / batch_;
    const std::int64_t steps = steps_an_epoch * task_.spec.epochs;
    const auto warmup = static_cast<std::int64_t>(kWarmupEpochs * static_cast<double>(steps_an_epoch));
    double rate = task_.spec.learning_rate;
    int divergences = 0;
    for (int epoch = 1; epoch <= task_.spec.epochs; ++epoch) {
      dice_.shuffle(training_);
      bool diverged = false;
      for (std::int64_t s = 0; s < steps_an_epoch && !diverged; ++s) {
        const std::int64_t step = (epoch - 1) * steps_an_epoch + s;
        if (task_.watch && !task_.watch("distill", static_cast<double>(step) / static_cast<double>(steps))) {
          return Error{ErrorCode::kCancelled, "distillation was cancelled in epoch " + std::to_string(epoch)};
        }
        if (seconds() > task_.spec.seconds) return stopped(epoch, kept);
        KERF_ASSIGN(const double loss, train(s, rate * learning_share(step, steps, warmup)));
        diverged = !std::isfinite(loss);
      }
      double loss = std::numeric_limits<double>::quiet_NaN();
      if (!diverged) {
        KERF_TRY(refresh_ranges());
        KERF_ASSIGN(loss, validate());
      }
      if (!std::isfinite(loss)) {
        learnt_ = averaged_ = kept;
        averaged_steps_ = 0;
        optimizer_->forget();
        rate /= 2;
        if (++divergences == kMostDivergences) {
          out_.notes.push_back("distill: training diverged " + std::to_string(divergences) +
                               " times and was ended in epoch " + std::to_string(epoch));
          return finished(kept);
        }
        KERF_TRY(refresh_ranges());
        continue;
      }
      out_.epochs = epoch;
      if (loss < out_.loss_after) {
        out_.loss_after = loss;
        out_.best_epoch = epoch;
        kept = averaged_;
        out_.rounding = roundings_ == 0 ? 0 : roundings_ - 1;
      }
    }
    if (divergences > 0) {
      out_.notes.push_back("distill: training diverged " + std::to_string(divergences) +
                           " times; its learning rate was halved each time");
    }
    return finished(kept);
  }

 private:
  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
  }

  Result<Distilled> stopped(int epoch, const std::vector<Learnt>& kept) {
    out_.notes.push_back("distill: stopped by plan.global.distill.seconds (" +
                         std::to_string(static_cast<int>(task_.spec.seconds)) + ") in epoch " +
                         std::to_string(epoch) + " of " + std::to_string(task_.spec.epochs) +
                         ": another run may give other weights");
    return finished(kept);
  }

  Result<Distilled> finished(const std::vector<Learnt>& kept) {
    out_.graph = std::move(task_.student);
    for (const Learnt& one : kept) out_.graph.initializers[one.name] = Tensor::f32(one.shape, one.value);
    return std::move(out_);
  }

  Result<void> prepare() {
    if (task_.inputs.empty() || task_.inputs[0].rank() == 0 || task_.inputs[0].dim(0) < 1) {
      return invalid_argument("distillation needs samples");
    }
    samples_ = task_.inputs[0].dim(0);
    for (Tensor& input : task_.inputs) input = input.to_f32();
    deal();
    batch_ = std::min({kBatch, static_cast<std::int64_t>(training_.size()),
                       std::max<std::int64_t>(1, kMostBytes / sample_bytes(task_.student))});
    inner_ = common_values(*task_.teacher, task_.student,
                           kept_everywhere(*task_.teacher, task_.kept_channels), kMostInner);
    engine::Logits teacher = engine::without_final_softmax(*task_.teacher);
    logits_of_ = teacher.removed;
    logits_of_.resize(logits_of_.size() + inner_.size());
    add_outputs(teacher.graph, inner_, true);
    engine::ExecutorOptions options;
    options.batch = batch_;
    options.threads = task_.threads;
    auto compiled = Executor::compile(teacher.graph, options);
    if (!compiled.has_value()) return with_context("distill: the teacher", compiled.error());
    teacher_ = std::move(*compiled);
    for (const graph::ValueInfo& port : teacher_->outputs()) {
      answers_.emplace_back(static_cast<std::size_t>(*graph::element_count(port.shape)));
    }
    KERF_TRY(make_trainer());
    for (const Trainer::Parameter& p : trainer_->parameters()) {
      const Tensor* own = task_.student.constant(p.name);
      if (own == nullptr || own->shape() != p.shape) continue;  // made by a pass; it stays
      Learnt one;
      one.name = p.name;
      one.shape = p.shape;
      one.value.assign(p.value.begin(), p.value.end());
      if (p.input == 1) one.layer = p.node;
      one.rounded = task_.rounded_layers.contains(one.layer);
      if (task_.masked_layers.contains(one.layer)) {
        for (const float w : one.value) one.zero.push_back(w == 0.0F);
      }
      learnt_.push_back(std::move(one));
    }
    averaged_ = learnt_;
    if (trainer_->outputs() != answers_.size()) {
      return internal_error("teacher and student have different outputs");
    }
    choose_goals();
    std::vector<std::size_t> sizes;
    for (const Learnt& one : learnt_) sizes.push_back(one.value.size());
    optimizer_.emplace(task_.spec.optimizer, sizes, kLargestNorm);
    return {};
  }

  /// Holds out a fifth of the samples.
  void deal() {
    std::vector<std::int64_t> order(static_cast<std::size_t>(samples_));
    std::iota(order.begin(), order.end(), 0);
    dice_.shuffle(order);
    const std::size_t held = static_cast<std::size_t>(static_cast<double>(order.size()) * kHeldOut);
    held_out_.assign(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(held));
    training_.assign(order.begin() + static_cast<std::ptrdiff_t>(held), order.end());
    if (held_out_.empty()) held_out_ = training_;
  }

  /// The student as it stands, with rounded activations where it has them.
  Result<void> make_trainer() {
    Graph student = task_.student;
    for (const Learnt& one : averaged_) student.initializers[one.name] = Tensor::f32(one.shape, one.value);
    if (task_.with_rounded_activations) {
      KERF_ASSIGN(student, task_.with_rounded_activations(student));
      ++roundings_;
    }
    trainer_.reset();
    student = engine::without_final_softmax(std::move(student)).graph;
    add_outputs(student, inner_, false);
    auto made = Trainer::make(student, {batch_, task_.threads});
    if (!made.has_value()) return with_context("distill", made.error());
    trainer_ = std::move(*made);
    by_name_.clear();
    for (std::size_t i = 0; i < trainer_->parameters().size(); ++i) {
      by_name_[trainer_->parameters()[i].name] = i;
    }
    return {};
  }

  Result<void> refresh_ranges() { return task_.with_rounded_activations ? make_trainer() : Result<void>(); }

  Trainer::Parameter& parameter(const Learnt& one) { return trainer_->parameters()[by_name_.at(one.name)]; }

  void choose_goals() {
    for (std::size_t i = 0; i < answers_.size(); ++i) {
      const graph::Shape& shape = trainer_->output_shape(i);
      const std::int64_t each = static_cast<std::int64_t>(answers_[i].size()) / batch_;
      const bool row = each > 1 && !shape.empty() && each == *std::max_element(shape.begin() + 1, shape.end());
      const bool regression = !task_.labels.targets.empty() || logits_of_[i] == "Sigmoid";
      goals_.push_back(i == 0 && row && !regression ? Goal::kClasses : Goal::kValues);
      variance_.push_back(1);
    }
    // The teacher's own spread makes losses of values comparable.
    const auto count = std::min<std::size_t>(held_out_.size(), static_cast<std::size_t>(batch_));
    std::vector<std::int64_t> batch(static_cast<std::size_t>(batch_), held_out_[0]);
    std::copy_n(held_out_.begin(), count, batch.begin());
    gather(batch, 0);
    for (std::size_t i = 0; i < answers_.size(); ++i) {
      double sum = 0, squares = 0;
      for (const float v : answers_[i]) {
        sum += static_cast<double>(v);
        squares += static_cast<double>(v) * static_cast<double>(v);
      }
      const auto n = static_cast<double>(answers_[i].size());
      const double variance = squares / n - sum / n * (sum / n);
      variance_[i] = variance > 1e-12 ? variance : std::max(squares / n, 1e-12);
    }
  }

  /// Fills the inputs of a batch and the teacher's answers to it.
  void gather(std::span<const std::int64_t> batch, double shift) {
    std::vector<std::span<float>> to;
    std::vector<const void*> from;
    for (std::size_t i = 0; i < trainer_->inputs(); ++i) {
      to.push_back(trainer_->input(i));
      from.push_back(to.back().data());
    }
    assemble(task_.inputs, batch, shift, dice_, to);
    std::vector<void*> answers;
    for (auto& answer : answers_) answers.push_back(answer.data());
    teacher_->run(from, answers);
  }

  /// The student's loss on the first `counted` samples of a batch whose answers are there, and the
  /// gradients of the outputs. Values inside count in training only.
  double batch_loss(std::span<const std::int64_t> batch, std::size_t counted, bool train) {
    double loss = 0;
    for (std::size_t i = 0; i < answers_.size(); ++i) {
      const auto student = trainer_->output(i);
      const auto slope = trainer_->output_gradient(i);
      const std::size_t used = student.size() / batch.size() * counted;
      const auto teacher = std::span<const float>(answers_[i]).first(used);
      const bool inner = i + inner_.size() >= answers_.size();
      if (goals_[i] == Goal::kValues) {
        if (inner && !train) continue;
        const double weight = inner ? kInnerWeight / static_cast<double>(inner_.size()) : 1;
        loss += value_loss(student.first(used), teacher, variance_[i] / weight, slope.first(used));
        continue;
      }
      std::vector<std::int64_t> labels;
      if (!task_.labels.classes.empty()) {
        for (std::size_t k = 0; k < counted; ++k) {
          labels.push_back(task_.labels.classes[static_cast<std::size_t>(batch[k])]);
        }
      }
      loss += class_loss(student.first(used), teacher, labels, static_cast<std::int64_t>(counted),
                         task_.spec.temperature, kLabelShare, slope.first(used));
    }
    return loss;
  }

  Result<void> set_weights(const std::vector<Learnt>& weights) {
    for (const Learnt& one : weights) {
      const auto to = parameter(one).value;
      if (one.rounded) {
        KERF_ASSIGN(const Tensor stored, task_.rounded(one.layer, Tensor::f32(one.shape, one.value)));
        std::ranges::copy(stored.as<float>(), to.begin());
      } else {
        std::ranges::copy(one.value, to.begin());
      }
    }
    return {};
  }

  Result<double> train(std::int64_t step, double rate) {
    std::vector<std::int64_t> batch;
    for (std::int64_t i = 0; i < batch_; ++i) {
      // A last batch that isn't full goes on with the epoch's first samples.
      batch.push_back(training_[static_cast<std::size_t>(step * batch_ + i) % training_.size()]);
    }
    gather(batch, kShift);
    const auto rounds = set_weights(learnt_);
    if (!rounds.has_value()) return std::numeric_limits<double>::quiet_NaN();  // weights not finite
    trainer_->forward();
    const double loss = batch_loss(batch, batch.size(), true);
    if (!std::isfinite(loss)) return loss;
    trainer_->backward();
    std::vector<std::span<float>> values, gradients;
    for (Learnt& one : learnt_) {
      Trainer::Parameter& p = parameter(one);
      for (std::size_t i = 0; i < one.zero.size(); ++i) {
        if (one.zero[i]) p.gradient[i] = 0;
      }
      for (const float g : p.gradient) {
        if (!std::isfinite(g)) return std::numeric_limits<double>::quiet_NaN();
      }
      values.emplace_back(one.value);
      gradients.push_back(p.gradient);
    }
    optimizer_->step(values, gradients, rate);
    average();
    return loss;
  }

  /// Moves the averages towards the weights; by more at first, so that the start is soon forgotten.
  void average() {
    ++averaged_steps_;
    const double share = std::min(kAveraging, (1 + averaged_steps_) / (10 + averaged_steps_));
    for (std::size_t i = 0; i < averaged_.size(); ++i) {
      for (std::size_t k = 0; k < averaged_[i].value.size(); ++k) {
        float& mean = averaged_[i].value[k];
        mean += static_cast<float>(1 - share) * (learnt_[i].value[k] - mean);
      }
    }
  }

  /// The loss of the averaged weights on the samples that were held out; not finite where anything on the way isn't.
  Result<double> validate() {
    const auto rounds = set_weights(averaged_);
    if (!rounds.has_value()) return std::numeric_limits<double>::quiet_NaN();
    double sum = 0;
    for (std::size_t begin = 0; begin < held_out_.size(); begin += static_cast<std::size_t>(batch_)) {
      const std::size_t counted = std::min(static_cast<std::size_t>(batch_), held_out_.size() - begin);
      std::vector<std::int64_t> batch(static_cast<std::size_t>(batch_), held_out_[begin]);
      std::copy_n(held_out_.begin() + static_cast<std::ptrdiff_t>(begin), counted, batch.begin());
      gather(batch, 0);
      trainer_->forward();
      sum += batch_loss(batch, counted, false) * static_cast<double>(counted);
    }
    return sum / static_cast<double>(held_out_.size());
  }

  DistillTask task_;
  Dice dice_;
  std::chrono::steady_clock::time_point began_;
  Distilled out_;
  std::int64_t samples_ = 0;
  std::int64_t batch_ = kBatch;
  std::vector<std::int64_t> training_, held_out_;
  std::unique_ptr<Executor> teacher_;
  std::vector<std::string> logits_of_;
  std::vector<Inner> inner_;
  std::vector<std::vector<float>> answers_;  ///< Of the teacher, one batch.
  std::unique_ptr<Trainer> trainer_;
  std::map<std::string, std::size_t> by_name_;
  std::vector<Learnt> learnt_;
  std::vector<Learnt> averaged_;  ///< What is validated and kept.
  double averaged_steps_ = 0;
  std::size_t roundings_ = 0;  ///< Calls of with_rounded_activations.
  std::vector<Goal> goals_;
  std::vector<double> variance_;
  std::optional<Optimizer> optimizer_;
};

}  // namespace

Result<Distilled> distill(DistillTask task) { return Distillation(std::move(task)).run(); }

}  // namespace kerf::compress
