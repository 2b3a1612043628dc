// What a keeper tells memd of hits, by a clock that is moved by hand.
#include "client/hbm_keeper.h"
#include "gmock/gmock.h"
#include "tests/unit/client/hbm_test_base.h"

namespace agentmem {
namespace {

using client::HbmHits;

class HbmHitsTest : public HbmTest {};

TEST_F(HbmHitsTest, HitsAreToldOnceASecondWhileThereAreMoreAndAtTheEnd) {
  constexpr HbmHits kNone;
  Store(1, 4, "ada");
  clock_.Advance(kSecondNs);
  keeper_->Step();
  EXPECT_EQ(link_.hits, kNone);
  const int reports = link_.reports;
  Load(1, 4, "ada");
  Load(1, 2, "ada");
  keeper_->Step();
  EXPECT_EQ(link_.reports, reports) << "nobody waits for them";
  clock_.Advance(kSecondNs);
  keeper_->Step();
  EXPECT_EQ(link_.reports, reports + 1);
  EXPECT_EQ(link_.hits, (HbmHits{6, 6 * 3072}));
  clock_.Advance(kSecondNs);
  keeper_->Step();
  EXPECT_EQ(link_.reports, reports + 1) << "there are no more";
  Load(1, 1, "ada");
  EXPECT_TRUE(keeper_->Finish());
  EXPECT_EQ(link_.hits, (HbmHits{7, 7 * 3072}));
}

TEST_F(HbmHitsTest, HitsThatWereNotTakenAreToldAgain) {
  Store(1, 4, "ada");
  keeper_->Step();
  Load(1, 4, "ada");
  link_.report_refusal = Fail(Code::kDeadlineExceeded, "late");
  clock_.Advance(kSecondNs);
  keeper_->Step();
  EXPECT_EQ(link_.hits.blocks, 0u);
  link_.report_refusal = {};
  clock_.Advance(110 * kMillisecondNs);
  keeper_->Step();
  EXPECT_EQ(link_.hits.blocks, 4u);
}

TEST_F(HbmHitsTest, ANewMemdIsToldOfHitsSinceItWasOpenedAlone) {
  Store(1, 4, "ada");
  Load(1, 4, "ada");
  clock_.Advance(kSecondNs);
  keeper_->Step();
  ASSERT_EQ(link_.hits.blocks, 4u);
  link_.lost = true;
  Load(1, 2, "ada");  // which nobody counts
  clock_.Advance(kSecondNs);
  keeper_->Step();
  ASSERT_FALSE(link_.lost);
  keeper_->Step();
  EXPECT_EQ(link_.hits.blocks, 0u);
  Load(1, 3, "ada");
  clock_.Advance(kSecondNs);
  keeper_->Step();
  EXPECT_EQ(link_.hits, (HbmHits{3, 3 * 3072}));
}

}  // namespace
}  // namespace agentmem
