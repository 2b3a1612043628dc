// What the functions of the C ABI have in common: refusing what must not be
// touched, and handing an Outcome to a C caller.
//
// Threads: any. Errors: are its business. Cost: none when OK.
#ifndef AGENTMEM_CLIENT_C_API_H_
#define AGENTMEM_CLIENT_C_API_H_

#include "agentmem/agentmem.h"
#include "client/client.h"
#include "proto/outcome.h"

namespace agentmem::client {

agentmem_code Answer(const Outcome& outcome, agentmem_error* error);
agentmem_code AnswerInvalid(const char* message, agentmem_error* error);
agentmem_code AnswerForked(agentmem_error* error);

inline const Key* KeysOf(const agentmem_key* keys) {
  static_assert(sizeof(Key) == sizeof(agentmem_key));
  static_assert(alignof(Key) == alignof(agentmem_key));
  return reinterpret_cast<const Key*>(keys);
}
inline Key KeyOf(const agentmem_key& key) {
  return Key{key.group, {key.name[0], key.name[1], key.name[2]}};
}
inline agentmem_key KeyFor(const Key& key) {
  return {key.group, {key.name[0], key.name[1], key.name[2]}};
}

}  // namespace agentmem::client

// At the head of every function of the ABI. Of a handle that is not called
// `client`, its name is what the message says.
#define AGENTMEM_ENTER(handle, error)                                        \
  do {                                                                       \
    if (__builtin_expect((handle) == nullptr, 0)) {                          \
      return ::agentmem::client::AnswerInvalid(#handle " is NULL", (error)); \
    }                                                                        \
    if (__builtin_expect((handle)->Forked(), 0)) {                           \
      return ::agentmem::client::AnswerForked(error);                        \
    }                                                                        \
  } while (false)

#define AGENTMEM_REQUIRE(condition, message, error)                 \
  do {                                                              \
    if (__builtin_expect(!(condition), 0)) {                        \
      return ::agentmem::client::AnswerInvalid((message), (error)); \
    }                                                               \
  } while (false)

#endif  // AGENTMEM_CLIENT_C_API_H_
