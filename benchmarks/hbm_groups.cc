#include "benchmarks/hbm_groups.h"

#include "base/status.h"

namespace agentmem::bench {
namespace {

bool IsLoss(absl::StatusCode code) {
  return code == absl::StatusCode::kUnavailable ||
         code == absl::StatusCode::kDeadlineExceeded;
}

}  // namespace

bool RunHbmGroups(const SuiteOptions& options,
                  const std::vector<HbmGroup>& groups, SuiteResult* result) {
  std::vector<const HbmGroup*> wanted;
  for (const HbmGroup& group : groups) {
    if (group.name.find(options.only) == std::string::npos) continue;
    wanted.push_back(&group);
    result->bars.insert(result->bars.end(), group.bars.begin(),
                        group.bars.end());
  }
  for (const HbmGroup* group : wanted) {
    const absl::Status added = group->add();
    if (!added.ok()) {
      const std::string why = group->name + ": " + StatusMessage(added);
      if (group->may_fail && !IsLoss(added.code()) &&
          added.code() != absl::StatusCode::kDataLoss) {
        result->notes.push_back("NOT MEASURED: " + why);
      } else {
        if (result->failure.empty()) result->failure = why;
        result->notes.push_back("FAILED: " + why);
      }
    }
    if (options.so_far) options.so_far(*result);
    if (IsLoss(added.code())) return false;
  }
  return true;
}

}  // namespace agentmem::bench
