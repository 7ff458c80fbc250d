#pragma once

#include <string>

namespace kerf::process {

/// The test program as a worker: `argv[1]` = "--as-worker", then options of `kerf worker`'s kind.
int run_as_worker(int argc, char** argv);

/// The test program as a runner, which crashes, hangs and answers by a trial's number and attempt:
///   1: SIGSEGV at the first attempt      2: hangs at the first attempt
///   3: out of memory at the first        4: a plan that can't be done
///   5: exits with code 7, always         6: leaves what it says about the files it sees
///   7: SIGKILLs its supervisor at the first attempt
/// Others are measured at once. Exports write the plan's text.
int run_as_runner();

}  // namespace kerf::process
