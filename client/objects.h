// Objects: immutable bytes of any size under a name, made of blocks.
//
// Put writes the chunks, waits for their acknowledgement, and then the root;
// proto/object_layout.h. After the root it reads the root back: a key keeps its
// first bytes, so of two writers the nonce in the stored root names the winner,
// and the other one answers ALREADY_EXISTS (its chunks are left behind, under
// keys that nobody knows).
//
// Ownership: borrows reader and writer. Threads: thread-safe. Errors: see
// agentmem.h. Cost: one copy; chunks are in flight kWindow at a time.
#ifndef AGENTMEM_CLIENT_OBJECTS_H_
#define AGENTMEM_CLIENT_OBJECTS_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "agentmem/agentmem.h"
#include "client/naming.h"
#include "client/reader.h"
#include "client/writer.h"
#include "proto/object_layout.h"
#include "proto/outcome.h"

namespace agentmem::client {

class Objects {
 public:
  static constexpr std::size_t kWindow = 16;
  static constexpr std::size_t kNameBytesMax = 4096;

  Objects(Reader* reader, Writer* writer) : reader_(reader), writer_(writer) {}

  struct Policy {
    BlockClass block_class = BlockClass::kState;
    Ack ack = Ack::kVisible;
  };

  Outcome Put(Namer* namer, const std::string& name, const char* bytes,
              std::uint64_t length, const Policy& policy,
              const Deadline& deadline);
  Outcome Size(Namer* namer, const std::string& name, const Deadline& deadline,
               std::uint64_t* length);
  Outcome Get(Namer* namer, const std::string& name, std::uint64_t offset,
              char* bytes, std::uint64_t capacity, const Deadline& deadline,
              std::uint64_t* length);

 private:
  // A chunk or root on its way.
  struct Posted {
    PutRequest request;
    const char* bytes = nullptr;
    agentmem_put_id id = 0;
  };

  Outcome ReadRoot(const Key& root, const Deadline& deadline,
                   agentmem_span* span, ObjectHeader* header);
  Outcome PutChunks(Namer* namer, const Nonce& nonce, const char* bytes,
                    std::uint64_t length, const Policy& policy,
                    const Deadline& deadline);
  Outcome PutRoot(const Key& root, const ObjectHeader& header,
                  const char* bytes, const Policy& policy,
                  const Deadline& deadline);
  Outcome Finish(Posted* posted, const Deadline& deadline);
  Outcome CopyChunks(Namer* namer, const ObjectHeader& header,
                     std::uint64_t offset, char* bytes, std::uint64_t count,
                     const Deadline& deadline);

  Reader* const reader_;
  Writer* const writer_;
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_OBJECTS_H_
