// What an agent does with one request: match, read, compare, put.
//
// Every byte that comes back is compared with what its key says. The blocks of
// a read are pinned in batches and let go before the next batch, as an engine
// would that copies them to its device.
//
// Ownership: borrows the client, the workload and the board. Threads:
// thread-compatible. Errors: none are returned: what should not be is counted
// on the board and told to the demo in words. Cost: the request's.
#ifndef AGENTMEM_TESTS_DEMO_REQUEST_WORKER_H_
#define AGENTMEM_TESTS_DEMO_REQUEST_WORKER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "agentmem/agentmem.hpp"
#include "tests/demo/content.h"
#include "tests/demo/scoreboard.h"
#include "tests/demo/workload.h"

namespace agentmem::demo {

ContentId ContentOf(const Key& key);

class RequestWorker {
 public:
  RequestWorker(Client* client, const Workload& workload, Scoreboard* board,
                Lane* lane, int demo_socket);

  void Run(std::uint64_t request);
  // Of the last request.
  const std::vector<Key>& keys() const { return keys_; }

  // True when all of `bytes` is what `id` says; else it is counted and told.
  bool Check(const ContentId& id, Bytes bytes, const std::string& what);
  void Trouble(const std::string& text) const;

  static std::string ObjectName(std::uint64_t request);
  static ContentId ObjectContent(std::uint64_t request);
  std::uint64_t ObjectLength(std::uint64_t request) const;

 private:
  void Read(std::size_t from, std::size_t to);
  void ReadBatch(std::size_t from, std::size_t to);
  void ReadTail(std::size_t from);
  void CountMiss(std::size_t position, Code code);
  void PutMisses();
  ::agentmem::Put PostBlock(std::size_t position, Ack ack, BlockClass kind);
  void FinishPut(std::size_t position, const Status& status, Ack ack);
  void PutDurable(std::size_t position);
  void WorkOnObject();
  void ReportDurable(std::uint32_t flags, const ContentId& id,
                     std::uint64_t length) const;
  void CountStored(std::size_t position, std::uint64_t length);

  Client* const client_;
  const Workload workload_;
  Scoreboard* const board_;
  Lane* const lane_;
  const int demo_socket_;
  Sequence sequence_;
  std::vector<std::byte> scratch_;

  // Of the request at hand.
  std::uint64_t request_ = 0;
  std::span<const std::uint32_t> blocks_;
  std::vector<Key> keys_;
  std::vector<std::size_t> misses_;  // positions to put
};

}  // namespace agentmem::demo

#endif  // AGENTMEM_TESTS_DEMO_REQUEST_WORKER_H_
