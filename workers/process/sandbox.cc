#include "workers/process/sandbox.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

#include "core/sanitized.h"

namespace kerf::process {
namespace {

constexpr std::uint64_t kMostAddressSpace = 16ULL << 30U;

// What a program of ours reads besides its own files: the loader and its libraries (also those that
// are opened late), the processors' description, and the names of locales and zones.
constexpr std::array kSystemRead = {
    "/lib",          "/lib64",       "/usr/lib",  "/usr/lib64",      "/usr/local/lib",
    "/etc/ld.so.cache", "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat",
    "/sys/devices/system/cpu", "/sys/devices/system/node", "/sys/fs/cgroup", "/dev/null",
    "/dev/urandom",  "/usr/share/zoneinfo",
};

Error refused(const char* what) {
  return {ErrorCode::kFailedPrecondition,
          std::string("the sandbox can't be entered: ") + what + ": " + std::strerror(errno)};
}

std::uint64_t memory_of_machine() {
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long size = sysconf(_SC_PAGESIZE);
  if (pages <= 0 || size <= 0) return kMostAddressSpace;
  return static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(size);
}

Result<void> limit(int resource, std::uint64_t value, const char* name) {
  rlimit now{};
  if (getrlimit(static_cast<__rlimit_resource>(resource), &now) != 0) return refused(name);
  const rlim_t wanted = std::min<rlim_t>(value, now.rlim_max);
  const rlimit set{wanted, wanted};
  if (setrlimit(static_cast<__rlimit_resource>(resource), &set) != 0) return refused(name);
  return {};
}

// System calls that no work needs. Everything else is allowed: what a maths library calls differs
// from machine to machine, and what it could do harm with is in this list.
constexpr std::array kForbidden = {
    // network
    "socket", "socketpair", "connect", "bind", "listen", "accept", "accept4",
    // other programs and processes
    "execve", "execveat", "fork", "vfork", "ptrace", "process_vm_readv", "process_vm_writev",
    "pidfd_open", "pidfd_getfd", "pidfd_send_signal", "kcmp", "setns", "unshare", "tkill",
    // the system
    "mount", "umount2", "pivot_root", "chroot", "fsopen", "fsconfig", "fsmount", "fspick",
    "move_mount", "open_tree", "mount_setattr", "swapon", "swapoff", "reboot", "kexec_load",
    "kexec_file_load", "init_module", "finit_module", "delete_module", "iopl", "ioperm", "acct",
    "settimeofday", "clock_settime", "adjtimex", "clock_adjtime", "sethostname", "setdomainname",
    "syslog", "quotactl", "nfsservctl", "lookup_dcookie", "vhangup", "personality",
    // ways around the limits, and kernel machinery with a history
    "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter",
    "io_uring_register", "keyctl", "add_key", "request_key", "open_by_handle_at",
    "name_to_handle_at", "fanotify_init", "memfd_secret", "setuid", "setgid", "setreuid",
    "setregid", "setresuid", "setresgid", "setgroups", "setfsuid", "setfsgid", "capset",
    "symlink", "symlinkat", "link", "linkat", "mknod", "mknodat", "chmod", "fchmod", "fchmodat",
    "chown", "fchown", "lchown", "fchownat", "setxattr", "lsetxattr", "fsetxattr",
};

Result<void> filter_calls() {
  const std::unique_ptr<void, void (*)(scmp_filter_ctx)> filter(seccomp_init(SCMP_ACT_ALLOW),
                                                                seccomp_release);
  if (!filter) return refused("seccomp_init");
  const auto check = [](int result) {
    errno = -result;
    return result == 0;
  };
  const std::uint32_t deny = SCMP_ACT_ERRNO(EPERM);
  for (const char* name : kForbidden) {
    const int call = seccomp_syscall_resolve_name(name);
    if (call == __NR_SCMP_ERROR || call < 0) continue;  // this architecture hasn't got it
    if (!check(seccomp_rule_add(filter.get(), deny, call, 0))) return refused(name);
  }
  // Threads yes, processes no. What lies behind clone3's pointer can't be looked at: ENOSYS makes
  // the C library take clone.
  if (!check(seccomp_rule_add(filter.get(), deny, SCMP_SYS(clone), 1,
                              SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0)))) {
    return refused("clone");
  }
  if (!check(seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0))) {
    return refused("clone3");
  }
  // Signals to oneself only (abort, raise).
  const auto self = static_cast<scmp_datum_t>(getpid());
  for (const int call : {SCMP_SYS(kill), SCMP_SYS(tgkill), SCMP_SYS(rt_sigqueueinfo)}) {
    if (!check(seccomp_rule_add(filter.get(), deny, call, 1, SCMP_A0(SCMP_CMP_NE, self)))) {
      return refused("kill");
    }
  }
  // Keystrokes into a terminal would be commands outside.
  if (!check(seccomp_rule_add(filter.get(), deny, SCMP_SYS(ioctl), 1,
                              SCMP_A1(SCMP_CMP_MASKED_EQ, 0xFFFFFFFFULL, 0x5412 /* TIOCSTI */)))) {
    return refused("ioctl");
  }
  if (!check(seccomp_load(filter.get()))) return refused("seccomp_load");
  return {};
}

