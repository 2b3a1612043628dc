#include "client/memctl/region_commands.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <functional>
#include <vector>

#include "base/status.h"
#include "client/memctl/file_error.h"
#include "client/memctl/new_file.h"
#include "client/memctl/render_agents.h"

namespace agentmem::memctl {
namespace {

constexpr std::uint64_t kChunkBytes = 4 << 20;
constexpr std::uint64_t kUnitBytes = 4096;

std::string Named(const RegionName& name) {
  return "region \"" + name.region + "\" of agent \"" + name.agent + "\"";
}

absl::Status BeyondTheEnd(const RegionName& name, std::uint64_t region_bytes,
                          const std::string& what) {
  return MakeStatus(absl::StatusCode::kOutOfRange,
                    Named(name) + " has " + std::to_string(region_bytes) +
                        " bytes; " + what +
                        ": give a smaller --offset, or less");
}

absl::StatusOr<std::unique_ptr<RegionClient>> Regions(
    const Invocation& invocation, const World& world) {
  return world.connect_regions(invocation.socket_path, invocation.tenant,
                               invocation.timeout);
}

// Opened once: all that is read is of this version, whoever commits meanwhile.
absl::StatusOr<std::unique_ptr<RegionReader>> OpenVersion(
    const Invocation& invocation, RegionClient* regions) {
  AGENTMEM_ASSIGN_OR_RETURN(
      std::unique_ptr<RegionReader> reader,
      regions->OpenToRead(invocation.name, invocation.version));
  if (reader->version() == 0) {
    return NotFound(Named(invocation.name) +
                    " has no version yet: nothing was committed");
  }
  return reader;
}

bool AllZeros(const char* bytes, std::uint64_t count) {
  return bytes[0] == 0 && std::memcmp(bytes, bytes + 1, count - 1) == 0;
}

// Visits runs of units that are not all zeros, by their place in `bytes`.
absl::Status ForEachRunNotZero(
    const std::vector<char>& bytes, std::uint64_t count,
    const std::function<absl::Status(std::uint64_t at, std::uint64_t run)>&
        visit) {
  std::uint64_t begin = 0;  // of the open run
  for (std::uint64_t at = 0; at < count;) {
    const std::uint64_t end = at + std::min(kUnitBytes, count - at);
    if (AllZeros(bytes.data() + at, end - at)) {
      if (begin != at) AGENTMEM_RETURN_IF_ERROR(visit(begin, at - begin));
      begin = end;
    }
    at = end;
  }
  return begin == count ? absl::OkStatus() : visit(begin, count - begin);
}

// As much as there is, up to a chunk; 0 at the input's end.
absl::StatusOr<std::uint64_t> ReadChunk(std::istream* input,
                                        const std::string& name,
                                        std::vector<char>* chunk) {
  input->read(chunk->data(), static_cast<std::streamsize>(chunk->size()));
  if (input->bad()) return FileError("reading " + name);
  return static_cast<std::uint64_t>(input->gcount());
}

}  // namespace

absl::Status ReadRegion(const Invocation& invocation, const World& world) {
  AGENTMEM_ASSIGN_OR_RETURN(const auto regions, Regions(invocation, world));
  AGENTMEM_ASSIGN_OR_RETURN(const auto reader,
                            OpenVersion(invocation, regions.get()));
  const std::uint64_t bytes = reader->bytes();
  const std::uint64_t offset = invocation.offset;
  if (offset >= bytes) {
    return BeyondTheEnd(invocation.name, bytes,
                        "byte " + std::to_string(offset) + " is none of them");
  }
  std::uint64_t length = bytes - offset;
  if (invocation.length != UINT64_MAX) {
    if (invocation.length > length) {
      return BeyondTheEnd(invocation.name, bytes,
                          std::to_string(invocation.length) +
                              " bytes from byte " + std::to_string(offset) +
                              " on end beyond them");
    }
    length = invocation.length;
  }
  std::vector<char> chunk(std::min(length, kChunkBytes));
  for (std::uint64_t done = 0; done < length && *world.output;) {
    const std::uint64_t next = std::min(length - done, kChunkBytes);
    AGENTMEM_RETURN_IF_ERROR(reader->Read(offset + done, chunk.data(), next));
    world.output->write(chunk.data(), static_cast<std::streamsize>(next));
    done += next;
  }
  return absl::OkStatus();
}

absl::Status WriteRegion(const Invocation& invocation, const World& world) {
  const bool standard = invocation.file == "-";
  const std::string input_name = standard ? "standard input" : invocation.file;
  std::ifstream file;
  errno = 0;
  if (!standard) {
    file.open(invocation.file, std::ios::binary);
    if (!file) return FileError("opening " + invocation.file);
  }
  std::istream* const input = standard ? world.input : &file;
  std::vector<char> chunk(kChunkBytes);
  // Before anything is opened or made.
  AGENTMEM_ASSIGN_OR_RETURN(std::uint64_t count,
                            ReadChunk(input, input_name, &chunk));
  if (count == 0) {
    return InvalidArgument(input_name + " has no bytes: nothing was committed");
  }
  AGENTMEM_ASSIGN_OR_RETURN(const auto regions, Regions(invocation, world));
  AGENTMEM_ASSIGN_OR_RETURN(
      const auto writer,
      regions->OpenToWrite(invocation.name, invocation.writer));
  const std::uint64_t bytes = writer->bytes();
  std::uint64_t at = invocation.offset;
  while (count != 0) {
    if (at > bytes || count > bytes - at) {
      return BeyondTheEnd(invocation.name, bytes,
                          input_name + ", written from byte " +
                              std::to_string(invocation.offset) +
                              " on, ends beyond them, and nothing was "
                              "committed");
    }
    const auto write = [&](std::uint64_t in_chunk, std::uint64_t run) {
      return writer->Write(at + in_chunk, chunk.data() + in_chunk, run);
    };
    // In a new region zeros need not be written, nor stored.
    AGENTMEM_RETURN_IF_ERROR(writer->version() == 0
                                 ? ForEachRunNotZero(chunk, count, write)
                                 : write(0, count));
    at += count;
    AGENTMEM_ASSIGN_OR_RETURN(count, ReadChunk(input, input_name, &chunk));
  }
  AGENTMEM_ASSIGN_OR_RETURN(
      const std::uint64_t version,
      writer->Commit(invocation.message, invocation.labels));
  *world.output << RenderWrite(invocation.name, version,
                               {invocation.offset, at - invocation.offset},
                               invocation.output);
  return absl::OkStatus();
}

absl::Status ExportRegion(const Invocation& invocation, const World& world) {
  AGENTMEM_ASSIGN_OR_RETURN(
      NewFile file,
      NewFile::Create(invocation.file, invocation.overwrite
                                           ? NewFile::Existing::kReplace
                                           : NewFile::Existing::kRefuse));
  AGENTMEM_ASSIGN_OR_RETURN(const auto regions, Regions(invocation, world));
  AGENTMEM_ASSIGN_OR_RETURN(const auto reader,
                            OpenVersion(invocation, regions.get()));
  // What was never written is zeros, and is not asked for.
  AGENTMEM_ASSIGN_OR_RETURN(
      const std::vector<ByteSpan> spans,
      regions->Diff(invocation.name, 0, reader->version()));
  std::vector<char> chunk(std::min(reader->bytes(), kChunkBytes));
  std::uint64_t written = 0;
  for (const ByteSpan& span : spans) {
    for (std::uint64_t done = 0; done < span.bytes;) {
      const std::uint64_t at = span.offset + done;
      const std::uint64_t next = std::min(span.bytes - done, kChunkBytes);
      AGENTMEM_RETURN_IF_ERROR(reader->Read(at, chunk.data(), next));
      AGENTMEM_RETURN_IF_ERROR(ForEachRunNotZero(
          chunk, next, [&](std::uint64_t in_chunk, std::uint64_t run) {
            written += run;
            return file.WriteAt(at + in_chunk, chunk.data() + in_chunk, run);
          }));
      done += next;
    }
  }
  AGENTMEM_RETURN_IF_ERROR(file.Finish(reader->bytes()));
  *world.output << RenderExport(
      invocation.name,
      {reader->version(), reader->bytes(), written, invocation.file},
      invocation.output);
  return absl::OkStatus();
}

}  // namespace agentmem::memctl
