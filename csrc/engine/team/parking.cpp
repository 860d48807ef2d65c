#include "parking.h"

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__unix__) || defined(__APPLE__)
#include <sched.h>
#endif

namespace fastrnn {

#if defined(__linux__)

namespace {

void futex(std::atomic<int>& word, int operation, int value) {
  static_assert(sizeof word == sizeof(int), "a futex is four bytes");
  syscall(SYS_futex, reinterpret_cast<int*>(&word), operation, value, nullptr, nullptr, 0);
}

}  // namespace

void park(std::atomic<int>& word, int expected) { futex(word, FUTEX_WAIT_PRIVATE, expected); }

void unpark(std::atomic<int>& word) { futex(word, FUTEX_WAKE_PRIVATE, 1); }

#elif defined(__cpp_lib_atomic_wait)

void park(std::atomic<int>& word, int expected) { word.wait(expected); }

void unpark(std::atomic<int>& word) { word.notify_one(); }

#else

void park(std::atomic<int>&, int) {
#if defined(__unix__) || defined(__APPLE__)
  sched_yield();
#endif
}

void unpark(std::atomic<int>&) {}

#endif

}  // namespace fastrnn
