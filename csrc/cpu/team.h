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
  alignas(64) std::atomic<int> signals[kRounds] = {};  // from the others: how often they came by
  alignas(64) int waits = 0;                           // its own count
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
  Crew(int id, int size, Seat* seats, Seat* group_seats)
      : id(id), size(size), seats_(seats), group_seats_(group_seats) {}

  // Returns when every member is here. In each round a member signals one other and awaits another,
  // twice as far away as in the round before: for two threads that is a single line of memory each
  // way. Spins for about as long as a step of a small layer takes, then gives the core away: with
  // other work on the machine a spinning thread would keep the very core that the awaited one
  // needs.
  void wait() const;

  // The g-th group of `members` consecutive members, as one of them sees it
  Crew group(int g, int members) const {
    return Crew(id % members, members, group_seats_ + g * members, nullptr);
  }

  int id;
  int size;

 private:
  Seat* seats_;
  Seat* group_seats_;
};

// The directions of a layer that one crew takes: the whole team both in turn, or two crews one each
// side by side.
struct Sides {
  int crews;
  Crew crew;
  int begin, end;
};

// The seats of a team, for every way of falling into crews and groups. Each layer has seats of its
// own, since the groups of two layers may differ.
class Seats {
 public:
  Seats(int threads, int64_t layers)
      : all_(new Seat[static_cast<size_t>(threads * (1 + 4 * layers))]), threads_(threads) {}

  Crew team(int id, int size) const { return Crew(id, size, all_.get(), nullptr); }

  // For one crew or two
  Sides sides(int64_t layer, int id, int size, int directions, int crews) const {
    if (crews < 2) return {crews, crew(layer, 0, id, size), 0, directions};
    const int first = (size + 1) / 2;
    if (id < first) return {crews, crew(layer, 0, id, first), 0, 1};
    return {crews, crew(layer, 1, id - first, size - first), 1, 2};
  }

 private:
  Crew crew(int64_t layer, int side, int id, int size) const {
    Seat* seats = all_.get() + threads_ * (1 + 4 * layer + 2 * side);
    return Crew(id, size, seats, seats + threads_);
  }

  std::unique_ptr<Seat[]> all_;
  int threads_;
};

// Runs body(context, id, size) on `threads` threads, or on fewer: on one inside a parallel region
// of the caller's and in a forked child.
void run_team(int threads, void (*body)(void* context, int id, int size), void* context);

template <class Body>
void run_team(int threads, Body& body) {
  run_team(
      threads, [](void* context, int id, int size) { (*static_cast<Body*>(context))(id, size); },
      &body);
}

bool built_with_openmp();

}  // namespace fastrnn
