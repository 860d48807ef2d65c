// The OpenMP that the rest of the process computes with. A team that runs on its threads wakes no
// second pool beside it. The engine is linked to none.
#pragma once

namespace fastrnn {

// Entries of libgomp, which LLVM's library has as well.
struct OpenMp {
  void (*parallel)(void (*body)(void* context), void* context, unsigned threads, unsigned flags);
  void (*barrier)();
  int (*team_size)();
  int (*thread_id)();
  int (*in_parallel)();
  int (*processors)();
  const char* library;  // the path of its file
};

// How to find it: `search` is called at every call of openmp() while it returns null, which means
// not yet. One without `parallel` means never.
void search_openmp_by(const OpenMp* (*search)());

// Null if there is none so far
const OpenMp* openmp();

// For tests: as if there were none.
void pretend_no_openmp(bool none);

}  // namespace fastrnn
