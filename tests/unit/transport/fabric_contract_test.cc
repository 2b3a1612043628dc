// The contract of every transport, over libfabric.
#include "tests/unit/transport/fabric_fixture.h"
#include "tests/unit/transport/transport_contract.h"

namespace agentmem {
namespace {

struct FabricHarness {
  std::unique_ptr<Transport> Add(const std::string& /*node*/) {
    SetFabricEnvironment();
    FabricOptions options;
    options.provider = TestPlace().provider;
    options.bind_address = TestPlace().bind_address;
    auto transport = FabricTransport::Open(options);
    EXPECT_TRUE(transport.ok()) << transport.status().ToString();
    return std::move(transport).value();
  }
  TimeNs Now() { return MonotonicNowNs(); }
  bool GoOn() { return MonotonicNowNs() < end; }

  TimeNs end = MonotonicNowNs() + TestPlace().patience;
};

INSTANTIATE_TYPED_TEST_SUITE_P(Fabric, TransportContract, FabricHarness);

}  // namespace
}  // namespace agentmem
