#include "team.h"

#include <algorithm>

#include "crowd.h"
#include "distance.h"
#include "engine/schedule/machine.h"
#include "openmp.h"
#include "parking.h"
#include "pool.h"
#include "processors.h"
#include "spin.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace fastrnn {
namespace {

// How long a wait for the others' step is no reason to sleep: a few steps, and what a short delay
// of the system takes. In nanoseconds.
constexpr double kStepsWorthSpinning = 3;
constexpr int64_t kLeastPatience = 20000, kMostPatience = 500000;

// A signal's time is the shortest of some tries, each of so many barriers.
constexpr int kTries = 4, kBarriersOfTry = 4;

std::atomic<bool> in_forked_child{false};

#if defined(__unix__) || defined(__APPLE__)
const int fork_handler = pthread_atfork(nullptr, nullptr, [] { in_forked_child = true; });
#endif

// A call inside a parallel region of the caller's gets one thread (the others are busy with one
// another), and so does a forked child (no pool's threads survive a fork).
int usable_threads(int wanted, const OpenMp* shared) {
  if (wanted <= 1 || in_forked_child || (shared && shared->in_parallel())) return 1;
  return uncrowded_threads(std::min(wanted, usable_processors()));
}

void measure_signal(const Crew& crew) {
  int rounds = 0;
  while (1 << rounds < crew.size) ++rounds;
  int64_t shortest = INT64_MAX;
  crew.wait();
  for (int i = 0; i < kTries; ++i) {
    const int64_t begin = nanoseconds_now();
    for (int j = 0; j < kBarriersOfTry; ++j) crew.wait();
    shortest = std::min(shortest, nanoseconds_now() - begin);
  }
  if (crew.id == 0) report_signal(static_cast<double>(shortest) / (kBarriersOfTry * rounds));
}

// A team's work, and when its first member is at it, who is the caller. Outside of that it waits:
// at first for threads that have yet to leave the work before, and in the end for those that come
// last.
struct Timed {
  void (*prepare)(void* context, int size);
  void (*body)(void* context, int id, int size);
  void* context;
  Seat* seats;  // for the members to find out how far apart they are; or null
  int64_t begin = 0, end = 0;
  int size = 1;

  static void start(void* timed, int size) {
    const Timed& own = *static_cast<Timed*>(timed);
    own.prepare(own.context, size);
  }

  static void run(void* timed, int id, int size) {
    Timed& own = *static_cast<Timed*>(timed);
    if (id == 0) own.begin = nanoseconds_now();
    if (own.seats && size > 1) measure_signal(Crew(id, size, own.seats));
    own.body(own.context, id, size);
    if (id != 0) return;
    own.end = nanoseconds_now();
    own.size = size;
  }

  void report(int64_t called) const {
    report_long_wait(called, begin, size, size - 1);
    report_long_wait(end, nanoseconds_now(), size, size - 1);
  }
};

struct Region {
  void (*prepare)(void* context, int size);
  void (*body)(void* context, int id, int size);
  void* context;
  const OpenMp* shared;
  int wanted;

  static void run(void* context) { static_cast<const Region*>(context)->run(); }

  void run() const {
    const int id = shared->thread_id(), size = shared->team_size();
    if (size != wanted) {
      if (id == 0) prepare(context, size);
      shared->barrier();
    }
    body(context, id, size);
  }
};

}  // namespace

Crew Crew::group(int g, int members, double step_cycles) const {
  Crew crew(id % members, members, group_seats_ + g * members);
  const double steps = kStepsWorthSpinning * kNanosecondsOfCycle * step_cycles;
  crew.patience_ = kLeastPatience +
                   static_cast<int64_t>(std::min<double>(steps, kMostPatience - kLeastPatience));
  return crew;
}

void Crew::meet(bool evenly) const {
  Seat& own = seats_[id];
  const int wanted = 2 * ++own.waits;
  for (int round = 0, distance = 1; distance < size; ++round, distance *= 2) {
    std::atomic<int>& theirs = seats_[(id + distance) % size].signals[round];
    if (theirs.exchange(wanted, std::memory_order_acq_rel) & 1) unpark(theirs);
    await(own.signals[round], wanted, evenly);
  }
}

void Crew::await(std::atomic<int>& signal, int wanted, bool evenly) const {
  const int64_t begin =
      spin(patience_, [&] { return signal.load(std::memory_order_acquire) >= wanted; });
  if (begin == 0) return;
  for (int seen; (seen = signal.load(std::memory_order_acquire)) < wanted;) {
    if ((seen & 1) || signal.compare_exchange_strong(seen, seen | 1)) park(signal, seen | 1);
  }
  if (evenly && report_long_wait(begin, nanoseconds_now(), size)) halve_after(seats_[id].waits + 1);
}

// Whoever comes to that wait has been seen by the member that set it before it came there itself.
void Crew::halve_after(int wait) const {
  int unset = 0;
  seats_[0].halved_after[halvings_].compare_exchange_strong(unset, wait);
}

bool Crew::meet_after_step() {
  meet(true);
  int after = seats_[0].halved_after[halvings_].load(std::memory_order_acquire);
  if (after == 0) after = pretended_waits() * (halvings_ + 1);
  if (after <= 0 || after > seats_[id].waits) return false;
  ++halvings_;
  size = (size + 1) / 2;
  return true;
}

void run_team(int threads, void (*prepare)(void* context, int size),
              void (*body)(void* context, int id, int size), void* context) {
  const OpenMp* const shared = threads > 1 ? openmp() : nullptr;
  threads = usable_threads(threads, shared);
  prepare(context, threads);
  if (threads == 1) return body(context, 0, 1);
  const int64_t called = nanoseconds_now();
  const std::unique_ptr<Seat[]> seats(signal_is_due(called) ? new Seat[threads] : nullptr);
  Timed timed = {prepare, body, context, seats.get()};
  if (shared) {
    Region region = {&Timed::start, &Timed::run, &timed, shared, threads};
    shared->parallel(&Region::run, &region, static_cast<unsigned>(threads), 0);
  } else {
    run_on_pool(threads, &Timed::start, &Timed::run, &timed);
  }
  timed.report(called);
}

}  // namespace fastrnn
