// A version block, a node or an agent's record that the store gave. What is
// read must be valid in itself, and say the same when it is written and read
// again. The first byte chooses which; headers are made right where the fuzzer
// would only guess at them.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "base/check.h"
#include "memd/agents/agent_record.h"
#include "memd/agents/manifest.h"
#include "memd/agents/manifest_diff.h"
#include "memd/agents/node.h"
#include "proto/varint.h"

namespace agentmem {
namespace {

const Key kKey = MakeRegionKey(1, 2, 3);

// Every node is the same bytes, whichever is asked for.
class OneBlock : public NodeSource {
 public:
  explicit OneBlock(std::string_view bytes) : bytes_(bytes) {}
  absl::StatusOr<std::string> Read(const Key&, std::uint32_t bytes) override {
    return std::string(bytes_.substr(0, bytes));
  }

 private:
  const std::string_view bytes_;
};

void CheckVersion(std::string_view bytes, std::string_view node) {
  const auto opened = Manifest::Open(bytes, kKey);
  if (!opened.ok()) return;
  AGENTMEM_CHECK(CheckVersionInfo(opened->info()).ok());
  OneBlock source(node);
  NodeLoader loader(&source);
  const absl::Status walked = opened->ForEachPage(
      0, UINT64_MAX, &loader,
      [&](std::uint64_t page, std::span<const Piece> pieces) {
        AGENTMEM_CHECK(page < opened->page_count());
        AGENTMEM_CHECK(CheckPieces(pieces).empty());
        return absl::OkStatus();
      });
  const absl::Status compared =
      Diff({}, {&*opened, &loader},
           [](const ByteRange&) { return absl::OkStatus(); });
  for (const absl::Status& status : {walked, compared}) {
    AGENTMEM_CHECK(status.ok() || status.code() == absl::StatusCode::kDataLoss);
  }
}

// The same with a header that is right in all that does not matter, so that the
// fuzzer soon gets to the overlay.
void CheckRepairedVersion(std::string_view bytes, std::string_view node) {
  VersionHeader header = {};
  if (bytes.size() < sizeof(header)) return;
  std::memcpy(&header, bytes.data(), sizeof(header));
  header.magic = kVersionMagic;
  header.format = kVersionFormat;
  header.header_bytes = sizeof(header);
  header.number |= 1;
  header.region_bytes = header.region_bytes % kRegionBytesMax + 1;
  header.flags &= kVersionFlags;
  header.ack = 3;
  header.parent_number = 0;
  header.parent_bytes = 0;
  header.parent_key = Key();
  header.message_bytes = 0;
  header.labels_bytes = 0;
  header.label_count = 0;
  header.root_level %= kNodeLevelMax + 1;
  header.root_bytes = static_cast<std::uint32_t>(node.size());
  header.lineages %= 4;
  const std::size_t rest = bytes.size() - sizeof(header);
  header.payload_bytes =
      static_cast<std::uint32_t>(header.payload_bytes % (rest + 1));
  header.overlay_bytes =
      static_cast<std::uint32_t>(rest - header.payload_bytes);
  std::string repaired;
  AppendFixed(header, &repaired);
  repaired += bytes.substr(sizeof(header));
  CheckVersion(repaired, node);
}

void CheckNode(std::string_view raw, std::uint32_t level) {
  NodeHeader header = {};
  if (raw.size() < sizeof(header)) return;
  std::memcpy(&header, raw.data(), sizeof(header));
  header.magic = kNodeMagic;
  header.format = kNodeFormat;
  header.level = static_cast<std::uint8_t>(level);
  header.first_page = 0;
  header.entries = header.entries % kNodeFanOut + 1;
  header.lineages %= 8;
  std::string bytes;
  AppendFixed(header, &bytes);
  bytes += raw.substr(sizeof(header));
  const auto node = DecodeNode(kKey, bytes, level, 0);
  if (!node.ok()) return;
  const std::string again = EncodeNode(*node);
  const auto read = DecodeNode(kKey, again, level, 0);
  AGENTMEM_CHECK(read.ok() && EncodeNode(*read) == again);
  for (const TreeNode::LeafPage& page : node->pages()) {
    AGENTMEM_CHECK(CheckPieces(node->PiecesOf(page)).empty());
  }
}

void CheckAgent(std::string_view raw) {
  AgentHeader header = {};
  if (raw.size() < sizeof(header)) return;
  std::memcpy(&header, raw.data(), sizeof(header));
  header.magic = kAgentMagic;
  header.format = kAgentFormat;
  header.phase = static_cast<std::uint8_t>(header.phase % 5 + 1);
  std::string bytes;
  AppendFixed(header, &bytes);
  bytes += raw.substr(sizeof(header));
  const auto record = DecodeAgentRecord("agents/fuzz", bytes);
  if (!record.ok()) return;
  const auto again = EncodeAgentRecord(*record);
  AGENTMEM_CHECK(again.ok());
  AGENTMEM_CHECK(*DecodeAgentRecord("agents/fuzz", *again) == *record);
}

}  // namespace
}  // namespace agentmem

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t bytes) {
  if (bytes == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1,
                              bytes - 1);
  switch (data[0] % 5) {
    case 0:
      agentmem::CheckVersion(rest, "");
      break;
    case 1: {
      const std::size_t split = rest.size() < 300 ? rest.size() : 300;
      agentmem::CheckRepairedVersion(rest.substr(0, split), rest.substr(split));
      break;
    }
    case 2:
      agentmem::CheckNode(rest, 0);
      break;
    case 3:
      agentmem::CheckNode(rest, 1);
      break;
    default:
      agentmem::CheckAgent(rest);
  }
  return 0;
}
