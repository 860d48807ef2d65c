#include "scratch.h"

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <new>
#include <numeric>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#define FASTRNN_MMAP
#include <sys/mman.h>
#endif

namespace fastrnn {
namespace {

constexpr int64_t kLargePage = int64_t{2} << 20;

using Block = Scratch::Block;

struct Pool {
  std::mutex mutex;
  std::vector<Block> idle;
};

// Never destroyed: a thread may be in a call while the process ends.
Pool& pool() {
  static Pool* const only = new Pool;
  return *only;
}

// Does not wait, since in a forked child the lock may be held by a thread that is not there.
std::unique_lock<std::mutex> try_lock(Pool& pool) {
  return std::unique_lock<std::mutex>(pool.mutex, std::try_to_lock);
}

// Fewer faults when the memory is written
void advise_large_pages(char* data, int64_t bytes) {
#ifdef MADV_HUGEPAGE
  if (bytes < kWorthLeaving) return;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + kLargePage - 1) / kLargePage;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + bytes) / kLargePage;
  madvise(reinterpret_cast<void*>(begin * kLargePage), (end - begin) * kLargePage, MADV_HUGEPAGE);
#else
  (void)data;
  (void)bytes;
#endif
}

// Not by malloc where that can be avoided: in its heap a large hole would stay when one is given
// back.
Block allocate(int64_t bytes) {
#ifdef FASTRNN_MMAP
  void* const data =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) throw std::bad_alloc();
#else
  void* const data = std::malloc(bytes);
  if (!data) throw std::bad_alloc();
#endif
  advise_large_pages(static_cast<char*>(data), bytes);
  return {static_cast<char*>(data), bytes};
}

void give_back(const Block& block) {
#ifdef FASTRNN_MMAP
  munmap(block.data, block.bytes);
#else
  std::free(block.data);
#endif
}

// The smallest idle block of that size, if there is one; else one that is too small makes room for
// a new one.
Block take(int64_t bytes) {
  Pool& from = pool();
  const auto lock = try_lock(from);
  if (!lock || from.idle.empty()) return allocate(bytes);
  const auto suits_better = [&](const Block& a, const Block& b) {
    const bool fits = a.bytes >= bytes;
    return fits == (b.bytes >= bytes) ? a.bytes < b.bytes : fits;
  };
  const auto best = std::min_element(from.idle.begin(), from.idle.end(), suits_better);
  const Block block = *best;
  from.idle.erase(best);
  if (block.bytes >= bytes) return block;
  give_back(block);
  return allocate(bytes);
}

}  // namespace

Scratch::Scratch(int64_t bytes) : block_(take(bytes)) {}

Scratch::~Scratch() {
  Pool& to = pool();
  const auto lock = try_lock(to);
  const auto add = [](int64_t bytes, const Block& block) { return bytes + block.bytes; };
  if (lock && std::accumulate(to.idle.begin(), to.idle.end(), block_.bytes, add) <= kMostKept) {
    to.idle.push_back(block_);
  } else {
    give_back(block_);
  }
}

void empty_cache() {
  Pool& all = pool();
  const auto lock = try_lock(all);
  if (!lock) return;
  for (const Block& block : all.idle) give_back(block);
  all.idle.clear();
}

}  // namespace fastrnn
