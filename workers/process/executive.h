#pragma once

#include <functional>
#include <memory>
#include <string>

#include "core/json.h"
#include "core/result.h"
#include "core/work.h"

namespace kerf::process {

using TellProgress = std::function<void(const std::string& phase, double share)>;

/// Does pieces of work with the rooms below: reads, compresses, measures, exports. Keeps the model,
/// its data, the calibration's statistics and the baseline from one piece to the next, so that a
/// trial costs its own compression and measurement only.
///
/// Threads:  one caller at a time.
class Executive {
 public:
  struct Options {
    int threads = 1;
    std::string scratch;   ///< Exported models are written there, as "export.onnx".
    std::string lock_dir;  ///< Of the host-wide lock; empty = the default one.
  };

  /// Opens what a sandbox would not let it open later: the host lock, the machine's description.
  explicit Executive(Options options);
  ~Executive();

  /// `paths` says where each file id of the payload lies.
  ///
  /// Errors:   those of the work itself; is_temporary() tells which may pass.
  [[nodiscard]] Result<Json> execute(const Work& work, const Json& paths,
                                     const TellProgress& progress);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Whether a failure may be the attempt's own rather than the work's. A bug of ours (internal) that
/// was noticed in order would be noticed again.
[[nodiscard]] bool is_temporary(ErrorCode code);

}  // namespace kerf::process
