#include "crowd.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <mutex>

namespace fastrnn {
namespace {

constexpr int64_t kMillisecond = 1000000;

// A wait for a thread that has lost its processor lasts a good part of one of the scheduler's
// slices, which are 3 to 10 milliseconds. Those count together that begin within a few slices of
// the first one; a few may be chance, and so may many in a short time: a host may take processors
// away from a virtual machine for some milliseconds, and no number of threads helps against that.
constexpr int64_t kLeastWait = kMillisecond / 4;
constexpr int64_t kShortestWindow = 30 * kMillisecond;
constexpr int64_t kLongestWindow = 100 * kMillisecond;
constexpr int kFewWaits = 3;

// How long fewer threads are used before more are tried: twice as long each time that a try fails.
// A try takes a window, and has to be the lesser part of the time.
constexpr int64_t kShortestRest = 100 * kMillisecond;
constexpr int64_t kLongestRest = 2000 * kMillisecond;
constexpr int kMostHalvings = 16;

class Crowd {
 public:
  bool report(int64_t begin, int64_t end, int crew_size, int waiting) {
    if (end - begin < kLeastWait) return false;
    const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock) return false;
    if (std::abs(begin - window_) > kLongestWindow) {
      window_ = begin;
      waits_ = 0;
      lost_ = 0;
    }
    ++waits_;
    lost_ += (end - begin) * waiting;
    // Half of the time of all members but the one that the others wait for: what would be won with
    // half as many, if these did not wait.
    const int64_t window = end - window_;
    if (waits_ < kFewWaits || window < kShortestWindow) return false;
    if (2 * lost_ < window * (crew_size - 1)) return false;
    window_ = end;
    waits_ = 0;
    lost_ = 0;
    use_half_as_many(end);
    return true;
  }

  int threads(int wanted) {
    if (halvings_.load(std::memory_order_relaxed) == 0) return wanted;
    const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (lock) {
      const int64_t now = nanoseconds_now();
      if (now > rest_end_ && halvings_ > 0) {
        --halvings_;
        tried_ = now;
        rest_end_ = now + rest_;
      }
    }
    return std::max(1, wanted >> halvings_.load(std::memory_order_relaxed));
  }

 private:
  void use_half_as_many(int64_t now) {
    rest_ = now - tried_ < rest_ ? std::min(2 * rest_, kLongestRest) : kShortestRest;
    rest_end_ = now + rest_;
    if (halvings_ < kMostHalvings) ++halvings_;
  }

  std::mutex mutex_;
  int64_t window_ = 0, lost_ = 0;
  int waits_ = 0;
  std::atomic<int> halvings_{0};
  int64_t rest_ = kShortestRest, rest_end_ = 0, tried_ = 0;
};

std::atomic<int> pretended{0};

// Never destroyed: a thread may be in a call while the process ends.
Crowd& crowd() {
  static Crowd* const only = new Crowd;
  return *only;
}

}  // namespace

int64_t nanoseconds_now() {
  using std::chrono::steady_clock;
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             steady_clock::now().time_since_epoch())
      .count();
}

bool report_long_wait(int64_t begin, int64_t end, int crew_size, int waiting) {
  return pretended_waits() == 0 && crowd().report(begin, end, crew_size, waiting);
}

int uncrowded_threads(int wanted) {
  return pretended_waits() == 0 ? crowd().threads(wanted) : wanted;
}

void pretend_crowded(int waits) { pretended.store(waits, std::memory_order_relaxed); }

int pretended_waits() { return pretended.load(std::memory_order_relaxed); }

}  // namespace fastrnn
