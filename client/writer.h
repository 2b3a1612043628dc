// Puts blocks: takes a granted slot, has it filled, and publishes it.
//
// A put is posted at once and complete when memd answers: when the wanted
// acknowledgement is reached. Its handle is the id of the operation. memd takes
// the submissions of a client in order, so that a get which is posted after the
// put finds its block.
//
// When memd dies, Put copies the bytes again into the next session (a key keeps
// its first bytes, so that it may be put twice); a reservation of the dead memd
// is lost, and Publish says UNAVAILABLE.
//
// Ownership: borrows the channel. Threads: thread-safe. Errors: see
// agentmem_put. Cost: one copy, one lock; a system call if memd sleeps.
#ifndef AGENTMEM_CLIENT_WRITER_H_
#define AGENTMEM_CLIENT_WRITER_H_

#include <cstdint>

#include "agentmem/agentmem.h"
#include "client/channel.h"
#include "client/grant_picker.h"
#include "proto/outcome.h"

namespace agentmem::client {

struct PutRequest {
  Key key;
  BlockClass block_class = BlockClass::kCache;
  Ack ack = Ack::kVisible;
  std::uint64_t length = 0;
};

class Writer {
 public:
  explicit Writer(Channel* channel) : channel_(channel) {}

  // `id` may be null: nobody will ask for the outcome.
  Outcome Put(const PutRequest& request, const void* bytes,
              const Deadline& deadline, agentmem_put_id* id);
  Outcome Reserve(std::uint64_t length, const Deadline& deadline,
                  agentmem_reservation* reservation);
  Outcome Publish(agentmem_reservation* reservation, const PutRequest& request,
                  const Deadline& deadline, agentmem_put_id* id);
  // As Publish, and never waits: without room in the ring it goes out before
  // what is posted later (Channel::Queue). (There are few grants to queue.)
  Outcome QueuePublish(agentmem_reservation* reservation,
                       const PutRequest& request, agentmem_put_id* id);
  void Abandon(agentmem_reservation* reservation);
  Outcome Wait(agentmem_put_id id, const Deadline& deadline);
  void Forget(agentmem_put_id id);

 private:
  Outcome TakeGrant(Session* session, std::uint64_t length,
                    const Deadline& deadline, Grant* grant);
  // OK with *taken: `grant` is the caller's; without: it is to look again.
  Outcome AskForGrants(Session* session, std::uint64_t length,
                       const Deadline& deadline, Grant* grant, bool* taken);
  static SubmissionEntry PublishOf(const Grant& grant,
                                   const PutRequest& request);
  // Not OK: the reservation has ended.
  Outcome CheckPublish(agentmem_reservation* reservation,
                       const PutRequest& request);
  Outcome EndPublish(agentmem_reservation* reservation, Outcome outcome);
  // Not OK: the grant is the caller's still.
  Outcome PostPublish(Session* session, const Grant& grant,
                      const PutRequest& request, const Deadline& deadline,
                      agentmem_put_id* id);
  void AbandonGrant(Session* session, const Grant& grant);

  Channel* const channel_;
  GrantPicker grants_;
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_WRITER_H_
