#include "memd/agents/version_block.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/status.h"
#include "memd/agents/piece_codec.h"
#include "proto/key_text.h"

namespace agentmem {
namespace {

std::string ReadAndExpected(std::uint64_t read, std::uint64_t expected) {
  return std::to_string(read) + ", expected " + std::to_string(expected);
}

// `name` is BlockName's.
absl::Status BadVersion(const std::string& name, const std::string& what) {
  return DataLoss(name + ": " + what);
}

std::string BlockName(const Key& key) {
  return "version block " + KeyText(key);
}
std::string BlockName(const Key& key, const VersionHeader& header) {
  return BlockName(key) + ", version " + std::to_string(header.number) +
         " of region " + std::to_string(header.region_id);
}

// The lengths of the parts, and that they are all that there is.
absl::Status CheckParts(const std::string& name, const VersionHeader& header,
                        std::uint64_t block_bytes) {
  const std::uint64_t lineage_bytes =
      std::uint64_t{header.lineages} * sizeof(std::uint64_t);
  const std::uint64_t expected = sizeof(header) +
                                 std::uint64_t{header.message_bytes} +
                                 header.labels_bytes + header.payload_bytes +
                                 std::uint64_t{header.overlay_bytes};
  if (block_bytes != expected || lineage_bytes > header.overlay_bytes) {
    return BadVersion(name, "bytes " + ReadAndExpected(block_bytes, expected));
  }
  if (header.overlay_bytes > kOverlayBytesMax ||
      header.overlay_entries > header.overlay_bytes) {
    return BadVersion(
        name, "an overlay of " + std::to_string(header.overlay_bytes) +
                  " bytes, at most " + std::to_string(kOverlayBytesMax));
  }
  return absl::OkStatus();
}

absl::StatusOr<TreeRef> ReadRoot(const std::string& name,
                                 const VersionHeader& header) {
  TreeRef root;
  root.level = header.root_level;
  root.node = {header.root_key, header.root_bytes, header.tree_pages};
  const bool valid =
      root.node.exists()
          ? root.level <= kNodeLevelMax && root.node.bytes <= kNodeBytesMax &&
                root.node.pages != 0 && root.node.pages <= NodeSpan(root.level)
          : root.level == 0 && root.node.pages == 0 && root.node.key == Key();
  if (!valid) {
    return BadVersion(name, "a root of level " + std::to_string(root.level) +
                                ", " + std::to_string(root.node.bytes) +
                                " bytes and " +
                                std::to_string(root.node.pages) + " pages");
  }
  return root;
}

absl::StatusOr<OverlayPage> ReadOverlayPage(const std::string& name,
                                            std::uint64_t page_min,
                                            std::uint64_t page_count,
                                            PieceReader* in) {
  OverlayPage entry;
  entry.page = page_min + in->ReadVarint(kRegionPagesMax);
  const std::uint64_t head = in->ReadVarint(2 * kPiecesMax + 1);
  if (!in->ok() || entry.page >= page_count) {
    return BadVersion(name,
                      "an entry of its overlay is missing or lies beyond "
                      "the region's " +
                          std::to_string(page_count) + " pages");
  }
  entry.in_tree = (head & 1) != 0;
  const std::string where = "page " + std::to_string(entry.page) + ": ";
  for (std::uint64_t i = 0; i < head >> 1; ++i) {
    entry.content.pieces.push_back(in->ReadPiece());
  }
  if (!in->ok()) {
    return BadVersion(name, where + "a piece that cannot be read");
  }
  if (const std::string what = CheckPieces(entry.content.pieces);
      !what.empty()) {
    return BadVersion(name, where + what);
  }
  return entry;
}

absl::StatusOr<Overlay> ReadOverlay(const std::string& name,
                                    const VersionHeader& header,
                                    std::string_view bytes,
                                    const SelfBlock& self) {
  Overlay overlay;
  PieceReader in(bytes, header.lineages, self);
  std::uint64_t page_min = 0;
  for (std::uint32_t i = 0; i < header.overlay_entries; ++i) {
    AGENTMEM_ASSIGN_OR_RETURN(
        OverlayPage entry,
        ReadOverlayPage(name, page_min, PagesOf(header.region_bytes), &in));
    page_min = entry.page + 1;
    overlay.push_back(std::move(entry));
  }
  if (!in.AtEnd()) {
    return BadVersion(
        name, std::to_string(in.remaining()) + " bytes behind its overlay");
  }
  return overlay;
}

absl::Status CheckMappedPages(const std::string& name,
                              const VersionBlock& block) {
  std::int64_t mapped = block.root.node.pages;
  for (const OverlayPage& entry : block.overlay) {
    mapped += (entry.content.pieces.empty() ? 0 : 1) - (entry.in_tree ? 1 : 0);
  }
  if (mapped == block.info.mapped_pages) return absl::OkStatus();
  return BadVersion(name, "mapped pages " + std::to_string(mapped) +
                              ", expected " +
                              std::to_string(block.info.mapped_pages));
}

VersionInfo InfoOf(const VersionHeader& header) {
  VersionInfo info;
  info.region_id = header.region_id;
  info.number = header.number;
  info.parent = {header.parent_number, header.parent_key, header.parent_bytes};
  info.flags = header.flags;
  info.related_number = header.related_number;
  info.wall_time_ns = header.wall_time_ns;
  info.ack = static_cast<Ack>(header.ack);
  std::copy_n(header.trace_id, kTraceIdBytes, info.trace_id.begin());
  info.region_bytes = header.region_bytes;
  info.changed_bytes = header.changed_bytes;
  info.changed_pages = header.changed_pages;
  info.mapped_pages = header.mapped_pages;
  return info;
}

VersionHeader HeaderOf(const VersionBlock& block) {
  const VersionInfo& info = block.info;
  VersionHeader header = {};
  header.magic = kVersionMagic;
  header.format = kVersionFormat;
  header.header_bytes = sizeof(header);
  header.region_id = info.region_id;
  header.number = info.number;
  header.parent_key = info.parent.key;
  header.parent_number = info.parent.number;
  header.parent_bytes = info.parent.bytes;
  header.flags = info.flags;
  header.related_number = info.related_number;
  header.wall_time_ns = info.wall_time_ns;
  std::copy(info.trace_id.begin(), info.trace_id.end(), header.trace_id);
  header.region_bytes = info.region_bytes;
  header.changed_bytes = info.changed_bytes;
  header.changed_pages = info.changed_pages;
  header.mapped_pages = info.mapped_pages;
  header.root_key = block.root.node.key;
  header.root_bytes = block.root.node.bytes;
  header.tree_pages = block.root.node.pages;
  header.root_level = static_cast<std::uint8_t>(block.root.level);
  header.ack = static_cast<std::uint8_t>(info.ack);
  header.message_bytes = static_cast<std::uint16_t>(info.message.size());
  header.overlay_entries = static_cast<std::uint32_t>(block.overlay.size());
  header.overlay_spent = block.overlay_spent;
  return header;
}

absl::StatusOr<VersionHeader> ReadHeader(const Key& key,
                                         std::string_view bytes) {
  VersionHeader header;
  if (bytes.size() < sizeof(header) || bytes.size() > kMaxBlockBytes) {
    return BadVersion(BlockName(key),
                      std::to_string(bytes.size()) + " bytes, allowed are " +
                          std::to_string(sizeof(header)) + " to " +
                          std::to_string(kMaxBlockBytes));
  }
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.magic != kVersionMagic) {
    return BadVersion(BlockName(key), "does not begin with a version's magic");
  }
  if (header.format != kVersionFormat ||
      header.header_bytes != sizeof(header)) {
    return BadVersion(BlockName(key),
                      "format " +
                          ReadAndExpected(header.format, kVersionFormat) +
                          ", header of " +
                          ReadAndExpected(header.header_bytes, sizeof(header)));
  }
  AGENTMEM_RETURN_IF_ERROR(
      CheckParts(BlockName(key, header), header, bytes.size()));
  return header;
}

}  // namespace

