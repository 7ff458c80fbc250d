#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "scheduler/profile_document.h"
#include "scheduler/profile_plan.h"
#include "storage/sqlite/sqlite_store.h"
#include "tests/simulation/checked_store.h"
#include "tests/simulation/study_fixture.h"

namespace kerf::scheduler {
namespace {

using storage::StudyState;

/// A world with one worker that does what it is given when told to.
class ProfileTest : public testing::Test {
 protected:
  void SetUp() override {
    auto opened = storage::open_sqlite_store(":memory:", clock_);
    ASSERT_TRUE(opened.has_value());
    real_ = std::move(*opened);
    store_ = std::make_unique<simulation::CheckedStore>(*real_);
    restart();
  }
  void TearDown() override {
    EXPECT_TRUE(store_->violations.empty()) << store_->violations.front();
  }

  void restart() {
    CoreOptions options;
    options.samplers = [this](const std::string& name, search::SamplerProblem problem) {
      seen_.push_back(problem.profile);
      return simulation::make_random_sampler(name, std::move(problem));
    };
    core_ = std::make_unique<Core>(options, *store_, clock_);
    ASSERT_TRUE(core_->start().has_value());
    held_.clear();
    joined_ = 0;
  }

  std::string submit(std::int64_t trials, const std::string& name = "a", bool snap_channels = false) {
    Json document = simulation::study_document(trials, false, "profile");
    document["name"] = name;
    document["space"]["snap_channels"] = snap_channels;
    const auto record = core_->submit(document, "");
    EXPECT_TRUE(record.has_value()) << record.error().message;
    perform();
    return record->id;
  }

  void join(const std::string& cpu = "simulated cpu") {
    WorkerInfo info;
    info.id = info.name = "w" + std::to_string(joined_++);
    HardwareFingerprint hardware = simulation::hardware(cpu);
    info.hardware = hardware.to_json();
    info.hardware_id = hardware.id();
    cpu_[info.id] = cpu;
    core_->worker_joined(info);
    core_->worker_ready(info.id);
    perform();
  }

  void perform() {
    while (true) {
      Core::Actions actions = core_->take_actions();
      for (auto& one : actions.assignments) held_[one.worker] = one.work;
      if (actions.searches.empty() && actions.assignments.empty()) return;
      for (auto& search : actions.searches) core_->search_done(search.study, search.run());
    }
  }

  /// Each measurement of channels says something else.
  ModelInfo inspected(const Json& payload, const std::string& cpu) {
    ModelInfo info = simulation::small_model();
    info.groups = {{"fc1", {"fc1"}, 8, {}}};
    if (!payload.at("scan_channels").get<bool>()) return info;
    if (const auto known = payload.find("channel_costs"); known != payload.end()) {
      info.set_channel_costs(*ChannelCosts::parse(*known));
    } else {
      ++scans_;
      info.set_channel_costs({simulation::hardware(cpu).id(), {{"fc1", {{8, 10.0 * scans_}, {4, 5.0}}}}});
    }
    return info;
  }

  /// Any worker does what it has.
  std::optional<Work> work() {
    if (held_.empty()) return std::nullopt;
    const auto [worker, done] = *held_.begin();
    WorkOutcome outcome{done.key, done.token, nullptr, std::nullopt, false};
    if (done.key.kind == WorkKind::kInspect) {
      outcome.result = inspected(done.payload, cpu_[worker]).to_json();
    } else if (done.key.kind == WorkKind::kProfile && profiles_fail_) {
      outcome.error = invalid_argument("nothing can be seen");
    } else if (done.key.kind == WorkKind::kProfile) {
      outcome.result = simulation::looked(done.payload.at("looks"));
      for (Json& look : outcome.result["damage"]) {
        if (leave_out_ > 0) look = nullptr;
        leave_out_ -= leave_out_ > 0 ? 1 : 0;
      }
    } else {
      outcome.result = simulation::measured(done.payload.at("plan"), done.token, cpu_[worker]);
    }
    held_.erase(worker);
    EXPECT_TRUE(core_->outcome(worker, outcome).has_value());
    perform();
    return done;
  }

  std::map<WorkKind, int> work_until_done() {
    std::map<WorkKind, int> done;
    while (const auto one = work()) ++done[one->key.kind];
    return done;
  }

