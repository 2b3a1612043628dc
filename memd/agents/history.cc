#include "memd/agents/history.h"

#include <algorithm>
#include <optional>
#include <string>

#include "base/status.h"
#include "proto/key_text.h"

namespace agentmem {

absl::StatusOr<Manifest> OpenVersion(const VersionLink& link,
                                     NodeSource* source) {
  const std::string name = "version " + std::to_string(link.number) +
                           " of block " + KeyText(link.key);
  auto bytes = source->Read(link.key, link.bytes);
  if (bytes.status().code() == absl::StatusCode::kNotFound) {
    return DataLoss(name + " is missing");
  }
  if (!bytes.ok()) return bytes.status();
  if (bytes->size() != link.bytes) {
    return DataLoss(name + ": " + std::to_string(bytes->size()) +
                    " bytes, expected " + std::to_string(link.bytes));
  }
  AGENTMEM_ASSIGN_OR_RETURN(Manifest version, Manifest::Open(*bytes, link.key));
  if (version.info().number != link.number) {
    return DataLoss(name + " is " + VersionName(version.info()));
  }
  return version;
}

absl::Status ForEachVersion(const VersionLink& head, std::uint64_t oldest_kept,
                            NodeSource* source, const VersionVisitor& visit) {
  std::optional<std::uint64_t> region_id;
  VersionLink link = head;
  while (link.number != 0 && link.number >= oldest_kept) {
    AGENTMEM_ASSIGN_OR_RETURN(const Manifest version,
                              OpenVersion(link, source));
    const VersionInfo& info = version.info();
    if (!region_id.has_value()) region_id = info.region_id;
    if (info.region_id != *region_id) break;
    AGENTMEM_RETURN_IF_ERROR(visit(version));
    if ((info.flags & kVersionFork) != 0) break;
    // One less: CheckVersionInfo has seen to it.
    link = info.parent;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::uint64_t> OldestToKeep(const VersionLink& head,
                                           std::uint64_t oldest_kept,
                                           const Retention& retention,
                                           std::int64_t wall_now_ns,
                                           NodeSource* source) {
  if (head.number == 0 || retention.kind == RetentionKind::kAll) {
    return oldest_kept;
  }
  if (retention.kind == RetentionKind::kLast) {
    if (head.number <= retention.limit) return oldest_kept;
    return std::max(oldest_kept, head.number - retention.limit + 1);
  }
  std::uint64_t oldest = head.number;
  bool found = false;
  const absl::Status walked =
      ForEachVersion(head, oldest_kept, source, [&](const Manifest& version) {
        oldest = version.info().number;
        // A clock that went backwards makes nothing old.
        const std::int64_t made = version.info().wall_time_ns;
        found = wall_now_ns > made && static_cast<std::uint64_t>(wall_now_ns) -
                                              static_cast<std::uint64_t>(made) >
                                          retention.limit;
        return found ? Aborted("found") : absl::OkStatus();
      });
  if (!walked.ok() && !found) return walked;
  return oldest;
}

}  // namespace agentmem
