// What the cases of the suite `hbm` share: one device, its crossovers, and runs
// of copies of which every byte is checked.
//
// A run: fresh random bytes, a poisoned output, the copy (timed from before its
// first post until its last event has passed), the check. A case's rounds take
// our way, the plain ways and the pinned copies in turn.
//
// Ownership: borrows the device and the result. Threads: thread-compatible.
// Errors: the device's; DATA_LOSS: a wrong byte. Cost: about a second a run and
// GiB, most of it for the bytes.
#ifndef AGENTMEM_BENCHMARKS_HBM_BENCH_H_
#define AGENTMEM_BENCHMARKS_HBM_BENCH_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "benchmarks/bars.h"
#include "benchmarks/busy_work.h"
#include "benchmarks/case_result.h"
#include "benchmarks/hbm_memory.h"
#include "benchmarks/hbm_post.h"
#include "benchmarks/samples.h"
#include "cuda/copy_plan.h"
#include "cuda/device.h"

namespace agentmem::bench {

// The longest runs of bytes that lie together on both sides.
struct FragmentCase {
  const char* name;
  std::uint32_t bytes;
  double bar;  // of the pinned rate; 0: none
};

struct HbmScale {
  std::uint64_t bytes = 0;        // of a copy: a power of two
  std::uint64_t layer_bytes = 0;  // of 32 layers together
  int rounds = 0;
  int submits = 0;
  TimeNs begin = 0;          // of the time there is for all cases
  DurationNs budget_ns = 0;  // 0: no limit

  // Until when case `number` (from 1 on) of `cases` may have more rounds than
  // the two it must have: its share of three fifths of the time. A fifth may be
  // used up at once, for cases differ; the last is for those that are late.
  TimeNs RoundsUntil(std::size_t number, std::size_t cases) const;
};

class HbmBench {
 public:
  // `logic_only`: the device is no GPU, and ratios say nothing.
  HbmBench(Device* device, bool logic_only, const HbmScale& scale,
           std::uint64_t seed, SuiteResult* result)
      : device_(device),
        logic_only_(logic_only),
        scale_(scale),
        seed_(seed),
        memory_(device),
        result_(result) {}

  // So many cases are to come; `so_far` is called after each, where a group has
  // several. Without this cases have all their rounds.
  void Expect(std::size_t cases, std::function<void()> so_far) {
    cases_ = cases;
    so_far_ = std::move(so_far);
  }
  // Once; needed by those below but AddSubmitOverhead.
  absl::Status SetUp();
  absl::Status AddCopies();
  static std::vector<Bar> CopyBars();
  static std::size_t CopyCases() { return 2 * FragmentCases().size(); }
  // By libagentmem, on a device that it opens.
  absl::Status AddKv();
  static std::vector<Bar> KvBars();
  static std::size_t KvCases() { return KvBars().size() / 2; }
  absl::Status AddBidirectional();
  static std::vector<Bar> BidirectionalBars();
  absl::Status AddFp8();
  static std::vector<Bar> Fp8Bars();
  absl::Status AddLayerwiseLoad();
  static std::vector<Bar> LayerBars();
  absl::Status AddLayerwiseCompute();
  static std::vector<Bar> LayerComputeBars();
  // What copies take from a kernel beside them.
  absl::Status AddShares();
  static std::vector<Bar> ShareBars();
  // Of another device than the others of the suite, too.
  absl::Status AddSubmitOverhead(Device* device, const std::string& name);
  static std::vector<Bar> SubmitBars();  // of the host device

 private:
  // Posts the copies; all ways to copy a run's bytes are such.
  using Way = std::function<absl::Status(HbmPost* post)>;

  static std::span<const FragmentCase> FragmentCases();
  // Is there a round of this number, from 0 on? The first begins a case.
  bool Another(int round);
  void TellSoFar() const {
    if (so_far_) so_far_();
  }
  absl::Status AddCopy(Direction direction, const FragmentCase& one);
  absl::Status AddKvCase(const FragmentCase& one);
  // Nanoseconds. `fragment_bytes` 0: in order.
  absl::StatusOr<double> Offload(std::uint32_t fragment_bytes, const Way& way);
  absl::StatusOr<double> Onload(std::uint32_t fragment_bytes, const Way& way);
  absl::StatusOr<double> Timed(const Way& way) const;
  // Untimed, in order, whole.
  absl::Status Move(const HbmMemory& memory, Direction direction,
                    std::span<char> host) const;
  // What is to leave lies on the device, poison in the output.
  absl::Status PrepareOffload(const HbmMemory& memory,
                              std::uint64_t seed) const;
  static absl::Status CheckOffload(const HbmMemory& memory, std::uint64_t seed,
                                   std::uint32_t fragment_bytes);
  // What is to come lies in the source, poison on the device.
  absl::Status PrepareOnload(const HbmMemory& memory, std::uint64_t seed,
                             std::uint32_t fragment_bytes) const;
  absl::Status CheckOnload(const HbmMemory& memory, std::uint64_t seed) const;
  absl::Status Fp8RoundTrip(Samples* out, Samples* in);
  absl::StatusOr<double> BothWays(bool at_once, std::uint32_t fragment_bytes);
  // Until the work is done; `beside` is called again and again until then.
  absl::StatusOr<double> Compute(BusyWork* work, std::uint64_t steps,
                                 Stream stream, const Way& beside);
  absl::StatusOr<std::uint64_t> StepsOf(BusyWork* work, Stream stream,
                                        double ns);
  struct Share;  // a case of copies beside a kernel
  static const std::vector<Share>& Shares();
  absl::Status AddShare(const Share& share);
  CaseResult* AddTimes(const std::string& name, Samples* ours,
                       const std::string& baseline, Samples* baseline_ns);
  CaseResult* AddRow(const std::string& name, Samples* ours,
                     const std::string& baseline, Samples* baseline_ns,
                     std::uint64_t bytes);
  // Of a GPU; of another device it says nothing.
  void MeasureBar(const std::string& name, double ratio);

  Device* const device_;
  const bool logic_only_;
  const HbmScale scale_;
  std::uint64_t seed_;  // the next run's
  HbmMemory memory_;
  Crossovers crossovers_;
  SuiteResult* const result_;
  bool is_set_up_ = false;
  std::size_t cases_ = 0;
  std::size_t cases_begun_ = 0;
  std::function<void()> so_far_;
  bool was_late_ = false;
};

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_HBM_BENCH_H_