  Json profile_of(const std::string& id) { return (*store_->document(id, "profile")).value_or(Json()); }

  ManualClock clock_;
  std::unique_ptr<storage::StudyStore> real_;
  std::unique_ptr<simulation::CheckedStore> store_;
  std::unique_ptr<Core> core_;
  std::map<std::string, Work> held_;
  std::map<std::string, std::string> cpu_;
  std::vector<search::Profile> seen_;  // by each sampler that was made
  int joined_ = 0;
  int scans_ = 0;  // of what fewer channels take
  bool profiles_fail_ = false;
  int leave_out_ = 0;  // of the looks at damage that follow
};

TEST_F(ProfileTest, TheSamplerStartsFromWhatWorkersSaw) {
  const std::string id = submit(40);
  join();
  const auto done = work_until_done();
  EXPECT_EQ(store_->study(id)->state, StudyState::kComplete);
  EXPECT_EQ(done.at(WorkKind::kProfile), 3) << "costs by one, damage by one, labels by one";
  const Json document = profile_of(id);
  // Damage: 5 values of 3 layers. Cost: f32, 5 rounds, 3 kinds of activations in each order. Labels: 4 bits.
  EXPECT_EQ(document["probes"], 15 + 1 + 5 + 6);
  EXPECT_EQ(document["labelled"], 3);
  EXPECT_EQ(document["unasked"], 0);
  EXPECT_EQ(document["unknown"], 0);
  EXPECT_EQ(document["reused"], 0);
  EXPECT_EQ(document["trial_seconds"], 1.01) << "without loading, and 10 ms to be proposed and sent";
  EXPECT_NEAR(document["seconds"].get<double>(), 30 * 0.2 + 3 * 0.005, 1e-9) << "three parts, sent as well";
  EXPECT_EQ(document["charged_trials"], 6) << "30 looks of a fifth of a trial";
  EXPECT_EQ(store_->trials(id, 0, 100)->size(), 34U);
  ASSERT_EQ(seen_.size(), 1U);
  const search::Profile& profile = seen_[0];
  ASSERT_EQ(profile.alone.size(), 3U);
  ASSERT_EQ(profile.alone[0].size(), 6U);
  // Values: f32, bf16, 8/32, 8/8, 4/32, 4/8; objectives: accuracy, latency, storage.
  EXPECT_EQ(profile.at(0, 0, 0), 0);
  EXPECT_NEAR(profile.at(1, 3, 0), -(1.0 / 8 - 1.0 / 32), 1e-12);
  EXPECT_NEAR(profile.at(1, 5, 0), -(1.0 / 4 - 1.0 / 32), 1e-12);
  EXPECT_NEAR(profile.at(1, 5, 1), 8 - 32, 1e-12);
  EXPECT_NEAR(profile.at(2, 4, 1), 0, 1e-12) << "weights alone cost what f32 does";
  EXPECT_NEAR(profile.at(0, 5, 2), 8 * (4 - 32), 1e-12);
  ASSERT_EQ(profile.exact.size(), 3U);
  EXPECT_FALSE(profile.exact[0]);
  EXPECT_FALSE(profile.exact[1]);
  EXPECT_TRUE(profile.exact[2]) << "bytes follow from the plan";
  ASSERT_EQ(profile.neighbours.size(), 2U);
  const auto& pair = profile.neighbours[0];
  EXPECT_EQ(pair.first, 0);
  EXPECT_EQ(pair.metric, 1) << "latency alone";
  EXPECT_NEAR(pair.adds[0][3], 2, 1e-12) << "f32 then 8/8: a reorder";
  EXPECT_NEAR(pair.adds[0][5], 2, 1e-12) << "4/8 reads what 8/8 does";
  EXPECT_NEAR(pair.adds[3][5], 0, 1e-12);
  EXPECT_NEAR(pair.adds[0][2], 0, 1e-12) << "8/32 reads f32";
}

TEST_F(ProfileTest, ASecondStudyStartsWithItForFree) {
  const std::string first = submit(40);
  join();
  (void)work_until_done();
  const std::string second = submit(40, "b");
  const auto done = work_until_done();
  EXPECT_FALSE(done.contains(WorkKind::kProfile));
  EXPECT_EQ(profile_of(second)["probes"], 0);
  EXPECT_EQ(profile_of(second)["reused"], 27);
  EXPECT_EQ(profile_of(second)["labelled"], 3);
  EXPECT_EQ(profile_of(second)["charged_trials"], 0);
  EXPECT_EQ(profile_of(second)["terms"], profile_of(first)["terms"]);
  EXPECT_EQ(store_->trials(second, 0, 100)->size(), 40U);
}

TEST_F(ProfileTest, ASecondStudyOnTheSameHardwareHasTheChannelCostsOfTheFirst) {
  const auto costs = [&](const std::string& id) { return (**store_->document(id, "model"))["groups"][0]["costs"]; };
  const std::string first = submit(10, "a", true);
  join();
  (void)work_until_done();
  EXPECT_EQ(scans_, 1);
  const Json measured = Json::array({Json::array({8, 10.0}), Json::array({4, 5.0})});
  EXPECT_EQ(costs(first), measured);
  const std::string second = submit(10, "b", true);
  (void)work_until_done();
  EXPECT_EQ(scans_, 1) << "two measurements would make two spaces";
  EXPECT_EQ(costs(second), measured);
  core_->worker_left("w0", Clock::Duration(0));
  const std::string third = submit(10, "c", true);
  join("another cpu");
  (void)work_until_done();
  EXPECT_EQ(scans_, 2);
  EXPECT_EQ(costs(third)[0][1], 20.0);
  restart();
  join();
  const std::string fourth = submit(10, "d", true);
  (void)work_until_done();
  EXPECT_EQ(costs(fourth), measured) << "each kind of hardware keeps its own";
}

TEST_F(ProfileTest, TheFirstChannelCostsStay) {
  const std::string first = submit(10, "a", true);
  const std::string second = submit(10, "b", true);
  join();
  join();  // both inspect at once
  (void)work_until_done();
  EXPECT_EQ(scans_, 2);
  restart();
  join();
  const std::string third = submit(10, "c", true);
  (void)work_until_done();
  EXPECT_EQ(scans_, 2);
  EXPECT_EQ((**store_->document(third, "model"))["groups"][0]["costs"][0][1], 10.0);
}

TEST_F(ProfileTest, OtherHardwareWithTheSameArithmeticTakesCostsOnly) {
  (void)submit(40);
  join();
  (void)work_until_done();
  core_->worker_left("w0", Clock::Duration(0));
  const std::string second = submit(30, "b");
  join("another cpu");
  (void)work_until_done();
  EXPECT_EQ(store_->study(second)->state, StudyState::kComplete);
  EXPECT_EQ(profile_of(second)["probes"], 12);
  EXPECT_EQ(profile_of(second)["reused"], 15);
  EXPECT_EQ(profile_of(second)["labelled"], 3);
}

TEST_F(ProfileTest, AKilledServerGoesOnWithTheLooksThatWereAcknowledged) {
  const std::string id = submit(40);
  join();
  (void)work();  // inspect
  (void)work();  // baseline
  ASSERT_EQ(held_.begin()->second.key.kind, WorkKind::kProfile);
  (void)work();  // costs
  ASSERT_EQ(held_.begin()->second.key, (WorkKey{id, WorkKind::kProfile, 1}));
  restart();  // with the damage in a worker's hands
  join();
  ASSERT_EQ(held_.begin()->second.key, (WorkKey{id, WorkKind::kProfile, 1})) << "only what is open";
  (void)work();
  (void)work();  // labels
  const Json document = profile_of(id);
  EXPECT_EQ(document["probes"], 27);
  EXPECT_EQ(document["labelled"], 3);
  restart();
  join();
  const auto done = work_until_done();
  EXPECT_FALSE(done.contains(WorkKind::kProfile));
  EXPECT_EQ(profile_of(id), document);
  EXPECT_EQ(store_->trials(id, 0, 100)->size(), 34U) << "charged once";
  ASSERT_FALSE(seen_.empty());
  EXPECT_EQ(profile_json(seen_.back()), document["terms"]) << "the sampler gets what it had";
}

TEST_F(ProfileTest, AProfileThatFailsIsLoggedAndTheSearchGoesWithoutIt) {
  profiles_fail_ = true;
  const std::string id = submit(30);
  join();
  (void)work_until_done();
  EXPECT_EQ(store_->study(id)->state, StudyState::kComplete);
  EXPECT_EQ(store_->trials(id, 0, 100)->size(), 30U);
  EXPECT_EQ(profile_of(id)["probes"], 0);
  ASSERT_FALSE(seen_.empty());
  EXPECT_TRUE(seen_.back().empty());
  const auto events = store_->events(id, 0, 1000);
  const auto said = std::count_if(events->begin(), events->end(), [](const auto& event) {
    return event.type == "log" && event.data.value("message", "").find("nothing can be seen") != std::string::npos;
  });
  EXPECT_EQ(said, 3);
}

TEST_F(ProfileTest, AShortStudyAndOtherSamplersTakeNone) {
  const std::string id = submit(9);
  Json document = simulation::study_document(30, false, "random");
  const auto other = core_->submit(document, "");
  ASSERT_TRUE(other.has_value());
  join();
  EXPECT_FALSE(work_until_done().contains(WorkKind::kProfile));
  EXPECT_TRUE(profile_of(id).is_null());
  EXPECT_TRUE(profile_of(other->id).is_null());
}

TEST_F(ProfileTest, AStudyThatWasBegunWithoutAProfileGoesOnWithoutOne) {
  const std::string id = submit(9);
  join();
  (void)work_until_done();
  ASSERT_TRUE(core_->extend(id, {30, 0, 0}).has_value());
  perform();
  EXPECT_FALSE(work_until_done().contains(WorkKind::kProfile));
  EXPECT_EQ(store_->trials(id, 0, 100)->size(), 30U);
}

TEST_F(ProfileTest, LooksHaveALimitOfTime) {
  (void)submit(23);
  join();
  (void)work();
  (void)work();
  double all = 0;
  for (int part = 0; part < 2; ++part) {
    const auto request = LookRequest::parse(held_.begin()->second.payload.at("looks"));
    ASSERT_TRUE(request.has_value());
    EXPECT_EQ(request->samples, ProfilePlan::kSamples);
    EXPECT_GT(request->seconds, 0);
    all += request->seconds;
    (void)work();
  }
  EXPECT_LT(all + 2 * 0.005, 5 * 1.01) << "a quarter of 23 trials of a second, in whole trials";
  EXPECT_GT(all, 4.5);
}

TEST_F(ProfileTest, LabelsGetTheTimeThatOtherLooksLeave) {
  (void)submit(40);
  join();
  for (int before = 0; before < 4; ++before) (void)work();  // inspection, baseline, costs, damage
  ASSERT_EQ(held_.begin()->second.key.kind, WorkKind::kProfile);
  const auto request = LookRequest::parse(held_.begin()->second.payload.at("looks"));
  ASSERT_TRUE(request.has_value());
  EXPECT_EQ(request->labels.size(), 3U);
  EXPECT_TRUE(request->damage.empty());
  EXPECT_EQ(request->label_samples, ProfilePlan::kLabelSamples);
  EXPECT_NEAR(request->seconds, 0.95 * 10 * 1.01 - 27 * 0.2 - 3 * 0.005, 1e-9)
      << "a quarter of the trials of 1.01 s; parts are sent, too";
}

TEST_F(ProfileTest, WhereOtherLooksTookAllTimeLabelsAreNotAsked) {
  const std::string id = submit(23);  // a quarter of them, in whole trials, is less than 27 looks take
  join();
  EXPECT_EQ(work_until_done().at(WorkKind::kProfile), 2);
  EXPECT_EQ(profile_of(id)["labelled"], 0);
  EXPECT_EQ(profile_of(id)["unasked"], 3);
  EXPECT_EQ(profile_of(id)["unknown"], 0);
}

TEST_F(ProfileTest, WhatThereWasNoTimeForIsSaid) {
  const std::string id = submit(30);
  join();
  leave_out_ = 4;
  (void)work_until_done();
  EXPECT_EQ(profile_of(id)["probes"], 27 - 4);
  EXPECT_EQ(profile_of(id)["unknown"], 4);
  bool said = false;
  const auto events = store_->events(id, 0, 1000);
  ASSERT_TRUE(events.has_value());
  for (const auto& event : *events) {
    said = said || canonical_text(event.data).find("4 of 27 looks weren't taken") != std::string::npos;
  }
  EXPECT_TRUE(said);
}

TEST(ProfileDocument, UnknownTermsComeBackUnknown) {
  search::Profile profile;
  profile.alone = {{{0, std::numeric_limits<double>::quiet_NaN()}, {-0.25, 3}}};
  profile.neighbours = {{0, 1, {{0, 1.5}}}};
  profile.exact = {false, true};
  const search::Profile back = profile_of(Json::parse(canonical_text(profile_json(profile))));
  EXPECT_TRUE(std::isnan(back.at(0, 0, 1)));
  EXPECT_EQ(back.at(0, 1, 0), -0.25);
  EXPECT_EQ(back.neighbours.at(0).adds, profile.neighbours[0].adds);
  EXPECT_EQ(back.exact, profile.exact);
  EXPECT_TRUE(profile_of(Json()).empty());
  EXPECT_TRUE(profile_of(Json{{"alone", 3}}).empty());
}

class ProfilePlanTest : public testing::Test {
 protected:
  static ProfilePlan plan(const Json& space_json, const ModelInfo& model) {
    Json document = simulation::study_document(30, false, "profile");
    document["space"] = space_json;
    document["constraints"] = {{{"metric", "latency_ratio"}, {"max", 0.8}}, {{"metric", "accuracy"}, {"min", 0.5}}};
    study_ = *StudyDefinition::parse(document);
    const auto space = search::SearchSpace::build(study_.space, model);
    EXPECT_TRUE(space.has_value());
    return ProfilePlan::make(study_, *space, simulation::hardware());
  }