std::string VersionName(const VersionInfo& info) {
  return "version " + std::to_string(info.number) + " of region " +
         std::to_string(info.region_id);
}

absl::Status CheckLabels(const Labels& labels) {
  std::string encoded;
  AppendLabels(labels, &encoded);
  if (labels.size() > kLabelsMax || encoded.size() > kLabelsBytesMax) {
    return InvalidArgument(std::to_string(labels.size()) + " labels of " +
                           std::to_string(encoded.size()) +
                           " bytes; allowed are " + std::to_string(kLabelsMax) +
                           " of " + std::to_string(kLabelsBytesMax));
  }
  for (std::size_t i = 0; i < labels.size(); ++i) {
    if (labels[i].first.empty()) {
      return InvalidArgument("label " + std::to_string(i) + " has no name");
    }
    for (std::size_t j = 0; j < i; ++j) {
      if (labels[j].first == labels[i].first) {
        return InvalidArgument("two labels are named \"" + labels[i].first +
                               "\"");
      }
    }
  }
  return absl::OkStatus();
}

absl::Status CheckVersionInfo(const VersionInfo& info) {
  const std::string name = VersionName(info) + ": ";
  if (info.number == 0) return InvalidArgument(name + "numbers start at 1");
  if (info.region_bytes == 0 || info.region_bytes > kRegionBytesMax) {
    return InvalidArgument(name + std::to_string(info.region_bytes) +
                           " bytes; allowed are 1 to " +
                           std::to_string(kRegionBytesMax));
  }
  if (info.message.size() > kMessageBytesMax) {
    return InvalidArgument(
        name + "a message of " + std::to_string(info.message.size()) +
        " bytes, at most " + std::to_string(kMessageBytesMax));
  }
  if (!IsValid(info.ack) || (info.flags & ~kVersionFlags) != 0) {
    return InvalidArgument(name + "acknowledgement " +
                           std::to_string(static_cast<unsigned>(info.ack)) +
                           ", flags " + std::to_string(info.flags));
  }
  const VersionLink& parent = info.parent;
  if (parent.number != 0 && parent.number + 1 != info.number &&
      (info.flags & kVersionFork) == 0) {
    return InvalidArgument(name + "its parent is version " +
                           std::to_string(parent.number) +
                           ", not the one before");
  }
  const bool linked = parent.number != 0;
  if (linked ? parent.bytes < sizeof(VersionHeader) ||
                   parent.bytes > kMaxBlockBytes
             : parent.bytes != 0 || parent.key != Key()) {
    return InvalidArgument(name + "its parent, version " +
                           std::to_string(parent.number) + ", has " +
                           std::to_string(parent.bytes) + " bytes");
  }
  return CheckLabels(info.labels);
}

