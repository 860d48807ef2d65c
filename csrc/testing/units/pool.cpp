// The engine's own threads, which run a team where the process has no OpenMP.
#include "engine/team/pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "engine/team/crowd.h"
#include "engine/team/processors.h"
#include "engine/team/team.h"
#include "units.h"

namespace fastrnn {
namespace {

// A machine of so many processors without other work
struct Quiet {
  explicit Quiet(int processors) {
    pretend_processors(processors);
    pretend_crowded(-1);
  }
  ~Quiet() {
    pretend_processors(0);
    pretend_crowded(0);
  }
};

// Adds up numbers with a barrier after each, and notes what ran.
struct Sums {
  static constexpr int kRounds = 20, kMost = 16;

  void prepare(int threads) {
    size = threads;
    seats = std::make_unique<Seats>(threads, 1);
    times.assign(threads, 0);
  }

  void operator()(int id, int of) {
    EXPECT_EQUAL(of, size);
    ++times[id];
    threads[id] = std::this_thread::get_id();
    const Crew crew = seats->team(id, of);
    for (int round = 1; round <= kRounds; ++round) {
      sums[id] += round;
      crew.wait();
      for (int other = 0; other < of; ++other) EXPECT_EQUAL(sums[other], round * (round + 1) / 2);
      crew.wait();
    }
  }

  void expect_complete() const {
    for (int count : times) EXPECT_EQUAL(count, 1);
    for (int id = 0; id < size; ++id) EXPECT_EQUAL(sums[id], kRounds * (kRounds + 1) / 2);
  }

  int size = 0;
  std::unique_ptr<Seats> seats;
  std::vector<int> times;
  int sums[kMost] = {};
  std::thread::id threads[kMost];
};

UNIT(a_team_of_the_pool_has_every_member_once_and_the_caller_as_the_first) {
  const Quiet machine(8);
  for (int wanted : {1, 2, 3, 5, 8}) {
    Sums sums;
    run_team(wanted, sums);
    EXPECT_EQUAL(sums.size, wanted);
    EXPECT(sums.threads[0] == std::this_thread::get_id());
    for (int id = 1; id < wanted; ++id)
      EXPECT_EQUAL(std::count(sums.threads, sums.threads + wanted, sums.threads[id]), 1);
    sums.expect_complete();
  }
}

UNIT(the_pool_wakes_threads_that_it_has_instead_of_starting_others) {
  const Quiet machine(4);
  std::vector<std::thread::id> seen;
  for (int call = 0; call < 6; ++call) {
    Sums sums;
    run_team(4, sums);
    sums.expect_complete();
    for (int id = 1; id < sums.size; ++id) {
      const auto end = seen.end();
      if (std::find(seen.begin(), end, sums.threads[id]) == end) seen.push_back(sums.threads[id]);
    }
    // Long enough for them to fall asleep every other time
    if (call % 2) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  // Another unit may have left more of them than this one takes.
  EXPECT(seen.size() >= 3 && seen.size() <= 7);
}

UNIT(a_team_has_no_more_threads_than_the_process_may_use_processors) {
  const Quiet machine(2);
  Sums sums;
  run_team(8, sums);
  EXPECT_EQUAL(sums.size, 2);
  sums.expect_complete();
}

// Members but the first are late.
struct Late {
  void prepare(int threads) { size = threads; }
  void operator()(int id, int) const {
    if (id > 0) std::this_thread::sleep_for(std::chrono::milliseconds(12));
  }
  int size = 0;
};

UNIT(calls_have_fewer_threads_for_a_while_where_their_ends_are_waited_for) {
  const Quiet machine(2);
  pretend_crowded(0);
  Late late;
  int calls = 0;
  for (late.size = 2; late.size > 1 && calls < 100; ++calls) run_team(2, late);
  EXPECT_EQUAL(late.size, 1);
  EXPECT(calls > 3);
  for (calls = 0; uncrowded_threads(2) < 2 && calls < 1000; ++calls)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQUAL(uncrowded_threads(2), 2);
}

UNIT(calls_at_the_same_time_share_the_pool_and_are_each_complete) {
  constexpr int kCallers = 4, kCalls = 50;
  const Quiet machine(4);
  std::vector<std::thread> callers;
  std::atomic<int> most{0};
  for (int caller = 0; caller < kCallers; ++caller) {
    callers.emplace_back([&] {
      for (int call = 0; call < kCalls; ++call) {
        Sums sums;
        run_team(4, sums);
        EXPECT(sums.size >= 1 && sums.size <= 4);
        sums.expect_complete();
        most = std::max(most.load(), sums.size);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT(most > 1);
}

struct Prepared {
  void prepare(int threads) { sizes.push_back(threads); }
  void operator()(int id, int size) {
    EXPECT_EQUAL(sizes.back(), size);
    ++ran;
    // What is prepared holds until the last member returns.
    if (id == 0 && inner) {
      run_team(4, *inner);
      EXPECT_EQUAL(sizes.back(), size);
    }
  }
  std::vector<int> sizes;
  std::atomic<int> ran{0};
  Prepared* inner = nullptr;
};

UNIT(a_call_that_finds_all_threads_taken_is_prepared_anew_for_those_that_there_are) {
  const Quiet machine(4);
  Prepared outer, inner;
  outer.inner = &inner;
  constexpr int kMore = 100;  // than any unit has started
  run_on_pool(
      kMore, [](void* context, int size) { static_cast<Prepared*>(context)->prepare(size); },
      [](void* context, int id, int size) { (*static_cast<Prepared*>(context))(id, size); },
      &outer);
  EXPECT_EQUAL(outer.sizes.size(), size_t{1});
  EXPECT(outer.sizes[0] >= 4);
  EXPECT_EQUAL(outer.ran.load(), outer.sizes[0]);
  EXPECT(inner.sizes == std::vector<int>({4, 1}));
  EXPECT_EQUAL(inner.ran.load(), 1);
}

}  // namespace
}  // namespace fastrnn
