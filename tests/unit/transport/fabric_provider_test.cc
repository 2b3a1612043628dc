// Which provider is taken, and what is said about it.
#include "memd/transport/fabric_provider.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <rdma/fi_errno.h>
#include <stdlib.h>

#include <map>

#include "memd/transport/fabric_transport.h"
#include "tests/unit/transport/fabric_faults.h"
#include "tests/unit/transport/fabric_fixture.h"

namespace agentmem {
namespace {

// A machine whose libfabric offers these.
FabricCatalog Offering(const std::vector<std::string>& there) {
  return {
      [there](const std::string& provider, const std::string&) {
        FabricOffer offer;
        if (std::find(there.begin(), there.end(), provider) == there.end()) {
          offer.reason = "not in this machine";
        } else {
          offer.domain = "domain of " + provider;
        }
        return offer;
      },
      [] {
        return std::vector<std::string>{"psm2", "shm", "sockets", "tcp"};
      }};
}

FabricOptions Named(const std::string& provider, bool rdma_required = false) {
  FabricOptions options;
  options.provider = provider;
  options.rdma_required = rdma_required;
  return options;
}

TEST(FabricProvider, AutoTakesTheFirstThatIsThereAndSaysWhyNotTheOthers) {
  const auto choice =
      ChooseFabric(Named("auto"), Offering({"efa", "tcp;ofi_rxm"}));
  ASSERT_TRUE(choice.ok());
  EXPECT_EQ(choice->provider, "efa");
  EXPECT_EQ(choice->domain, "domain of efa");
  EXPECT_TRUE(choice->rdma);
  EXPECT_EQ(choice->fallbacks, 0u);
  std::vector<std::string> names;
  for (const FabricCandidate& candidate : choice->candidates) {
    names.push_back(candidate.provider);
    EXPECT_EQ(candidate.taken, candidate.provider == "efa");
    EXPECT_FALSE(candidate.reason.empty()) << candidate.provider;
  }
  EXPECT_EQ(names, (std::vector<std::string>{"verbs;ofi_rxm", "efa", "psm3",
                                             "opx", "tcp;ofi_rxm"}));
  EXPECT_EQ(choice->candidates[0].reason, "not in this machine");
  EXPECT_EQ(choice->candidates[4].reason, "efa comes before it");
}

TEST(FabricProvider, TcpIsAFallbackAndCountedUnlessItWasAskedFor) {
  const FabricCatalog catalog = Offering({"tcp;ofi_rxm"});
  const auto fallback = ChooseFabric(Named("auto"), catalog);
  ASSERT_TRUE(fallback.ok());
  EXPECT_EQ(fallback->provider, "tcp;ofi_rxm");
  EXPECT_EQ(fallback->fallbacks, 1u);
  EXPECT_FALSE(fallback->rdma);
  const auto asked = ChooseFabric(Named("tcp"), catalog);
  ASSERT_TRUE(asked.ok());
  EXPECT_EQ(asked->provider, "tcp;ofi_rxm");
  EXPECT_EQ(asked->fallbacks, 0u);
}

TEST(FabricProvider, TheNearestDeviceIsPreferredAndAnotherIsAFallback) {
  FabricOptions options = Named("auto");
  options.preferred_domain = "mlx5_0";
  FabricCatalog catalog = Offering({});
  std::string broken;
  catalog.query = [&](const std::string& provider, const std::string& domain) {
    FabricOffer offer;
    offer.domain = domain.empty() ? "mlx5_1" : domain;
    if (provider != "verbs;ofi_rxm" || domain == broken) {
      offer.reason = "it does not open";
    }
    return offer;
  };
  broken = "none";
  auto choice = ChooseFabric(options, catalog);
  ASSERT_TRUE(choice.ok());
  EXPECT_EQ(choice->domain, "mlx5_0");
  EXPECT_EQ(choice->fallbacks, 0u);
  broken = "mlx5_0";
  choice = ChooseFabric(options, catalog);
  ASSERT_TRUE(choice.ok());
  EXPECT_EQ(choice->domain, "mlx5_1");
  EXPECT_TRUE(choice->rdma);
  EXPECT_EQ(choice->fallbacks, 1u);
  const std::string& reason = choice->candidates[0].reason;
  EXPECT_NE(reason.find("mlx5_0"), std::string::npos) << reason;
  EXPECT_NE(reason.find("it does not open"), std::string::npos) << reason;
  // Who names a device gets that one.
  options.domain = "mlx5_7";
  choice = ChooseFabric(options, catalog);
  ASSERT_TRUE(choice.ok());
  EXPECT_EQ(choice->domain, "mlx5_7");
  EXPECT_EQ(choice->fallbacks, 0u);
}

TEST(FabricProvider, WhatIsOfferedAndDoesNotOpenIsPassedOverWithItsError) {
  SetFabricEnvironment();
  const FabricFaultsScope scope;
  Faults().answer = [](FabricCall call) -> ssize_t {
    return call == FabricCall::kDomain ? -FI_ENOMEM : 0;
  };
  FabricOptions options = Named("auto");
  options.bind_address = "127.0.0.1";
  auto transport = FabricTransport::Open(options);
  ASSERT_EQ(transport.status().code(), absl::StatusCode::kFailedPrecondition);
  const std::string message(transport.status().message());
  EXPECT_NE(message.find("tcp;ofi_rxm: fabric provider"), std::string::npos)
      << message;
  EXPECT_NE(message.find("does not open"), std::string::npos) << message;
  options.provider = "tcp";
  transport = FabricTransport::Open(options);
  EXPECT_EQ(transport.status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(FabricProvider, WhatCannotBeWaitedOnIsTakenByItsNameAloneAndLookedAt) {
  SetFabricEnvironment();
  const FabricFaultsScope scope;
  Faults().answer = [](FabricCall call) -> ssize_t {
    return call == FabricCall::kWaitedQueue ? -FI_ENOSYS : 0;
  };
  FabricOptions options = Named("auto");
  options.bind_address = "127.0.0.1";
  auto transport = FabricTransport::Open(options);
  ASSERT_EQ(transport.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(std::string(transport.status().message()).find("sleep"),
            std::string::npos);
  options.provider = "tcp";
  transport = FabricTransport::Open(options);
  ASSERT_TRUE(transport.ok()) << transport.status().ToString();
  ASSERT_EQ((*transport)->Warnings().size(), 1u);
  EXPECT_NE((*transport)->Warnings()[0].find("sleep"), std::string::npos);
  // It sleeps, and wakes by itself.
  pollfd waited = {(*transport)->wait_fd(), POLLIN, 0};
  const TimeNs end = MonotonicNowNs() + 50 * kMillisecondNs;
  int looks = 0;
  for (; MonotonicNowNs() < end; ++looks) {
    ASSERT_TRUE((*transport)->ReadyToWait());
    ASSERT_EQ(::poll(&waited, 1, 5000), 1);
  }
  EXPECT_LE(looks, 60);
}

TEST(FabricProvider, MorePeersThanTheQueuesAreMadeForAreNamed) {
  const auto universe = [](std::size_t peers) {
    for (const auto& [name, value] : FabricEnvironment(peers)) {
      if (name == "FI_UNIVERSE_SIZE") return value;
    }
    return std::string();
  };
  EXPECT_EQ(universe(0), "64");
  EXPECT_EQ(universe(100), "100");
  EXPECT_EQ(universe(1000), "127");
  EXPECT_EQ(TooManyPeers("verbs;ofi_rxm", 65, 0), "");
  EXPECT_EQ(TooManyPeers("tcp;ofi_rxm", 66, 0), "");
  EXPECT_EQ(TooManyPeers("verbs;ofi_rxm", 101, 100), "");
  const std::string many = TooManyPeers("verbs;ofi_rxm", 200, 0);
  EXPECT_NE(many.find("200 members"), std::string::npos) << many;
  EXPECT_NE(many.find("64 peers"), std::string::npos) << many;
  EXPECT_NE(many.find("FI_UNIVERSE_SIZE=199"), std::string::npos) << many;
}

TEST(FabricProvider, RequiredRdmaThatIsNotThereIsAnErrorThatSaysWhatToDo) {
  for (const char* const provider : {"auto", "verbs"}) {
    const auto choice =
        ChooseFabric(Named(provider, true), Offering({"tcp;ofi_rxm"}));
    ASSERT_EQ(choice.status().code(), absl::StatusCode::kFailedPrecondition);
    const std::string message(choice.status().message());
    for (const char* const word : {"RDMA is required", "verbs;ofi_rxm",
                                   "not in this machine", "ibv_devinfo"}) {
      EXPECT_NE(message.find(word), std::string::npos) << message;
    }
  }
  // Asked for by its name, it is as required.
  EXPECT_EQ(
      ChooseFabric(Named("verbs"), Offering({"tcp;ofi_rxm"})).status().code(),
      absl::StatusCode::kFailedPrecondition);
}

TEST(FabricProvider, WhatCanNeverBeMetIsRefusedByItsName) {
  const std::pair<FabricOptions, const char*> cases[] = {
      {Named("infinityband"), "'infinityband' does not exist"},
      {Named("tcp;ofi_rxd"), "'tcp;ofi_rxd' does not exist"},
      {Named("sockets"), "'sockets' is never used"},
      {Named("udp;ofi_rxd"), "'udp;ofi_rxd' is never used"},
      {Named("net;ofi_rxm"), "'net;ofi_rxm' is never used"},
      {Named("shm"), "'shm' is never used"},
      {Named("tcp", true), "'tcp' has none"},
  };
  for (const auto& [options, words] : cases) {
    const auto choice = ChooseFabric(options, Offering({"tcp;ofi_rxm"}));
    ASSERT_EQ(choice.status().code(), absl::StatusCode::kInvalidArgument)
        << words;
    const std::string message(choice.status().message());
    EXPECT_NE(message.find(words), std::string::npos) << message;
    // What there is instead, each once, and never what is refused.
    if (message.find("use one of: ") != std::string::npos) {
      EXPECT_NE(
          message.find("auto, verbs;ofi_rxm, efa, psm3, opx, tcp;ofi_rxm"),
          std::string::npos)
          << message;
      EXPECT_EQ(message.find("tcp", message.find(", tcp;ofi_rxm") + 5),
                std::string::npos)
          << message;
    }
    EXPECT_NE(message.find("verbs"), std::string::npos) << message;
    EXPECT_EQ(message.find(", sockets"), std::string::npos) << message;
  }
  FabricOptions options = Named("tcp");
  options.bind_address = "localhost";
  const auto choice = ChooseFabric(options, Offering({"tcp;ofi_rxm"}));
  ASSERT_EQ(choice.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(choice.status().message()).find("'localhost'"),
            std::string::npos);
}

TEST(FabricProvider, OpenSaysWhatIsWrongWithItsOptions) {
  SetFabricEnvironment();
  EXPECT_EQ(FabricTransport::Open(Named("infinityband")).status().code(),
            absl::StatusCode::kInvalidArgument);
  FabricOptions options = Named("tcp");
  options.bind_address = "203.0.113.7";  // of no interface (RFC 5737)
  const auto transport = FabricTransport::Open(options);
  ASSERT_EQ(transport.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(std::string(transport.status().message()).find("203.0.113.7"),
            std::string::npos)
      << transport.status().ToString();
}

TEST(FabricProvider, OpenOverTcpSaysWhatCarriesTheTraffic) {
  SetFabricEnvironment();
  FabricOptions options = Named("tcp");
  options.bind_address = "127.0.0.1";
  const auto transport = FabricTransport::Open(options);
  ASSERT_TRUE(transport.ok()) << transport.status().ToString();
  EXPECT_EQ((*transport)->limits().provider, "tcp;ofi_rxm");
  EXPECT_EQ((*transport)->choice().address, "127.0.0.1");
  EXPECT_FALSE((*transport)->choice().domain.empty());
}

}  // namespace
}  // namespace agentmem
