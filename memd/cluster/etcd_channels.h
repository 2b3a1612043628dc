// One gRPC channel for each of etcd's endpoints; the one in use is kept while
// it answers.
//
//   use i --Fault(i)--> use i + 1, ...   (a call that found no connection tries
//                                         the others itself, until its
//                                         deadline)
//
// A channel connects again by itself, half a second at most after etcd is back.
//
// Ownership: owns the channels. Threads: thread-safe. Errors: Make:
// INVALID_ARGUMENT (which endpoint, what is allowed), and of reading the files;
// Connect: UNAVAILABLE. Cost: Connect blocks until its deadline at most, and
// not at all while the channel in use is connected.
#ifndef AGENTMEM_MEMD_CLUSTER_ETCD_CHANNELS_H_
#define AGENTMEM_MEMD_CLUSTER_ETCD_CHANNELS_H_

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "memd/cluster/etcd_options.h"

namespace grpc {
class Channel;
class ClientContext;
class Status;
}  // namespace grpc

namespace agentmem {

class EtcdChannels {
 public:
  struct Connection {
    std::shared_ptr<grpc::Channel> channel;
    std::size_t index = 0;
  };

  static absl::StatusOr<std::shared_ptr<EtcdChannels>> Make(
      const EtcdOptions& options);
  ~EtcdChannels();

  // A channel that is connected now.
  absl::StatusOr<Connection> Connect(TimeNs deadline);
  // A call to this endpoint was not answered, or could not be served.
  void Fault(std::size_t index);
  // After a call that failed at once: until something changes, or a moment has
  // passed, so that a caller who tries again does not spin.
  void Pause(const Connection& connection, TimeNs deadline);

  std::size_t size() const { return endpoints_.size(); }
  const std::string& endpoint(std::size_t index) const {
    return endpoints_[index];
  }
  // All of them, for messages.
  std::string names() const;

 private:
  EtcdChannels() = default;

  std::vector<std::string> endpoints_;
  std::vector<std::shared_ptr<grpc::Channel>> channels_;
  std::atomic<std::size_t> current_ = 0;
};

// A member of etcd without a leader is to refuse at once.
void PrepareEtcdCall(TimeNs deadline, grpc::ClientContext* context);

// "etcd (endpoint): what: message". What may pass is UNAVAILABLE, whatever
// etcd's word for it.
absl::Status EtcdStatus(const grpc::Status& status, const std::string& what,
                        const std::string& endpoint);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_CLUSTER_ETCD_CHANNELS_H_
