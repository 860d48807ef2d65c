// A team of threads that runs one function together, and the barriers between its stretches of
// work.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace fastrnn {

// A thread's place at a barrier (see Crew::wait).
struct Seat {
  static constexpr int kRounds = 16;  // as many bits as a number of threads may have
  // From the others: twice the number of times they came by, and 1 more while this thread sleeps
  alignas(64) std::atomic<int> signals[kRounds] = {};
  alignas(64) int waits = 0;  // its own count
  // The first seat of a crew says for all after which wait it has half its members, the next half
  // of those, ...; 0 for not yet.
  alignas(64) std::atomic<int> halved_after[kRounds] = {};
};

struct Range {
  int64_t begin, end;
};

// The part-th of `parts` even shares of 0 .. n
inline Range share(int64_t n, int part, int parts) {
  return {n * part / parts, n * (part + 1) / parts};
}

// Every stride-th row: a group's part of a batch whose rows stop at different steps stays even at
// every step this way.
struct Rows {
  int64_t first, stride;
  int64_t count(int64_t active) const {
    return active > first ? (active - first + stride - 1) / stride : 0;
  }
};

// Pieces of work that whoever is free takes, in their order.
class Tickets {
 public:
  int64_t take() { return next_.fetch_add(1, std::memory_order_relaxed); }
  void reset() { next_.store(0, std::memory_order_relaxed); }

 private:
  alignas(64) std::atomic<int64_t> next_{0};
};

// Members of a team that work on the same thing.
class Crew {
 public:
  Crew(int id, int size, Seat* seats) : id(id), size(size), seats_(seats) {}

  // Returns when every member is here. In each round a member signals one other and awaits another,
  // twice as far away as in the round before: for two threads that is a single line of memory each
  // way. Spins for a while, then sleeps: with other work on the machine a spinning thread would
  // keep the very core that the awaited one needs.
  void wait() const {
    if (size > 1) meet(false);
  }

  // The same after work that was shared evenly, so that a long wait tells of a crowded machine
  // (crowd.h)
  void wait_evenly() const {
    if (size > 1) meet(true);
  }

  // The same at the end of a step. True if the crew has been crowded and has half its members from
  // now on: those whose id is not below `size` then have left it. All members find out after the
  // same wait.
  bool wait_for_step() { return size > 1 && meet_after_step(); }

  // The g-th group of `members` consecutive members, as one of them sees it. They share steps of so
  // many cycles, which are to take all of them the same time.
  Crew group(int g, int members, double step_cycles) const;

  // The same crew, whose groups have these seats
  Crew with_groups_at(Seat* seats) const {
    Crew crew = *this;
    crew.group_seats_ = seats;
    return crew;
  }

  int id;
  int size;

 private:
  void meet(bool evenly) const;
  bool meet_after_step();
  void await(std::atomic<int>& signal, int wanted, bool evenly) const;
  void halve_after(int wait) const;

  Seat* seats_;
  Seat* group_seats_ = nullptr;
  int64_t patience_ = 200000;  // nanoseconds that it spins at the most
  int halvings_ = 0;
};

// The directions of a layer that one crew takes: the whole team both in turn, or two crews one each
// side by side.
struct Sides {
  Crew crew;
  int begin, end;
  Seat* group_seats;
  int threads;

  // As it works on direction d. A group may lose members there, and so each direction has seats for
  // groups of its own.
  Crew crew_of(int64_t d) const { return crew.with_groups_at(group_seats + d * threads); }
};

// The seats of a team, for every way of falling into crews and groups. Each layer has seats of its
// own, since the groups of two layers may differ.
class Seats {
 public:
  Seats(int threads, int64_t layers)
      : all_(new Seat[static_cast<size_t>(threads * (1 + 4 * layers))]), threads_(threads) {}

  Crew team(int id, int size) const { return Crew(id, size, all_.get()); }

  // For one crew or two
  Sides sides(int64_t layer, int id, int size, int directions, int crews) const {
    Seat* const seats = all_.get() + threads_ * (1 + 4 * layer);
    Seat* const group_seats = seats + 2 * threads_;
    if (crews < 2) return {Crew(id, size, seats), 0, directions, group_seats, threads_};
    const int first = (size + 1) / 2;
    if (id < first) return {Crew(id, first, seats), 0, 1, group_seats, threads_};
    const Crew second(id - first, size - first, seats + threads_);
    return {second, 1, 2, group_seats, threads_};
  }

 private:
  std::unique_ptr<Seat[]> all_;
  int threads_;
};

// Calls prepare(context, size) on one thread and then body(context, id, size) on `threads` threads,
// those of the process's OpenMP (openmp.h) or else of a pool of the engine's own (pool.h), or on
// fewer: as many as the process may use processors (processors.h), or not even those on a
// crowded machine (crowd.h); on one inside a parallel region of the caller's and in a forked child.
// Where the system has not even so many threads, prepare is called again with what it has.
void run_team(int threads, void (*prepare)(void* context, int size),
              void (*body)(void* context, int id, int size), void* context);

// The same with body.prepare(size) and body(id, size)
template <class Body>
void run_team(int threads, Body& body) {
  run_team(
      threads, [](void* context, int size) { static_cast<Body*>(context)->prepare(size); },
      [](void* context, int id, int size) { (*static_cast<Body*>(context))(id, size); }, &body);
}

}  // namespace fastrnn
