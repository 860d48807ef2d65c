// A team of threads that runs one function together, and the barriers between its stretches of
// work.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace fastrnn {

// Spins for about as long as a step of a small layer takes, then gives the core away: with other
// work on the machine a spinning thread would keep the very core that the awaited one needs.
class Barrier {
 public:
  void wait(int size);

 private:
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<int> generation_{0};
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

// Members of a team that work on the same thing, and their barrier.
class Crew {
 public:
  Crew(int id, int size, Barrier* barriers) : id(id), size(size), barriers_(barriers) {}

  void wait() const { barriers_[0].wait(size); }

  // The g-th group of `members` consecutive members, as one of them sees it
  Crew group(int g, int members) const { return Crew(id % members, members, barriers_ + 1 + g); }

  int id;
  int size;

 private:
  Barrier* barriers_;  // the crew's own, then one for each group it may fall into
};

// The directions of a layer that one crew takes: with threads enough two crews take one each, side
// by side.
struct Sides {
  Crew crew;
  int begin, end;
};

// The barriers of a team, for every way of falling into crews.
class Barriers {
 public:
  explicit Barriers(int threads) : all_(new Barrier[3 * (1 + threads)]), stride_(1 + threads) {}

  Crew team(int id, int size) const { return Crew(id, size, all_.get()); }

  Sides sides(int id, int size, int directions) const {
    if (directions < 2 || size < 2) return {Crew(id, size, all_.get() + stride_), 0, directions};
    const int first = (size + 1) / 2;
    if (id < first) return {Crew(id, first, all_.get() + stride_), 0, 1};
    return {Crew(id - first, size - first, all_.get() + 2 * stride_), 1, 2};
  }

 private:
  std::unique_ptr<Barrier[]> all_;
  int stride_;
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