// An architecture's system call numbers of Landlock are the same everywhere; older headers lack the
// wrappers.
int landlock_create(const landlock_ruleset_attr* attributes, std::size_t size, unsigned flags) {
  return static_cast<int>(syscall(SYS_landlock_create_ruleset, attributes, size, flags));
}

constexpr std::uint64_t kReadFile = LANDLOCK_ACCESS_FS_READ_FILE;
constexpr std::uint64_t kReadTree = kReadFile | LANDLOCK_ACCESS_FS_READ_DIR;
constexpr std::uint64_t kWriteFile = kReadFile | LANDLOCK_ACCESS_FS_WRITE_FILE;
constexpr std::uint64_t kWriteTree = kReadTree | LANDLOCK_ACCESS_FS_WRITE_FILE |
                                     LANDLOCK_ACCESS_FS_REMOVE_FILE |
                                     LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
                                     LANDLOCK_ACCESS_FS_MAKE_DIR;
// ABI 1 knows 13 rights; later ones (2: REFER, 3: TRUNCATE) by their bits.
constexpr std::uint64_t kAllOfAbi1 = (1ULL << 13U) - 1;
constexpr std::uint64_t kRefer = 1ULL << 13U;
constexpr std::uint64_t kTruncate = 1ULL << 14U;

void allow(int rules, const std::string& path, std::uint64_t for_file, std::uint64_t for_tree) {
  const int fd = open(path.c_str(), O_PATH | O_CLOEXEC);
  if (fd < 0) return;  // what isn't there needs no rule
  struct stat info {};
  if (fstat(fd, &info) == 0) {
    landlock_path_beneath_attr rule{};
    rule.allowed_access = S_ISDIR(info.st_mode) ? for_tree : for_file;
    rule.parent_fd = fd;
    (void)syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
  }
  ::close(fd);
}

// 0 where the kernel hasn't got it.
int restrict_files(const SandboxOptions& options) {
  const int abi = landlock_create(nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (abi <= 0) return 0;
  landlock_ruleset_attr attributes{};
  std::uint64_t extra = 0;
  attributes.handled_access_fs = kAllOfAbi1;
  if (abi >= 2) attributes.handled_access_fs |= kRefer;
  if (abi >= 3) {
    attributes.handled_access_fs |= kTruncate;
    extra = kTruncate;
  }
  const int rules = landlock_create(&attributes, sizeof attributes, 0);
  if (rules < 0) return 0;
  for (const char* path : kSystemRead) allow(rules, path, kReadFile, kReadTree);
  allow(rules, "/dev/null", kWriteFile, kReadTree);
  for (const std::string& path : options.read) allow(rules, path, kReadFile, kReadTree);
  for (const std::string& path : options.write) {
    allow(rules, path, kWriteFile | extra, kWriteTree | extra);
  }
  const bool entered = syscall(SYS_landlock_restrict_self, rules, 0) == 0;
  ::close(rules);
  return entered ? abi : 0;
}

}  // namespace

Result<SandboxReport> enter_sandbox(const SandboxOptions& options) {
  SandboxReport report;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return refused("no new privileges");
  KERF_TRY(limit(RLIMIT_CORE, 0, "limit on cores"));
  KERF_TRY(limit(RLIMIT_FSIZE, options.file_size, "limit on files"));
  const std::uint64_t space =
      options.address_space != 0 ? options.address_space
                                 : std::min(memory_of_machine(), kMostAddressSpace);
  if (!kSanitized) KERF_TRY(limit(RLIMIT_AS, space, "limit on memory"));
  signal(SIGXFSZ, SIG_IGN);  // a write past the limit is an error then
  report.landlock_abi = restrict_files(options);
  KERF_TRY(filter_calls());
  report.seccomp = true;
  return report;
}

}  // namespace kerf::process
