// Barriers, crews that lose members, groups, tickets and shares.
#include "engine/team/team.h"

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "engine/team/crowd.h"
#include "engine/team/distance.h"
#include "units.h"

namespace fastrnn {
namespace {

template <class Body>
void on_threads(int count, Body body) {
  std::vector<std::thread> threads;
  for (int id = 0; id < count; ++id) threads.emplace_back(body, id);
  for (std::thread& thread : threads) thread.join();
}

UNIT(nobody_passes_a_barrier_before_all_have_come) {
  constexpr int kRounds = 50;
  for (int size : {1, 2, 3, 5, 8}) {
    const Seats seats(size, 1);
    std::vector<int> round_of(size);  // no atomics: the barrier publishes what was written before
    on_threads(size, [&](int id) {
      const Crew crew = seats.team(id, size);
      for (int round = 1; round <= kRounds; ++round) {
        round_of[id] = round;
        crew.wait();
        for (int other : round_of) EXPECT_EQUAL(other, round);
        crew.wait();
      }
    });
  }
}

UNIT(those_who_stay_take_over_the_units_of_those_who_leave) {
  constexpr int kSteps = 12, kUnits = 30, kSize = 5, kWaits = 3;
  constexpr int kLastStep[kSize] = {kSteps, 9, 6, 3, 3};  // 5 members, then 3, 2, 1
  pretend_crowded(kWaits);
  const Seats seats(kSize, 1);
  std::vector<std::atomic<int>> times(kSteps * kUnits);
  on_threads(kSize, [&](int id) {
    Crew crew = seats.team(id, kSize);
    int step = 0;
    while (step < kSteps) {
      const Range mine = share(kUnits, crew.id, crew.size);
      for (int64_t unit = mine.begin; unit < mine.end; ++unit) ++times[step * kUnits + unit];
      ++step;
      if (crew.wait_for_step() && crew.id >= crew.size) break;
    }
    EXPECT_EQUAL(step, kLastStep[id]);
  });
  pretend_crowded(0);
  for (const std::atomic<int>& count : times) EXPECT_EQUAL(count.load(), 1);
}

// Waits of so many milliseconds, every so many: how long until they are taken for a crowd's? -1:
// not within a second.
int64_t milliseconds_until_crowded(int64_t begin, int64_t wait, int64_t every) {
  constexpr int64_t kMillisecond = 1000000;
  for (int64_t ms = 0; ms < 1000; ms += every) {
    const int64_t at = (begin + ms) * kMillisecond;
    if (report_long_wait(at, at + wait * kMillisecond, 2)) return ms + wait;
  }
  return -1;
}

UNIT(a_crowd_takes_half_of_the_time_for_longer_than_a_host_does) {
  EXPECT_EQUAL(milliseconds_until_crowded(10000, 4, 4), 32);
  EXPECT_EQUAL(uncrowded_threads(2), 2);  // a later call: tries again
  EXPECT_EQUAL(milliseconds_until_crowded(20000, 4, 10), -1);
  EXPECT_EQUAL(milliseconds_until_crowded(30000, 4, 7), 32);
  EXPECT_EQUAL(uncrowded_threads(2), 2);
}

UNIT(a_signal_is_measured_once_in_a_while) {
  const int64_t begin = nanoseconds_now() + 1000000000;
  EXPECT_EQUAL(signal_is_due(begin), true);
  EXPECT_EQUAL(signal_is_due(begin + 1000000), false);
  EXPECT_EQUAL(signal_is_due(begin + 30000000), true);
}

UNIT(a_wait_for_a_lost_processor_is_no_signal) {
  report_signal(80);
  report_signal(300000);
  EXPECT_EQUAL(signal_nanoseconds(), 80.0);
  pretend_signal(500);
  EXPECT_EQUAL(signal_nanoseconds(), 500.0);
  pretend_signal(0);
  EXPECT_EQUAL(signal_nanoseconds(), 80.0);
}

UNIT(groups_of_a_crew_meet_at_seats_of_their_own) {
  constexpr int kSize = 4, kMembers = 2;
  const Seats seats(kSize, 1);
  std::vector<int> round_of(kSize);
  on_threads(kSize, [&](int id) {
    const int number = id / kMembers;
    const Sides sides = seats.sides(0, id, kSize, 1, 1);
    const Crew group = sides.crew_of(0).group(number, kMembers, 0);
    EXPECT_EQUAL(group.id, id % kMembers);
    for (int round = 1; round <= 10 * (number + 1); ++round) {
      round_of[id] = round;
      group.wait();
      for (int member = 0; member < kMembers; ++member)
        EXPECT_EQUAL(round_of[number * kMembers + member], round);
      group.wait();
    }
  });
}

UNIT(two_crews_take_a_direction_each_and_one_crew_both) {
  constexpr int kSize = 5;
  const Seats seats(kSize, 2);
  for (int id = 0; id < kSize; ++id) {
    const Sides both = seats.sides(1, id, kSize, 2, 1), one = seats.sides(1, id, kSize, 2, 2);
    EXPECT_EQUAL(both.crew.id, id);
    EXPECT_EQUAL(both.crew.size, kSize);
    EXPECT_EQUAL(both.end - both.begin, 2);
    const bool first = id < 3;
    EXPECT_EQUAL(one.begin, first ? 0 : 1);
    EXPECT_EQUAL(one.end - one.begin, 1);
    EXPECT_EQUAL(one.crew.id, first ? id : id - 3);
    EXPECT_EQUAL(one.crew.size, first ? 3 : 2);
  }
}

UNIT(every_ticket_is_taken_once) {
  constexpr int kSize = 4, kTickets = 1000000;  // enough for threads to overlap
  const Seats seats(kSize, 1);
  Tickets tickets;
  std::vector<std::atomic<int>> times(kTickets);
  on_threads(kSize, [&](int id) {
    seats.team(id, kSize).wait();
    for (int64_t ticket = tickets.take(); ticket < kTickets; ticket = tickets.take())
      ++times[ticket];
  });
  for (const std::atomic<int>& count : times) EXPECT_EQUAL(count.load(), 1);
  tickets.reset();
  EXPECT_EQUAL(tickets.take(), 0);
}

UNIT(shares_are_even_and_leave_nothing_out) {
  for (int64_t n = 0; n < 20; ++n) {
    for (int parts = 1; parts < 8; ++parts) {
      int64_t end = 0;
      for (int part = 0; part < parts; ++part) {
        const Range mine = share(n, part, parts);
        EXPECT_EQUAL(mine.begin, end);
        EXPECT((mine.end - mine.begin) * parts <= n + parts - 1);
        end = mine.end;
      }
      EXPECT_EQUAL(end, n);
    }
  }
}

UNIT(a_group_counts_every_so_manyth_active_row) {
  for (int64_t first = 0; first < 4; ++first) {
    for (int64_t active = 0; active < 12; ++active) {
      int64_t count = 0;
      for (int64_t r = first; r < active; r += 4) ++count;
      EXPECT_EQUAL((Rows{first, 4}).count(active), count);
    }
  }
}

}  // namespace
}  // namespace fastrnn
