#include "client/messages.h"

#include <cstdio>
#include <cstring>

namespace agentmem::client {
namespace {

std::string Pid(std::uint64_t pid) {
  return pid == 0 ? std::string("several processes")
                  : "process " + std::to_string(pid);
}

std::string Quota(const char* what, const CompletionEntry& completion,
                  const char* used, const char* remedy) {
  return std::string(what) + " of " + HumanBytes(completion.detail[0]) +
         " is used up: " + HumanBytes(completion.detail[1]) + " " + used +
         " by " + Pid(completion.detail[2]) + "; " + remedy;
}

// NUL-padded; what is no name's byte is not shown.
std::string Name(const std::uint64_t (&detail)[3]) {
  char bytes[sizeof(detail)];
  std::memcpy(bytes, detail, sizeof(detail));
  std::string name;
  for (const char byte : bytes) {
    if (byte == 0) break;
    name += byte > ' ' && byte < 0x7f ? byte : '?';
  }
  return name;
}

}  // namespace

std::string HumanBytes(std::uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  double value = static_cast<double>(bytes);
  while (value >= 1024 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  char text[48];
  const bool whole = value == static_cast<double>(static_cast<int>(value));
  std::snprintf(text, sizeof(text), whole ? "%.0f %s" : "%.1f %s", value,
                kUnits[unit]);
  return text;
}

std::string Explain(const CompletionEntry& completion) {
  const auto& detail = completion.detail;
  switch (completion.reason) {
    case Reason::kNone:
      return "memd gave no reason (code " +
             std::to_string(static_cast<int>(completion.code)) + ")";
    case Reason::kNoSuchBlock:
      return "no tier has the block";
    case Reason::kPoolFull:
      return "the tenant's DRAM pool of " + HumanBytes(detail[0]) +
             " is full and nothing in it can be evicted: " +
             HumanBytes(detail[1]) + " are pinned or held, most by " +
             Pid(detail[2]) + "; release blocks, or enlarge the pool";
    case Reason::kHoldQuota:
      return Quota("the hold quota", completion, "are held",
                   "release blocks, or raise the quota");
    case Reason::kGrantQuota:
      return Quota("the grant quota", completion, "are granted",
                   "publish or abandon reservations, or raise the quota");
    case Reason::kIndexFull:
      return "all " + std::to_string(detail[0]) +
             " slots of the tenant's index are in use; raise the number of "
             "slots in memd's configuration";
    case Reason::kBadLength:
      return "length " + std::to_string(detail[0]) + "; 1 to " +
             std::to_string(detail[1]) + " bytes are allowed";
    case Reason::kBadGrant:
      return "memd does not know grant " + std::to_string(detail[0]) +
             " under sequence " + std::to_string(detail[1]);
    case Reason::kBadField:
      return "memd refuses the value " + std::to_string(detail[1]) +
             " at offset " + std::to_string(detail[0]) + " of a submission";
    case Reason::kStoreFailed:
      return completion.code == Code::kResourceExhausted
                 ? "memd's store has no space left; free some, and it goes on "
                   "by "
                   "itself (memd's log names the directory)"
                 : "memd's store failed; memd's log says where and why";
    case Reason::kRemoteStore:
      return "the store of node " + Name(detail) +
             (completion.code == Code::kResourceExhausted
                  ? ", where this node's blocks are kept, has no room: its "
                    "disk, its budget or this tenant's quota there is full; "
                    "`memctl fabric` says which"
              : completion.code == Code::kUnavailable
                  ? ", where this node's blocks are kept, does not answer; it "
                    "goes on by itself when that node is back (`memctl "
                    "fabric`)"
                  : ", where this node's blocks are kept, refused the block; "
                    "`memctl fabric` says why");
    case Reason::kCorrupt:
      return "the only copy of the block is missing or failed its checksum: "
             "the log of memd says which";
    case Reason::kNoReplica:
      if (completion.detail[0] ==
          static_cast<std::uint64_t>(Code::kResourceExhausted)) {
        return "no other node took a copy: the memory that they export is "
               "full; raise [pool] export there, or try again when versions "
               "that nobody needs are collected (`memctl fabric` shows the "
               "peers)";
      }
      return "no other node took a copy (there is none, it is full, or it does "
             "not answer); `memctl fabric` shows the peers";
    case Reason::kPoolFailed:
      return "no node that may have the block answers; `memctl fabric` shows "
             "the peers";
    case Reason::kDeadline:
      return "memd could not do it before the deadline";
    case Reason::kShutdown:
      return "memd is shutting down";
    case Reason::kStaleSlot:
      return "the block has left DRAM meanwhile; get it again";
    case Reason::kExtentLent:
      return "the " + HumanBytes(detail[1]) + " at offset " +
             std::to_string(detail[0]) +
             " of the tenant's memory are lent to regions, or about to be";
    case Reason::kStoreQuota:
      return "the store quota of " + HumanBytes(detail[0]) +
             " is used up: " + HumanBytes(detail[1]) +
             " are stored; raise store_quota in memd's configuration. Blocks "
             "are not deleted one by one: what agents keep goes with them "
             "(`memctl agent delete`)";
  }
  return "memd answered with reason " +
         std::to_string(static_cast<int>(completion.reason)) +
         ", which this version of libagentmem does not know";
}

std::string VersionMismatch(const std::string& what, std::uint32_t theirs,
                            std::uint32_t ours) {
  return what + ": memd speaks version " + std::to_string(theirs) +
         ", this libagentmem speaks version " + std::to_string(ours) +
         "; update the older of the two";
}

}  // namespace agentmem::client
