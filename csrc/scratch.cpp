#include "scratch.h"

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace fastrnn {
namespace {

constexpr int64_t kCacheLine = 64;
constexpr int64_t kLargePage = int64_t{2} << 20;

struct Block {
  char* data;
  int64_t bytes;
};

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

int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

Block allocate(int64_t bytes) {
  const int64_t alignment = bytes < kLargePage ? kCacheLine : kLargePage;
  bytes = round_up(std::max(bytes, alignment), alignment);
  char* const data = static_cast<char*>(std::aligned_alloc(alignment, bytes));
  if (!data) throw std::bad_alloc();
  advise_large_pages(data, bytes);
  return {data, bytes};
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
  std::free(block.data);
  return allocate(bytes);
}

}  // namespace

Scratch::Scratch(int64_t bytes) {
  const Block block = take(bytes);
  data_ = block.data;
  bytes_ = block.bytes;
}

Scratch::~Scratch() {
  Pool& to = pool();
  const auto lock = try_lock(to);
  if (lock && bytes_ <= kMostKept) {
    to.idle.push_back({data_, bytes_});
  } else {
    std::free(data_);
  }
}

void empty_cache() {
  Pool& all = pool();
  const auto lock = try_lock(all);
  if (!lock) return;
  for (const Block& block : all.idle) std::free(block.data);
  all.idle.clear();
}

void advise_large_pages(char* data, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  const uintptr_t address = reinterpret_cast<uintptr_t>(data);
  const uintptr_t begin = round_up(address, kLargePage);
  const uintptr_t end = (address + bytes) / kLargePage * kLargePage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)data;
  (void)bytes;
#endif
}

}  // namespace fastrnn
