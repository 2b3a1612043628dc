// The two processes of the baseline: the initiator starts the target, both open
// libfabric, and from then on the initiator does what it is asked to.
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "base/status.h"
#include "benchmarks/pool_bytes.h"
#include "benchmarks/raw_fabric.h"
#include "benchmarks/raw_fabric_messages.h"
#include "benchmarks/self_process.h"
#include "benchmarks/self_socket.h"
#include "benchmarks/stopwatch.h"

namespace agentmem::bench {
namespace {

// The target's window is a row of streams of so many bytes.
constexpr std::uint64_t kStreamBytes = 4096;

void FillWindow(char* window, std::uint64_t from, std::uint64_t bytes,
                std::uint64_t seed) {
  for (std::uint64_t at = from; at < from + bytes; at += kStreamBytes) {
    ByteStream(seed, at).Fill(window + at, kStreamBytes);
  }
}

bool WindowMatches(const char* window, std::uint64_t from, std::uint64_t bytes,
                   std::uint64_t seed) {
  bool matches = true;
  for (std::uint64_t at = from; at < from + bytes; at += kStreamBytes) {
    matches =
        ByteStream(seed, at).Matches(window + at, kStreamBytes) && matches;
  }
  return matches;
}

class Initiator {
 public:
  explicit Initiator(std::uint64_t seed) : seed_(seed) {}
  ~Initiator() {
    if (target_.pid <= 0) return;
    ::shutdown(target_.socket.get(), SHUT_RDWR);
    int status = 0;
    ::waitpid(target_.pid, &status, 0);
  }

  absl::Status Connect(const RawFabricHello& hello) {
    bytes_ = hello.options.window_bytes;
    AGENTMEM_ASSIGN_OR_RETURN(target_, StartSelf(kRawFabricOption, "target"));
    const int socket = target_.socket.get();
    AGENTMEM_RETURN_IF_ERROR(Send(socket, hello));
    AGENTMEM_ASSIGN_OR_RETURN(raw_, RawEndpoint::Open(hello.options));
    AGENTMEM_RETURN_IF_ERROR(Send(socket, raw_->self()));
    RawFabricPeer peer = {};
    AGENTMEM_RETURN_IF_ERROR(Receive(socket, &peer));
    AGENTMEM_RETURN_IF_ERROR(raw_->UsePeer(peer));
    // The first operation waits for the connection.
    return raw_->Transfer(RawEndpoint::Kind::kRead, kStreamBytes, 1, 1,
                          [](std::size_t) { return 0; });
  }

  absl::StatusOr<std::vector<double>> Run(const RawFabricRun& run) {
    const std::uint64_t burst = run.length * run.group * run.samples;
    if (run.length % kStreamBytes != 0 || burst == 0 || burst > bytes_ ||
        run.depth == 0 || run.depth > RawEndpoint::kDepthMax) {
      return InvalidArgument(
          "raw libfabric: a burst is of whole 4 KiB and fits the window, its "
          "depth is 1 to 64");
    }
    Samples samples;
    std::vector<double> values;
    for (std::uint64_t i = 0; i < run.bursts; ++i) {
      if (next_ + burst > bytes_) next_ = 0;
      AGENTMEM_RETURN_IF_ERROR(Burst(run, next_, &values));
      next_ += burst;
    }
    return values;
  }

