#include "team.h"

#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <sched.h>
#endif

namespace fastrnn {
namespace {

constexpr int kSpins = 4000;

void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

void yield() {
#if defined(__unix__) || defined(__APPLE__)
  sched_yield();
#endif
}

std::atomic<bool> in_forked_child{false};

#if defined(_OPENMP) && (defined(__unix__) || defined(__APPLE__))
const int fork_handler = pthread_atfork(nullptr, nullptr, [] { in_forked_child = true; });
#endif

// A call inside a parallel region of the caller's gets one thread (the others are busy with one
// another), and so does a forked child (the OpenMP pool does not survive a fork).
int usable_threads(int wanted) {
#ifdef _OPENMP
  if (wanted > 1 && !in_forked_child && !omp_in_parallel()) return wanted;
#endif
  (void)wanted;
  return 1;
}

}  // namespace

void Crew::wait() const {
  if (size == 1) return;
  Seat& own = seats_[id];
  const int here = ++own.waits;
  for (int round = 0, distance = 1; distance < size; ++round, distance *= 2) {
    seats_[(id + distance) % size].signals[round].store(here, std::memory_order_release);
    for (int spins = 0; own.signals[round].load(std::memory_order_acquire) < here; ++spins) {
      if (spins < kSpins) {
        relax();
      } else {
        yield();
      }
    }
  }
}

bool built_with_openmp() {
#ifdef _OPENMP
  return true;
#else
  return false;
#endif
}

void run_team(int threads, void (*body)(void* context, int id, int size), void* context) {
#ifdef _OPENMP
  threads = usable_threads(threads);
  if (threads > 1) {
#pragma omp parallel num_threads(threads)
    body(context, omp_get_thread_num(), omp_get_num_threads());
    return;
  }
#endif
  (void)threads;
  body(context, 0, 1);
}

}  // namespace fastrnn
