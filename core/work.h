#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/json.h"
#include "core/result.h"

namespace kerf {

/// What can be leased. All travel alike.
enum class WorkKind {
  kInspect,  ///< payload {model}                         -> a ModelInfo
  kTrial,    ///< payload {model, data, plan, …}          -> a Measurement
  kVerify,   ///< as kTrial, on the test split            -> a Measurement
  kExport,   ///< payload {model, data, plan, metadata}   -> {file: "sha256:…", bytes}
  kProfile,  ///< payload {model, data, looks}            -> a LookResult
};

[[nodiscard]] std::string_view to_string(WorkKind kind);
[[nodiscard]] std::optional<WorkKind> work_kind_from_string(std::string_view text);

/// Names one piece of work. `number` is the trial's number; 0 for inspect; the part's
/// number for profile.
struct WorkKey {
  std::string study;
  WorkKind kind = WorkKind::kTrial;
  std::int64_t number = 0;

  friend auto operator<=>(const WorkKey&, const WorkKey&) = default;
};

/// A piece of work as a worker receives it.
///
/// payload (all kinds; keys that a kind doesn't need may be absent):
///   model       "sha256:…"
///   data        {calibration, evaluation, test: "sha256:…" or absent; single: one file for all}
///   preprocess  as in a study, or null
///   plan        a CompressionPlan
///   measure     {threads, batch}
///   metrics     names of the metrics that objectives and constraints need
///   seed        of the study
///   racing      RacingTerms (core/racing.h), where the measurement may stop early; its result then has
///               {pruned: true, reason}
///   metadata    texts for the exported model
///   looks       a LookRequest
///   scan_channels  whether an inspection is to say what fewer channels take (TiedGroup::costs)
///   channel_costs  the ChannelCosts that are known of such hardware, to be taken as they are; or absent
struct Work {
  WorkKey key;
  std::int64_t token = 0;  ///< Fencing token of the lease: grows with each lease of this work.
  Json payload;

  [[nodiscard]] Json to_json() const;
  [[nodiscard]] static Result<Work> parse(const Json& document);
};

/// How a piece of work ended, as a worker reports it.
struct WorkOutcome {
  WorkKey key;
  std::int64_t token = 0;
  Json result;                 ///< By kind; null where there is an error.
  std::optional<Error> error;  ///< The work itself failed (a bad plan, a crash of the runner).
  bool retry = false;          ///< The failure may be the attempt's own: crash, hang, out of memory.

  [[nodiscard]] Json to_json() const;
  [[nodiscard]] static Result<WorkOutcome> parse(const Json& document);
};

[[nodiscard]] Json to_json(const Error& error);
[[nodiscard]] Error parse_error(const Json& document);

}  // namespace kerf