 private:
  absl::Status Burst(const RawFabricRun& run, std::uint64_t from,
                     std::vector<double>* values) {
    const std::uint64_t bytes = run.length * run.group * run.samples;
    const bool write = run.kind == RawEndpoint::Kind::kWrite;
    // Bytes that were not there: what a stale window holds is not a success.
    if (write) {
      ++seed_;
      FillWindow(raw_->window(), from, bytes, seed_);
    } else {
      std::fill_n(raw_->window() + from, bytes, '\0');
    }
    absl::Status status;
    for (std::uint64_t i = 0; i < run.samples && status.ok(); ++i) {
      const TimeNs start = MonotonicNowNs();
      status = raw_->Transfer(run.kind, run.length, run.group, run.depth,
                              [&](std::size_t j) {
                                return from + (i * run.group + j) * run.length;
                              });
      values->push_back(static_cast<double>(MonotonicNowNs() - start));
    }
    AGENTMEM_RETURN_IF_ERROR(status);
    if (write) {
      std::fill_n(raw_->window() + from, bytes, '\0');
      AGENTMEM_RETURN_IF_ERROR(raw_->Transfer(
          RawEndpoint::Kind::kRead, run.length, run.group * run.samples, 1,
          [&](std::size_t j) { return from + j * run.length; }));
      if (WindowMatches(raw_->window(), from, bytes, seed_)) {
        // Reads that follow find what they expect.
        FillWindow(raw_->window(), from, bytes, first_seed_);
        return raw_->Transfer(
            RawEndpoint::Kind::kWrite, run.length, run.group * run.samples, 1,
            [&](std::size_t j) { return from + j * run.length; });
      }
    } else if (WindowMatches(raw_->window(), from, bytes, first_seed_)) {
      return absl::OkStatus();
    }
    return DataLoss("raw libfabric moved other bytes than it was told to");
  }

  std::uint64_t seed_;
  const std::uint64_t first_seed_ = seed_;
  std::uint64_t bytes_ = 0;
  std::uint64_t next_ = 0;
  SelfProcess target_;
  std::unique_ptr<RawEndpoint> raw_;
};

absl::Status Reply(int socket,
                   const absl::StatusOr<std::vector<double>>& result) {
  RawFabricAnswer answer = {};
  answer.code = static_cast<std::uint32_t>(result.status().code());
  std::snprintf(answer.message, sizeof(answer.message), "%s",
                StatusMessage(result.status()).c_str());
  answer.count = result.ok() ? result->size() : 0;
  AGENTMEM_RETURN_IF_ERROR(Send(socket, answer));
  if (!result.ok()) return absl::OkStatus();
  return SendBytes(socket, result->data(), result->size() * sizeof(double));
}

absl::Status RunInitiator() {
  RawFabricHello hello = {};
  AGENTMEM_RETURN_IF_ERROR(Receive(kSelfSocket, &hello));
  Initiator initiator(hello.seed);
  absl::StatusOr<std::vector<double>> result = std::vector<double>();
  const absl::Status connected = initiator.Connect(hello);
  if (!connected.ok()) result = connected;
  for (;;) {
    AGENTMEM_RETURN_IF_ERROR(Reply(kSelfSocket, result));
    RawFabricRun run;
    // The benchmark has no more for it: its end of the socket is closed.
    if (!Receive(kSelfSocket, &run).ok()) return absl::OkStatus();
    result = initiator.Run(run);
  }
}

absl::Status RunTarget() {
  RawFabricHello hello = {};
  AGENTMEM_RETURN_IF_ERROR(Receive(kSelfSocket, &hello));
  AGENTMEM_ASSIGN_OR_RETURN(const std::unique_ptr<RawEndpoint> raw,
                            RawEndpoint::Open(hello.options));
  FillWindow(raw->window(), 0, hello.options.window_bytes, hello.seed);
  RawFabricPeer peer = {};
  AGENTMEM_RETURN_IF_ERROR(Receive(kSelfSocket, &peer));
  AGENTMEM_RETURN_IF_ERROR(raw->UsePeer(peer));
  AGENTMEM_RETURN_IF_ERROR(Send(kSelfSocket, raw->self()));
  return raw->ServeUntil(kSelfSocket);
}

}  // namespace

int RunRawFabricProcess(const std::string& role) {
  const absl::Status status =
      role == "initiator" ? RunInitiator() : RunTarget();
  if (status.ok()) return 0;
  std::fprintf(stderr, "agentmem_bench, raw libfabric (%s): %s\n", role.c_str(),
               StatusMessage(status).c_str());
  return 1;
}

}  // namespace agentmem::bench
