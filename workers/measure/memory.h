#pragma once

#include <cstdint>
#include <optional>

namespace kerf::measure {

/// The process's peak resident memory over a floor.
///
/// The peak is the kernel's (VmHWM), set back at the floor through /proc/self/clear_refs; where
/// that isn't allowed, it is known only once it passes everything before, and else the resident
/// memory of the moment stands for it.
///
/// Sandbox:  the constructor opens the files of /proc, everything later only uses descriptors.
class PeakMemory {
 public:
  PeakMemory();
  ~PeakMemory();
  PeakMemory(const PeakMemory&) = delete;
  PeakMemory& operator=(const PeakMemory&) = delete;

  /// Gives free memory back to the kernel and takes what is left as the floor.
  void set_floor();

  /// Bytes over the floor since set_floor(), at least 0. nullopt where /proc says nothing.
  [[nodiscard]] std::optional<std::int64_t> peak_over_floor() const;

  [[nodiscard]] bool resets_peak() const { return resets_; }

 private:
  struct Status {
    std::int64_t resident = 0;
    std::int64_t peak = 0;
  };
  [[nodiscard]] std::optional<Status> read_status() const;

  int status_fd_ = -1;
  int clear_fd_ = -1;
  bool resets_ = false;
  Status floor_;
};

}  // namespace kerf::measure