void AppendLabels(const Labels& labels, std::string* to) {
  for (const auto& [name, value] : labels) {
    AppendString(name, to);
    AppendString(value, to);
  }
}

bool ReadLabels(std::string_view bytes, std::uint32_t count, Labels* labels) {
  ByteReader in(bytes);
  if (count > kLabelsMax || bytes.size() > kLabelsBytesMax) return false;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::string_view name = in.String(kLabelsBytesMax);
    const std::string_view value = in.String(kLabelsBytesMax);
    labels->emplace_back(name, value);
  }
  return in.AtEnd();
}

std::uint32_t PayloadOffset(const VersionInfo& info) {
  std::string labels;
  AppendLabels(info.labels, &labels);
  return static_cast<std::uint32_t>(sizeof(VersionHeader) +
                                    info.message.size() + labels.size());
}

EncodedOverlay EncodeOverlay(const Overlay& overlay,
                             std::uint32_t payload_offset) {
  PieceWriter out;
  std::uint64_t next_page = 0;
  for (const OverlayPage& entry : overlay) {
    out.WriteVarint(entry.page - next_page);
    out.WriteVarint(entry.content.pieces.size() << 1 | (entry.in_tree ? 1 : 0));
    for (const Piece& piece : entry.content.pieces) {
      out.WritePiece(piece, payload_offset);
    }
    next_page = entry.page + 1;
  }
  return {out.Finish(), out.lineages()};
}

std::string EncodeVersionBlock(const VersionBlock& block,
                               std::string_view payload,
                               const EncodedOverlay& overlay) {
  std::string labels;
  AppendLabels(block.info.labels, &labels);
  AGENTMEM_CHECK(overlay.bytes.size() <= kOverlayBytesMax);
  VersionHeader header = HeaderOf(block);
  header.labels_bytes = static_cast<std::uint16_t>(labels.size());
  header.label_count = static_cast<std::uint16_t>(block.info.labels.size());
  header.payload_bytes = static_cast<std::uint32_t>(payload.size());
  header.overlay_bytes = static_cast<std::uint32_t>(overlay.bytes.size());
  header.lineages = overlay.lineages;
  std::string bytes;
  bytes.reserve(sizeof(header) + block.info.message.size() + labels.size() +
                payload.size() + overlay.bytes.size());
  AppendFixed(header, &bytes);
  bytes += block.info.message;
  bytes += labels;
  bytes += payload;
  bytes += overlay.bytes;
  return bytes;
}

absl::StatusOr<VersionBlock> DecodeVersionBlock(const Key& key,
                                                std::string_view bytes) {
  AGENTMEM_ASSIGN_OR_RETURN(const VersionHeader header, ReadHeader(key, bytes));
  const std::string name = BlockName(key, header);
  ByteReader in(bytes.substr(sizeof(header)));
  VersionBlock block;
  block.info = InfoOf(header);
  block.info.message = std::string(in.Bytes(header.message_bytes));
  if (!ReadLabels(in.Bytes(header.labels_bytes), header.label_count,
                  &block.info.labels)) {
    return BadVersion(name, "its labels cannot be read");
  }
  if (absl::Status status = CheckVersionInfo(block.info); !status.ok()) {
    return BadVersion(name, StatusMessage(status));
  }
  AGENTMEM_ASSIGN_OR_RETURN(block.root, ReadRoot(name, header));
  const SelfBlock self = {key, static_cast<std::uint32_t>(bytes.size()),
                          PayloadOffset(block.info), header.payload_bytes};
  in.Bytes(header.payload_bytes);
  AGENTMEM_ASSIGN_OR_RETURN(
      block.overlay,
      ReadOverlay(name, header, in.Bytes(header.overlay_bytes), self));
  block.overlay_spent = header.overlay_spent;
  AGENTMEM_RETURN_IF_ERROR(CheckMappedPages(name, block));
  return block;
}

}  // namespace agentmem
