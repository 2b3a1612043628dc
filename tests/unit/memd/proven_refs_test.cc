// A node that starts while its cluster's refs are away.
#include "memd/proven_refs.h"

#include <gtest/gtest.h>

#include "base/status.h"
#include "tests/unit/memd/agents/fake_refs.h"

namespace agentmem {
namespace {

// A cluster's, which may be out of reach.
class AwayRefs final : public RefStore {
 public:
  absl::StatusOr<Ref> Get(const std::string& name) override {
    AGENTMEM_RETURN_IF_ERROR(reach);
    return refs_.Get(name);
  }
  absl::StatusOr<Ref> Read(const std::string& name) override {
    AGENTMEM_RETURN_IF_ERROR(reach);
    return refs_.Read(name);
  }
  absl::StatusOr<Fence> AcquireFence(const std::string& name) override {
    AGENTMEM_RETURN_IF_ERROR(reach);
    return refs_.AcquireFence(name);
  }
  absl::StatusOr<std::uint64_t> CompareAndSwap(
      const std::string& name, std::uint64_t version, Fence fence,
      const std::string& value) override {
    AGENTMEM_RETURN_IF_ERROR(reach);
    return refs_.CompareAndSwap(name, version, fence, value);
  }
  absl::Status Commit(std::span<const RefChange> changes,
                      std::span<const RefBlock> blocks) override {
    AGENTMEM_RETURN_IF_ERROR(reach);
    return refs_.Commit(changes, blocks);
  }
  absl::StatusOr<std::vector<std::string>> List(
      const std::string& prefix) override {
    AGENTMEM_RETURN_IF_ERROR(reach);
    return refs_.List(prefix);
  }
  absl::StatusOr<std::vector<NamedRef>> ReadAll(
      std::span<const std::string> prefixes) override {
    AGENTMEM_RETURN_IF_ERROR(reach);
    return refs_.ReadAll(prefixes);
  }

  absl::Status reach;

 private:
  FakeRefs refs_;
};

class ProvenRefsTest : public testing::Test {
 protected:
  void TakeAway() { cluster_.reach = Unavailable("out of reach"); }
  void BringBack() { cluster_.reach = absl::OkStatus(); }
  // As on a start before, with the cluster there.
  TenantIdentity LoadOnce() {
    const auto loaded = ProvenRefs(&cluster_, &local_).LoadTenant("a");
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    return loaded.value_or(TenantIdentity());
  }

  AwayRefs cluster_;
  FakeRefs local_;
  ProvenRefs refs_{&cluster_, &local_};
};

TEST_F(ProvenRefsTest, ATenantThatWasNotedIsTheSameWithoutTheCluster) {
  const TenantIdentity before = LoadOnce();
  TakeAway();
  const auto loaded = refs_.LoadTenant("a");
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->id, before.id);
  EXPECT_EQ(loaded->key, before.key);
  EXPECT_FALSE(refs_.proven());
}

TEST_F(ProvenRefsTest, WithTheClusterThereNothingIsToBeProven) {
  ASSERT_TRUE(refs_.LoadTenant("a").ok());
  EXPECT_TRUE(refs_.proven());
  EXPECT_TRUE(refs_.AcquireFence("r").ok());
}

TEST_F(ProvenRefsTest, ATenantThatWasNeverNotedNeedsTheCluster) {
  LoadOnce();
  TakeAway();
  EXPECT_EQ(refs_.LoadTenant("b").status().code(),
            absl::StatusCode::kUnavailable);
}

TEST_F(ProvenRefsTest, UnprovenItChangesAndReadsNothingThoughTheClusterIsBack) {
  LoadOnce();
  TakeAway();
  ASSERT_TRUE(refs_.LoadTenant("a").ok());
  EXPECT_EQ(refs_.Prove().code(), absl::StatusCode::kUnavailable);
  BringBack();
  constexpr auto kUnavailable = absl::StatusCode::kUnavailable;
  const std::string prefix = "r";
  EXPECT_EQ(refs_.Get("r").status().code(), kUnavailable);
  EXPECT_EQ(refs_.Read("r").status().code(), kUnavailable);
  EXPECT_EQ(refs_.AcquireFence("r").status().code(), kUnavailable);
  EXPECT_EQ(refs_.CompareAndSwap("r", 0, Fence(1), "v").status().code(),
            kUnavailable);
  EXPECT_EQ(refs_.Commit({}, {}).code(), kUnavailable);
  EXPECT_EQ(refs_.List(prefix).status().code(), kUnavailable);
  EXPECT_EQ(refs_.ReadAll({&prefix, 1}).status().code(), kUnavailable);
  ASSERT_TRUE(refs_.Prove().ok());
  EXPECT_TRUE(refs_.proven());
  const auto fence = refs_.AcquireFence("r");
  ASSERT_TRUE(fence.ok());
  EXPECT_EQ(fence->value(), 1u) << "it was taken before";
}

TEST_F(ProvenRefsTest, AClusterThatMeansAnotherTenantIsNeverSpokenTo) {
  LoadOnce();
  AwayRefs other;
  ProvenRefs refs(&other, &local_);
  other.reach = Unavailable("out of reach");
  ASSERT_TRUE(refs.LoadTenant("a").ok());
  other.reach = absl::OkStatus();
  EXPECT_EQ(refs.Prove().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_FALSE(refs.proven());
  EXPECT_EQ(refs.Read("r").status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace agentmem
