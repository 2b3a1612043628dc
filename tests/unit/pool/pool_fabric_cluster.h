// FabricPoolCluster: pool nodes on real libfabric, in one process and thread.
// The first one has the interface of the node under test (fabric_fixture.h),
// the others that of its peers.
#ifndef AGENTMEM_TESTS_UNIT_POOL_POOL_FABRIC_CLUSTER_H_
#define AGENTMEM_TESTS_UNIT_POOL_POOL_FABRIC_CLUSTER_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "base/check.h"
#include "memd/transport/fabric_transport.h"
#include "tests/unit/pool/pool_runs.h"
#include "tests/unit/transport/fabric_fixture.h"

namespace agentmem {

class FabricPoolCluster final : public PoolRuns {
 public:
  // Its clock is so many times slower than the real one: the pool's times are
  // made for machines that nobody emulates, and that do nothing else.
  static constexpr int kSlowness = 8;

  FabricPoolCluster() { SetFabricEnvironment(); }
  ~FabricPoolCluster() override { EndAll(); }

  TimeNs now() const override {
    return then_ + (MonotonicNowNs() - since_) / slowness_;
  }
  void SetSlowness(int slowness) {
    then_ = now();
    since_ = MonotonicNowNs();
    slowness_ = slowness;
  }
  bool RunFor(DurationNs duration,
              const std::function<bool()>& each = nullptr) override {
    const TimeNs end = now() + duration;
    do {
      PollAll();
      if (each && each()) return true;
    } while (now() < end);
    return false;
  }
  // Its process has ended.
  void Stop(const std::string& name) { End(name); }

 private:
  std::unique_ptr<Transport> MakeTransport(const std::string&) override {
    FabricOptions options;
    options.provider = TestPlace().provider;
    options.bind_address = runs().empty() ? TestPlace().bind_address
                                          : TestPlace().peer_bind_address;
    auto opened = FabricTransport::Open(options);
    EXPECT_TRUE(opened.ok()) << opened.status().ToString();
    AGENTMEM_CHECK(opened.ok());
    return std::move(opened).value();
  }

  TimeNs then_ = kSecondNs;
  TimeNs since_ = MonotonicNowNs();
  int slowness_ = kSlowness;
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_POOL_POOL_FABRIC_CLUSTER_H_
