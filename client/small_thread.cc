#include "client/small_thread.h"

#include <signal.h>

#include <cerrno>
#include <cstddef>

namespace agentmem::client {
namespace {

// Static TLS of the host's libraries is part of it; see pthread_create.
constexpr std::size_t kStackBytes = 256 << 10;

}  // namespace

int StartSmallThread(const char* name, void* (*run)(void*), void* argument,
                     pthread_t* thread) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  int error = pthread_create(thread, &attributes, run, argument);
  if (error == EINVAL) error = pthread_create(thread, nullptr, run, argument);
  pthread_attr_destroy(&attributes);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error == 0) pthread_setname_np(*thread, name);
  return error;
}

}  // namespace agentmem::client