  static std::map<std::string, Json> all_looks(const ProfilePlan& plan) {
    LookRequest request;
    for (const auto& want : plan.damage()) request.damage.push_back(want.plan);
    for (const auto& want : plan.cost()) request.cost.push_back(want.plan);
    for (const auto& want : plan.labels()) request.labels.push_back(want.plan);
    const auto result = LookResult::parse(simulation::looked(request.to_json()));
    std::map<std::string, Json> out;
    for (std::size_t i = 0; i < plan.damage().size(); ++i) out[plan.damage()[i].key] = result->damage[i].look->to_json();
    for (std::size_t i = 0; i < plan.cost().size(); ++i) out[plan.cost()[i].key] = result->cost[i].look->to_json();
    for (std::size_t i = 0; i < plan.labels().size(); ++i) out[plan.labels()[i].key] = result->labels[i].look->to_json();
    return out;
  }

  static inline StudyDefinition study_;
};

TEST_F(ProfilePlanTest, GlobalSettingsAreLookedAtOnAUniformCandidateAndTrainingNever) {
  const ProfilePlan made = plan({{"default", {{"weight_bits", {8, 32}}, {"activation_bits", {8, 32}}}},
                                 {"global", {{"range", {"minmax", "entropy"}},
                                             {"recovery", {"none", "bias_correction", "distill"}}}}},
                                simulation::small_model());
  std::int64_t uniform = 0;
  for (const auto& want : made.damage()) {
    const auto parsed = CompressionPlan::parse(want.plan);
    ASSERT_TRUE(parsed.has_value());
    for (const std::string& recovery : parsed->recovery()) EXPECT_EQ(recovery, "bias_correction");
    uniform += parsed->named_layers().size() == 3 ? 1 : 0;
  }
  EXPECT_EQ(uniform, 3) << "as it is, with the other range, with corrected biases";
  const search::Profile profile = made.profile(all_looks(made));
  ASSERT_EQ(profile.alone.size(), 5U);
  EXPECT_EQ(profile.at(3, 1, 0), 0) << "the range makes no difference to these looks";
  EXPECT_TRUE(std::isnan(profile.at(4, 2, 0))) << "nobody looked at a distillation";
}

TEST_F(ProfilePlanTest, BoundsFollowTheirMetricsAndMissingLooksStayUnknown) {
  const ProfilePlan made = plan({{"default", {{"weight_bits", {8, 32}}, {"activation_bits", {8}}}}},
                                simulation::small_model());
  std::map<std::string, Json> looks = all_looks(made);
  const search::Profile whole = made.profile(looks);
  // accuracy, latency, storage, then latency_ratio ≤ 0.8 and accuracy ≥ 0.5.
  EXPECT_NEAR(whole.at(1, 1, 3), (8.0 - 32) / 96, 1e-12);
  EXPECT_NEAR(whole.at(0, 1, 4), -whole.at(0, 1, 0), 1e-12) << "less accuracy is more of the violation";
  looks.erase(made.damage().front().key);
  const search::Profile part = made.profile(looks);
  EXPECT_TRUE(std::isnan(part.at(0, 1, 0)));
  EXPECT_TRUE(whole.exact.at(2));
  EXPECT_FALSE(part.exact.at(2)) << "a value's bytes aren't known";
  EXPECT_NEAR(part.at(0, 1, 1), whole.at(0, 1, 1), 1e-12) << "its cost was seen";
  EXPECT_TRUE(made.profile({}).empty());
}

TEST_F(ProfilePlanTest, WhatAFileHoldsOnceIsTakenOffEachValue) {
  const ProfilePlan made = plan({{"default", {{"weight_bits", {8, 32}}, {"activation_bits", {8}}}}},
                                simulation::small_model());
  std::map<std::string, Json> looks = all_looks(made);
  const search::Profile before = made.profile(looks);
  // Every file with an integer layer is 100 bytes longer, however many there are.
  for (const auto& want : made.damage()) {
    looks[want.key]["storage_bytes"] = looks[want.key]["storage_bytes"].get<std::int64_t>() + 100;
  }
  for (const auto& want : made.cost()) {
    if (want.plan.empty()) continue;
    looks[want.key]["storage_bytes"] = looks[want.key]["storage_bytes"].get<std::int64_t>() + 100;
  }
  const search::Profile after = made.profile(looks);
  for (std::size_t d = 0; d < 3; ++d) EXPECT_NEAR(after.at(d, 1, 2), before.at(d, 1, 2), 1e-9);
}

TEST_F(ProfilePlanTest, BytesOfValuesThatNobodyLookedAtComeFromTheRoundsFile) {
  const ProfilePlan made = plan({{"default", {{"weight_bits", {4, 8, 32}}, {"activation_bits", {8}}}}},
                                simulation::small_model());
  std::map<std::string, Json> looks = all_looks(made);
  // Layers of 1,000, 2,000 and 4,000 weights: as many bytes less at 4 bits, half of it at 8.
  const ModelInfo model = simulation::small_model();
  std::map<std::string, double> weights;
  for (std::size_t i = 0; i < model.layers.size(); ++i) weights[model.layers[i].name] = 1000.0 * (1 << i);
  const auto bytes_of = [&](const Json& document) {
    double bytes = 100000;
    const Json layers = document.value("layers", Json::object());
    for (const auto& [name, keys] : layers.items()) {
      bytes -= weights.at(name) * (keys["weight_bits"] == 4 ? 1.0 : 0.5);
    }
    return static_cast<std::int64_t>(bytes);
  };
  std::vector<std::string> mild;
  for (const auto& want : made.damage()) {
    looks[want.key]["storage_bytes"] = bytes_of(want.plan);
    for (const auto& [name, keys] : want.plan["layers"].items()) {
      if (keys["weight_bits"] == 8) mild.push_back(want.key);
    }
  }
  for (const auto& want : made.cost()) looks[want.key]["storage_bytes"] = bytes_of(want.plan);
  const search::Profile whole = made.profile(looks);
  ASSERT_EQ(mild.size(), 3U);
  for (const std::string& key : mild) looks.erase(key);
  const search::Profile part = made.profile(looks);
  for (std::size_t d = 0; d < 3; ++d) {
    EXPECT_TRUE(std::isnan(part.at(d, 1, 0))) << "its damage is unknown";
    EXPECT_NEAR(part.at(d, 1, 2), whole.at(d, 1, 2), 1e-6);
    EXPECT_NEAR(part.at(d, 2, 2), whole.at(d, 2, 2), 1e-6);
  }
}

TEST_F(ProfilePlanTest, AStudyThatTimesNothingTakesNoLooksAtNeighbours) {
  Json document = simulation::study_document(30, false, "profile");
  document["objectives"] = {{{"metric", "accuracy"}}, {{"metric", "storage_bytes"}}};
  const StudyDefinition study = *StudyDefinition::parse(document);
  const auto space = search::SearchSpace::build(study.space, simulation::small_model());
  const ProfilePlan made = ProfilePlan::make(study, *space, simulation::hardware());
  EXPECT_EQ(made.cost().size(), 6U) << "f32 and five rounds, which say what files share";
  EXPECT_TRUE(made.profile(all_looks(made)).neighbours.empty());
}

TEST_F(ProfilePlanTest, NeighboursMeetAcrossWhatElseALayerDecides) {
  Json space = {{"default", {{"weight_bits", {8, 32}}, {"activation_bits", {8, 32}}, {"codebook", {0, 16}}}}};
  const ProfilePlan made = plan(space, simulation::small_model());
  const search::Profile profile = made.profile(all_looks(made));
  const auto on_latency = [](const auto& pair) { return pair.metric == 1; };
  ASSERT_EQ(std::count_if(profile.neighbours.begin(), profile.neighbours.end(), on_latency), 2);
  const auto pair = std::find_if(profile.neighbours.begin(), profile.neighbours.end(), on_latency);
  EXPECT_EQ(pair->first, 0);
  EXPECT_EQ(pair->other(), 2) << "a codebook stands between two precisions";
  // f32, 8/32, 8/8.
  EXPECT_NEAR(pair->adds.at(0).at(2), 2, 1e-12);
  const search::Profile back = profile_of(profile_json(profile));
  EXPECT_EQ(back.neighbours.at(0).other(), profile.neighbours.at(0).other());
}

TEST_F(ProfilePlanTest, LabelsAreAskedBesideAllLayersInEightBits) {
  const ProfilePlan made = plan({{"default", {{"weight_bits", {4, 8, 16, 32}}, {"activation_bits", {8, 32}}}}},
                                simulation::small_model());
  const auto beside = CompressionPlan::parse(made.beside());
  ASSERT_TRUE(beside.has_value());
  for (const char* name : {"fc1", "fc2", "fc3"}) {
    EXPECT_EQ(beside->layer(name).weight_bits, 8);
    EXPECT_EQ(beside->layer(name).activation_bits, 8);
  }
  ASSERT_EQ(made.labels().size(), 3U) << "a layer's 4 bits, whatever its activations; 8 bits say nothing";
  for (const auto& want : made.labels()) {
    const auto look = CompressionPlan::parse(want.plan);
    int changed = 0;
    for (const char* name : {"fc1", "fc2", "fc3"}) {
      EXPECT_TRUE(look->layer(name).runs_as_integers()) << "fast";
      changed += look->layer(name).weight_bits == 4 ? 1 : 0;
    }
    EXPECT_EQ(changed, 1);
  }
}

TEST_F(ProfilePlanTest, WhatLabelsSayGoesToAllValuesThatShareALook) {
  const ProfilePlan made = plan({{"default", {{"weight_bits", {4, 8, 16, 32}}, {"activation_bits", {8, 32}}}}},
                                simulation::small_model());
  const search::Profile profile = made.profile(all_looks(made));
  ASSERT_EQ(profile.lean_of.size(), 3U);
  ASSERT_EQ(profile.leans.size(), 3U);
  const std::size_t last = profile.lean_of[0].size() - 1;  // values from f32 down
  const auto lean = [&](std::size_t d) { return profile.leans.at(profile.lean_at(d, last).value()).lean; };
  EXPECT_GT(lean(0), 0);
  EXPECT_LT(lean(1), 0);
  EXPECT_EQ(profile.lean_at(1, last - 1), profile.lean_at(1, last));
  for (std::size_t value = 0; value < 4; ++value) EXPECT_FALSE(profile.lean_at(1, value));
  // accuracy, latency, storage, then latency_ratio ≤ 0.8 and accuracy ≥ 0.5.
  EXPECT_EQ(profile.about_labels, (std::vector<bool>{true, false, false, false, true}));
  const search::Profile back = profile_of(Json::parse(canonical_text(profile_json(profile))));
  EXPECT_EQ(back.lean_of, profile.lean_of);
  EXPECT_EQ(back.about_labels, profile.about_labels);
  ASSERT_EQ(back.leans.size(), profile.leans.size());
  EXPECT_EQ(back.leans[1].lean, profile.leans[1].lean);
  EXPECT_EQ(back.leans[1].error, profile.leans[1].error);
  EXPECT_TRUE(profile_of(Json::parse(canonical_text(profile_json({.alone = profile.alone})))).leans.empty());
}

TEST_F(ProfilePlanTest, LabelsOfTheLargestDamageAreAskedFirst) {
  const ProfilePlan made = plan({{"default", {{"weight_bits", {4, 8, 32}}, {"activation_bits", {8}}}}},
                                simulation::small_model());
  std::map<std::string, Json> looks = all_looks(made);
  for (const auto& want : made.damage()) {
    if (want.plan["layers"].contains("fc2")) looks[want.key]["kl"] = 0.24;
    if (want.plan["layers"].contains("fc3")) looks.erase(want.key);
  }
  auto ordered = made.labels_by_damage(looks);
  ASSERT_EQ(ordered.size(), 3U);
  const auto layer_of = [](const ProfilePlan::Want& want) {
    for (const char* name : {"fc1", "fc2", "fc3"}) {
      if (CompressionPlan::parse(want.plan)->layer(name).weight_bits == 4) return std::string(name);
    }
    return std::string();
  };
  EXPECT_EQ(layer_of(ordered[0]), "fc2");
  EXPECT_EQ(layer_of(ordered[1]), "fc1");
  EXPECT_EQ(layer_of(ordered[2]), "fc3") << "nobody looked at it";
  for (const auto& want : made.damage()) {
    if (want.plan["layers"].contains("fc2")) looks[want.key]["kl"] = 9;
  }
  ordered = made.labels_by_damage(looks);
  EXPECT_EQ(layer_of(ordered[0]), "fc1");
  EXPECT_EQ(layer_of(ordered[2]), "fc2") << "no front will have it";
}

TEST_F(ProfilePlanTest, LabelsThatJudgeAreNotAskedNorWhereAccuracyIsNotWanted) {
  const auto labels_of = [](const Json& document) {
    const StudyDefinition study = *StudyDefinition::parse(document);
    const auto space = search::SearchSpace::build(study.space, simulation::small_model());
    return ProfilePlan::make(study, *space, simulation::hardware()).labels().size();
  };
  Json document = simulation::study_document(30, false, "profile");
  EXPECT_EQ(labels_of(document), 3U);
  Json other = document;
  other["data"].erase("calibration");
  EXPECT_EQ(labels_of(other), 0U);
  document["objectives"] = {{{"metric", "kl"}}, {{"metric", "storage_bytes"}}};
  EXPECT_EQ(labels_of(document), 0U);
}

TEST_F(ProfilePlanTest, WithoutIntegersLabelsAreAskedBesideWhatTheSpaceHas) {
  const ProfilePlan made = plan({{"default", {{"weight_bits", {4, 32}}, {"activation_bits", {32}}}}},
                                simulation::small_model());
  EXPECT_TRUE(CompressionPlan::parse(made.beside())->is_baseline());
  EXPECT_EQ(made.labels().size(), 3U);
}

TEST_F(ProfilePlanTest, LabelsAreAskedBesideBf16WhereTheProcessorMultipliesIt) {
  Json document = simulation::study_document(30, false, "profile");
  document["space"] = {{"default", {{"weight_bits", {4, 16, 32}}, {"activation_bits", {16, 32}}}}};
  const StudyDefinition study = *StudyDefinition::parse(document);
  const auto space = search::SearchSpace::build(study.space, simulation::small_model());
  ASSERT_TRUE(space.has_value()) << space.error().message;
  const auto bits_on = [&](const std::string& isa) {
    HardwareFingerprint hardware = simulation::hardware();
    hardware.isa = isa;
    return CompressionPlan::parse(ProfilePlan::make(study, *space, hardware).beside())->layer("fc1").weight_bits;
  };
  for (const char* isa : {"avx512_core_bf16", "avx512_core_fp16", "avx512_core_amx", "avx512_core_amx_fp16"}) {
    EXPECT_EQ(bits_on(isa), 16) << isa;
  }
  for (const char* isa : {"avx2", "avx2_vnni_2", "avx512_core", "avx512_core_vnni"}) EXPECT_EQ(bits_on(isa), 32) << isa;
}

TEST_F(ProfilePlanTest, LayersOfTwoDimensionsHaveNoExactBytes) {
  Json space = {{"default", {{"weight_bits", {8, 32}}, {"activation_bits", {8, 32}}, {"codebook", {0, 16}}}}};
  const ProfilePlan made = plan(space, simulation::small_model());
  const search::Profile profile = made.profile(all_looks(made));
  ASSERT_EQ(profile.alone.size(), 6U);
  EXPECT_FALSE(profile.exact.at(2));
}

}  // namespace
}  // namespace kerf::scheduler
