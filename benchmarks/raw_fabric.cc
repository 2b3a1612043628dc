#include "benchmarks/raw_fabric.h"

#include <signal.h>
#include <sys/wait.h>

#include <numeric>
#include <vector>

#include "base/status.h"
#include "benchmarks/raw_fabric_messages.h"
#include "benchmarks/self_process.h"
#include "benchmarks/self_socket.h"

namespace agentmem::bench {
namespace {

absl::StatusOr<std::vector<double>> Answer(int socket) {
  RawFabricAnswer answer = {};
  AGENTMEM_RETURN_IF_ERROR(Receive(socket, &answer));
  if (answer.code != 0) {
    return MakeStatus(static_cast<absl::StatusCode>(answer.code),
                      answer.message);
  }
  std::vector<double> values(answer.count);
  AGENTMEM_RETURN_IF_ERROR(
      ReceiveBytes(socket, values.data(), values.size() * sizeof(double)));
  return values;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RawFabric>> RawFabric::Start(
    const RawFabricOptions& options, std::uint64_t seed) {
  AGENTMEM_ASSIGN_OR_RETURN(SelfProcess self,
                            StartSelf(kRawFabricOption, "initiator"));
  std::unique_ptr<RawFabric> raw(
      new RawFabric(self.pid, std::move(self.socket)));
  AGENTMEM_RETURN_IF_ERROR(raw->Connect(options, seed));
  return raw;
}

absl::Status RawFabric::Connect(const RawFabricOptions& options,
                                std::uint64_t seed) {
  AGENTMEM_RETURN_IF_ERROR(Send(socket_.get(), RawFabricHello{options, seed}));
  return Answer(socket_.get()).status();
}

RawFabric::~RawFabric() {
  // Which is what ends it, whoever else has inherited the socket.
  ::shutdown(socket_.get(), SHUT_RDWR);
  int status = 0;
  ::waitpid(pid_, &status, 0);
}

absl::StatusOr<double> RawFabric::Run(const RawFabricRun& run,
                                      Samples* samples) {
  AGENTMEM_RETURN_IF_ERROR(Send(socket_.get(), run));
  AGENTMEM_ASSIGN_OR_RETURN(const std::vector<double> values,
                            Answer(socket_.get()));
  samples->Reserve(values.size());
  for (const double value : values) samples->Add(value);
  return std::accumulate(values.begin(), values.end(), 0.0) /
         static_cast<double>(values.size());
}

}  // namespace agentmem::bench
