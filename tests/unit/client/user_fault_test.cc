#include "client/user_fault.h"

#include <cerrno>

#include "gtest/gtest.h"

namespace agentmem::client {
namespace {

TEST(UserFault, WhereThereIsNoneTheMessageSaysWhatToSet) {
  const std::string text = ExplainNoUserFault(ENOENT, EPERM, EPERM);
  EXPECT_NE(text.find("vm.unprivileged_userfaultfd=1"), std::string::npos);
  EXPECT_NE(text.find("/dev/userfaultfd"), std::string::npos);
  EXPECT_NE(text.find("seccomp"), std::string::npos);
  // It has to fit into agentmem_region_state.
  EXPECT_LT(ExplainNoUserFault(ENOENT, EPERM, EPERM).size(), 384u);
}

TEST(UserFault, AKernelWithoutItIsNotToldToSetAnything) {
  const std::string text = ExplainNoUserFault(ENOENT, ENOSYS, ENOSYS);
  EXPECT_NE(text.find("CONFIG_USERFAULTFD"), std::string::npos);
  EXPECT_EQ(text.find("sysctl"), std::string::npos);
}

TEST(UserFault, WritesAreReportedAndNotNoted) {
  UserFault faults;
  if (!UserFault::Open(&faults).ok()) {
    GTEST_SKIP() << "this process gets no userfaultfd";
  }
  EXPECT_EQ(faults.features() & UFFD_FEATURE_WP_ASYNC, 0u);
  EXPECT_NE(faults.features() & UFFD_FEATURE_MISSING_SHMEM, 0u);
}

}  // namespace
}  // namespace agentmem::client
