// Of every test of this program: whatever it did, the emulated GPU found
// nothing to say of how it was used.
#include <gtest/gtest.h>

#include <string>

#include "tests/emulation/emulated_gpu.h"

namespace agentmem::emulation {
namespace {

class NoFindings : public ::testing::EmptyTestEventListener {
  void OnTestEnd(const ::testing::TestInfo& /*test*/) override {
    for (const std::string& finding : EmulatedGpu::Get().TakeFindings()) {
      ADD_FAILURE() << "the emulated GPU found: " << finding;
    }
  }
};

// gtest's main() is not ours: it is told before that begins.
[[maybe_unused]] const bool kIsTold = [] {
  ::testing::UnitTest::GetInstance()->listeners().Append(new NoFindings);
  return true;
}();

}  // namespace
}  // namespace agentmem::emulation
