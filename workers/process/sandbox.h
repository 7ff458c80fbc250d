#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/result.h"

namespace kerf::process {

/// What a sandboxed process keeps.
struct SandboxOptions {
  std::vector<std::string> read;     ///< Files and folders to read.
  std::vector<std::string> write;    ///< Folders to read, write and make files in.
  std::uint64_t address_space = 0;   ///< Bytes; 0 = the machine's memory, 16 GiB at most.
  std::uint64_t file_size = 4ULL << 30U;  ///< Largest file it may write, bytes.
};

/// What came into force. Parts that the kernel lacks are false, never an error.
struct SandboxReport {
  bool seccomp = false;
  int landlock_abi = 0;  ///< 0 = none.
};

/// Locks the process in, for good: no new privileges, limits on memory, files and cores; seccomp
/// takes away network, new processes and programs, ptrace, mounts, kernel modules and keys; Landlock
/// leaves the named files, system libraries, /proc/self and descriptions of the processors.
/// Threads, memory that is executable (oneDNN's kernels) and pinning stay allowed. Forbidden calls
/// fail with EPERM.
///
/// Errors:   failed_precondition where seccomp, which every kernel that we support has, is refused.
/// Threads:  before the process has a second one.
[[nodiscard]] Result<SandboxReport> enter_sandbox(const SandboxOptions& options);

}  // namespace kerf::process
