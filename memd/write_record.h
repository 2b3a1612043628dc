// How writes to a place end, of late: does it take them now?
//
//   well --one fails--> failing --one succeeds, and none fails for kCalmNs-->
//                                                                        well
//
// A place that is almost full takes some and refuses others; that is failing.
//
// Ownership: a value. Threads: thread-compatible. Errors: none. Cost: two
// stores for each write.
#ifndef AGENTMEM_MEMD_WRITE_RECORD_H_
#define AGENTMEM_MEMD_WRITE_RECORD_H_

#include "base/clock.h"
#include "proto/types.h"

namespace agentmem {

class WriteRecord {
 public:
  static constexpr DurationNs kCalmNs = 5 * kSecondNs;

  void Succeeded(TimeNs now) { succeeded_at_ = now; }

  void Failed(Code code, TimeNs now) {
    if (!IsFailing(now)) since_ = now;
    failing_ = true;
    code_ = code;
    failed_at_ = now;
  }

  bool IsFailing(TimeNs now) {
    if (failing_ && succeeded_at_ > failed_at_ && now - failed_at_ >= kCalmNs) {
      failing_ = false;
    }
    return failing_;
  }

  // While it fails: the last failure's.
  Code code() const { return code_; }
  TimeNs failed_at() const { return failed_at_; }
  TimeNs since() const { return since_; }

 private:
  bool failing_ = false;
  Code code_ = Code::kOk;
  TimeNs since_ = 0;
  TimeNs failed_at_ = 0;
  TimeNs succeeded_at_ = 0;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_WRITE_RECORD_H_
