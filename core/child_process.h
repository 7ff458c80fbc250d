#pragma once

#include <sys/types.h>

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace kerf {

/// How to start a child.
struct ChildOptions {
  std::vector<std::string> argv;             ///< argv[0] is a path, or is looked up in PATH.
  std::map<std::string, std::string> env;    ///< Added to ours.
  bool pipe_stdin = false;                   ///< Else /dev/null.
  bool pipe_stdout = false;                  ///< Else ours (stderr) as `stdout_to_stderr` says.
  bool pipe_stderr = false;                  ///< Else ours.
  bool stdout_to_stderr = false;             ///< For children whose chatter is not our answer.
  int socket_fd = -1;                        ///< The child gets a socketpair's end as this number.
  bool own_group = true;                     ///< A process group of its own, killed as a whole.
};

/// A child process that never outlives us: PR_SET_PDEATHSIG(SIGKILL) in the child, group kill and
/// reap in the destructor. Every descriptor of ours is close-on-exec.
///
/// Threads:  the death signal follows the thread that spawned, which must live as long as the
///           child is wanted.
class ChildProcess {
 public:
  /// Throws std::system_error where fork or exec fails.
  [[nodiscard]] static ChildProcess spawn(const ChildOptions& options);

  ChildProcess() = default;
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  ~ChildProcess();

  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] bool running() const { return pid_ > 0; }

  /// Ends of ours; -1 where not asked for. take_* hands over ownership.
  [[nodiscard]] int stdin_fd() const { return stdin_; }
  [[nodiscard]] int stdout_fd() const { return stdout_; }
  [[nodiscard]] int stderr_fd() const { return stderr_; }
  [[nodiscard]] int socket_fd() const { return socket_; }
  [[nodiscard]] int take_stdin();
  [[nodiscard]] int take_stdout();
  [[nodiscard]] int take_stderr();
  [[nodiscard]] int take_socket();
  void close_stdin();

  /// The wait status where the child has ended; doesn't block.
  [[nodiscard]] std::optional<int> poll();

  /// Waits up to `limit` for the end.
  [[nodiscard]] std::optional<int> wait_for(std::chrono::milliseconds limit);

  /// A signal to the child's group.
  void signal(int number);

  /// TERM, `grace`, KILL; reaps. The wait status.
  int terminate(std::chrono::milliseconds grace);

 private:
  void close_all();

  pid_t pid_ = -1;
  bool group_ = false;
  int stdin_ = -1;
  int stdout_ = -1;
  int stderr_ = -1;
  int socket_ = -1;
};

/// "exit code 3", "signal 11 (Segmentation fault)".
[[nodiscard]] std::string describe_wait_status(int status);

/// The path of the running program.
[[nodiscard]] std::string self_executable();

}  // namespace kerf
