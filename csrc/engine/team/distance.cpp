#include "distance.h"

#include <atomic>

#include "engine/schedule/machine.h"

namespace fastrnn {
namespace {

// Measuring takes some microseconds.
constexpr int64_t kFromOneToTheNext = 20000000;
constexpr double kLongestSignal = 2000;

std::atomic<double> measured{kUsualSignal};
std::atomic<double> pretended{0};
std::atomic<int64_t> due{0};

}  // namespace

double signal_nanoseconds() {
  const double instead = pretended.load(std::memory_order_relaxed);
  return instead > 0 ? instead : measured.load(std::memory_order_relaxed);
}

bool signal_is_due(int64_t now) {
  int64_t seen = due.load(std::memory_order_relaxed);
  return now >= seen &&
         due.compare_exchange_strong(seen, now + kFromOneToTheNext, std::memory_order_relaxed);
}

void report_signal(double nanoseconds) {
  if (nanoseconds <= kLongestSignal) measured.store(nanoseconds, std::memory_order_relaxed);
}

void pretend_signal(double nanoseconds) { pretended.store(nanoseconds, std::memory_order_relaxed); }

}  // namespace fastrnn
