#include "tiering/device_shares.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

namespace agentmem::tiering {
namespace {

using ::testing::ElementsAre;
using Shares = std::vector<std::uint64_t>;

std::uint64_t Sum(const Shares& shares) {
  return std::accumulate(shares.begin(), shares.end(), std::uint64_t{0});
}

std::uint64_t DemandOf(const DeviceTenant& tenant) {
  const std::uint64_t wanted = Sum(tenant.wants);
  return tenant.quota_bytes == 0 ? wanted
                                 : std::min(wanted, tenant.quota_bytes);
}

TEST(MaxMinSharesTest, WhatOneDoesNotWantGoesToTheOthers) {
  EXPECT_THAT(MaxMinShares(90, Shares{90, 90, 90}), ElementsAre(30, 30, 30));
  EXPECT_THAT(MaxMinShares(90, Shares{90, 10, 90}), ElementsAre(40, 10, 40));
  EXPECT_THAT(MaxMinShares(90, Shares{35, 10, 90}), ElementsAre(35, 10, 45));
  EXPECT_THAT(MaxMinShares(90, Shares{1, 2, 3}), ElementsAre(1, 2, 3));
  EXPECT_THAT(MaxMinShares(10, Shares{9, 9, 9}), ElementsAre(3, 3, 4));
  EXPECT_THAT(MaxMinShares(0, Shares{9, 0}), ElementsAre(0, 0));
  EXPECT_THAT(MaxMinShares(90, Shares{}), ElementsAre());
}

class RandomDevice {
 public:
  explicit RandomDevice(std::uint64_t seed) : random_(seed) {}

  std::uint64_t Number(std::uint64_t below) { return random_() % below; }
  DeviceTenant Tenant(std::uint64_t device_bytes) {
    DeviceTenant tenant;
    tenant.device_bytes = device_bytes;
    tenant.quota_bytes = Number(3) == 0 ? 1 + Number(2000) : 0;
    tenant.wants.resize(Number(5));
    for (std::uint64_t& want : tenant.wants) {
      want = Number(4) == 0 ? (1ULL << 46) : Number(1000);
    }
    return tenant;
  }
  std::vector<DeviceTenant> Tenants(std::uint64_t device_bytes) {
    std::vector<DeviceTenant> tenants;
    for (std::uint64_t i = 1 + Number(5); i > 0; --i) {
      tenants.push_back(Tenant(device_bytes));
    }
    return tenants;
  }

 private:
  std::mt19937_64 random_;
};

TEST(DeviceSharesTest, NothingIsGivenTwiceAndNothingKeptThatIsWanted) {
  RandomDevice random(1);
  for (int round = 0; round < 2000; ++round) {
    const std::uint64_t bytes = random.Number(5000);
    const auto tenants = random.Tenants(bytes);
    const auto shares = DivideDevice(tenants);
    ASSERT_EQ(shares.size(), tenants.size());
    std::uint64_t given = 0;
    std::uint64_t demand = 0;
    for (std::size_t i = 0; i < tenants.size(); ++i) {
      ASSERT_EQ(shares[i].size(), tenants[i].wants.size());
      for (std::size_t j = 0; j < shares[i].size(); ++j) {
        ASSERT_LE(shares[i][j], tenants[i].wants[j]);
      }
      const std::uint64_t its = Sum(shares[i]);
      ASSERT_LE(its, DemandOf(tenants[i]));
      given += its;
      demand += DemandOf(tenants[i]);
    }
    ASSERT_EQ(given, std::min(bytes, demand)) << round;
    ASSERT_EQ(DivideDevice(tenants), shares);
  }
}

// Who has less than another, but for a byte, has all that it wants.
TEST(DeviceSharesTest, NobodyHasMoreThanOneWhoWantsMore) {
  RandomDevice random(2);
  for (int round = 0; round < 2000; ++round) {
    const auto tenants = random.Tenants(random.Number(5000));
    const auto shares = DivideDevice(tenants);
    for (std::size_t i = 0; i < tenants.size(); ++i) {
      for (std::size_t j = 0; j < tenants.size(); ++j) {
        if (Sum(shares[i]) == DemandOf(tenants[i])) continue;
        ASSERT_LE(Sum(shares[j]), Sum(shares[i]) + 1) << round;
      }
      for (std::size_t a = 0; a < shares[i].size(); ++a) {
        for (std::size_t b = 0; b < shares[i].size(); ++b) {
          if (shares[i][a] == tenants[i].wants[a]) continue;
          ASSERT_LE(shares[i][b], shares[i][a] + 1) << round;
        }
      }
    }
  }
}

TEST(DeviceSharesTest, WhateverOthersSayAnEqualPartIsOnesOwn) {
  RandomDevice random(3);
  for (int round = 0; round < 2000; ++round) {
    const std::uint64_t bytes = random.Number(5000);
    auto tenants = random.Tenants(bytes);
    const auto before = DivideDevice(tenants);
    const std::uint64_t part = bytes / tenants.size();
    for (std::size_t i = 1; i < tenants.size(); ++i) {
      tenants[i].device_bytes = random.Number(1ULL << 46);
    }
    // Of the device's size they may say what they like.
    ASSERT_EQ(DivideDevice(tenants)[0], before[0]);
    for (std::size_t i = 1; i < tenants.size(); ++i) {
      tenants[i] = random.Tenant(random.Number(1ULL << 46));
    }
    ASSERT_GE(Sum(DivideDevice(tenants)[0]),
              std::min(part, DemandOf(tenants[0])))
        << round;
  }
}

}  // namespace
}  // namespace agentmem::tiering
