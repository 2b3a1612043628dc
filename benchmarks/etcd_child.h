// An etcd of the benchmark's own, on loopback, without anybody else.
//
// Ownership: owns the process and its data; both end with this object, the
// process with the benchmark at the latest. Threads: thread-compatible; Start
// from the thread that outlives it. Errors: UNAVAILABLE with etcd's last words.
// Cost: Start waits until it takes connections.
#ifndef AGENTMEM_BENCHMARKS_ETCD_CHILD_H_
#define AGENTMEM_BENCHMARKS_ETCD_CHILD_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "benchmarks/temporary_directory.h"

namespace agentmem::bench {

class EtcdChild {
 public:
  // Empty: it is not installed.
  static std::string Program();
  static absl::StatusOr<std::unique_ptr<EtcdChild>> Start();
  ~EtcdChild();
  EtcdChild(const EtcdChild&) = delete;
  EtcdChild& operator=(const EtcdChild&) = delete;

  const std::string& url() const { return url_; }

 private:
  EtcdChild(std::unique_ptr<TemporaryDirectory> directory, std::string url)
      : directory_(std::move(directory)), url_(std::move(url)) {}
  absl::Status Launch(const std::string& peers_url);
  absl::Status AwaitReady(std::uint16_t port) const;

  const std::unique_ptr<TemporaryDirectory> directory_;
  const std::string url_;
  pid_t pid_ = -1;
};

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_ETCD_CHILD_H_
