#include "benchmarks/hbm_groups.h"

#include "base/status.h"

namespace agentmem::bench {
namespace {

// What a device says that lacks something.
bool IsLack(absl::StatusCode code) {
  return code == absl::StatusCode::kResourceExhausted ||
         code == absl::StatusCode::kFailedPrecondition ||
         code == absl::StatusCode::kUnimplemented;
}

bool IsWanted(const SuiteOptions& options, const HbmGroup& group) {
  return group.name.find(options.only) != std::string::npos;
}

}  // namespace

std::size_t CasesOf(const SuiteOptions& options,
                    const std::vector<HbmGroup>& groups) {
  std::size_t cases = 0;
  for (const HbmGroup& group : groups) {
    if (IsWanted(options, group)) cases += group.cases;
  }
  return cases;
}

bool RunHbmGroups(const SuiteOptions& options,
                  const std::vector<HbmGroup>& groups,
                  const std::function<bool()>& is_lost, SuiteResult* result) {
  std::vector<const HbmGroup*> wanted;
  for (const HbmGroup& group : groups) {
    if (!IsWanted(options, group)) continue;
    wanted.push_back(&group);
    result->bars.insert(result->bars.end(), group.bars.begin(),
                        group.bars.end());
  }
  for (const HbmGroup* group : wanted) {
    const absl::Status added = group->add();
    if (!added.ok()) {
      const std::string why = group->name + ": " + StatusMessage(added);
      result->device_lost = is_lost();
      if (group->may_fail && IsLack(added.code()) && !result->device_lost) {
        result->notes.push_back("NOT MEASURED: " + why);
      } else {
        if (result->failure.empty()) result->failure = why;
        result->notes.push_back("FAILED: " + why);
      }
    }
    if (options.so_far) options.so_far(*result);
    if (result->device_lost) return false;
  }
  return true;
}

}  // namespace agentmem::bench
