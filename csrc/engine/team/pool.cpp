#include "pool.h"

#include <atomic>
#include <cstdint>
#include <mutex>
#include <system_error>
#include <thread>

#include "parking.h"
#include "processors.h"
#include "spin.h"

namespace fastrnn {
namespace {

// How long a worker without work, or a caller whose own part is done, spins before it sleeps: calls
// follow one another and end together. In nanoseconds.
constexpr int64_t kPatience = 100000;

enum State : int { kIdle, kIdleAsleep, kBusy, kAwaited };

struct Job {
  void (*body)(void* context, int id, int size);
  void* context;
  int size;
};

struct alignas(64) Worker {
  std::atomic<int> state{kIdle};
  const Job* job = nullptr;
  int id = 0;
  Worker* next = nullptr;

  static bool busy(int state) { return state >= kBusy; }
  bool is_busy() const { return busy(state.load(std::memory_order_acquire)); }

  void start(const Job& work, int as) {
    job = &work;
    id = as;
    if (state.exchange(kBusy, std::memory_order_acq_rel) == kIdleAsleep) unpark(state);
  }

  // By who has started it: returns when it is done.
  void await() {
    if (spin(kPatience, [&] { return !is_busy(); }) == 0) return;
    int seen = kBusy;
    state.compare_exchange_strong(seen, kAwaited);
    while (is_busy()) park(state, kAwaited);
  }

  [[noreturn]] void work() {
    for (;;) {
      if (spin(kPatience, [&] { return is_busy(); }) != 0) {
        int seen = kIdle;
        state.compare_exchange_strong(seen, kIdleAsleep);
        while (!is_busy()) park(state, kIdleAsleep);
      }
      job->body(job->context, id, job->size);
      if (state.exchange(kIdle, std::memory_order_acq_rel) == kAwaited) unpark(state);
    }
  }
};

class Pool {
 public:
  // A list of up to so many idle workers
  Worker* take(int wanted) {
    const std::lock_guard<std::mutex> lock(mutex_);
    Worker* taken = nullptr;
    for (; wanted > 0; --wanted) {
      Worker* const worker = idle_ ? idle_ : started();
      if (!worker) break;
      if (worker == idle_) idle_ = idle_->next;
      worker->next = taken;
      taken = worker;
    }
    return taken;
  }

  void give_back(Worker* first) {
    const std::lock_guard<std::mutex> lock(mutex_);
    while (first) {
      Worker* const next = first->next;
      first->next = idle_;
      idle_ = first;
      first = next;
    }
  }

 private:
  // Null if there are enough, or if the system has no more threads.
  Worker* started() {
    if (count_ >= usable_processors() - 1) return nullptr;
    Worker* const worker = new Worker;
    try {
      std::thread(&Worker::work, worker).detach();
    } catch (const std::system_error&) {
      delete worker;
      return nullptr;
    }
    ++count_;
    return worker;
  }

  std::mutex mutex_;
  Worker* idle_ = nullptr;
  int count_ = 0;
};

// Never destroyed, nor are its workers: they may be at work while the process ends.
Pool& pool() {
  static Pool* const only = new Pool;
  return *only;
}

}  // namespace

void run_on_pool(int wanted, void (*prepare)(void* context, int size),
                 void (*body)(void* context, int id, int size), void* context) {
  Worker* const crew = pool().take(wanted - 1);
  int size = 1;
  for (const Worker* worker = crew; worker; worker = worker->next) ++size;
  if (size != wanted) prepare(context, size);
  const Job job = {body, context, size};
  int id = 1;
  for (Worker* worker = crew; worker; worker = worker->next) worker->start(job, id++);
  body(context, 0, size);
  for (Worker* worker = crew; worker; worker = worker->next) worker->await();
  pool().give_back(crew);
}

}  // namespace fastrnn
