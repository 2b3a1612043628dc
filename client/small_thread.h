// Starts a thread of the library's own: with a small stack, and no signal of
// the host program's comes to it.
//
// Ownership: the caller joins it. Threads: any. Errors: what pthread_create
// says. Cost: a stack of 256 KiB (more where static thread-local storage of the
// host's libraries needs it).
#ifndef AGENTMEM_CLIENT_SMALL_THREAD_H_
#define AGENTMEM_CLIENT_SMALL_THREAD_H_

#include <pthread.h>

namespace agentmem::client {

// `name`: at most 15 characters. 0, or an error number.
int StartSmallThread(const char* name, void* (*run)(void*), void* argument,
                     pthread_t* thread);

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_SMALL_THREAD_H_
