#include "openmp.h"

#if defined(__linux__)
#include <dlfcn.h>
#endif

namespace fastrnn {

#if defined(__linux__)

namespace {

template <class Function>
bool find(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
  return function != nullptr;
}

// Of a library and of those that it is linked to; without `parallel` if anything is missing.
OpenMp openmp_of(void* library) {
  OpenMp all = {};
  Dl_info where;
  const bool complete = find(library, "GOMP_parallel", all.parallel) &&
                        find(library, "GOMP_barrier", all.barrier) &&
                        find(library, "omp_get_num_threads", all.team_size) &&
                        find(library, "omp_get_thread_num", all.thread_id) &&
                        find(library, "omp_in_parallel", all.in_parallel) &&
                        find(library, "omp_get_num_procs", all.processors) &&
                        dladdr(reinterpret_cast<void*>(all.parallel), &where) != 0;
  if (!complete) return {};
  all.library = where.dli_fname;
  return all;
}

}  // namespace

const OpenMp* torchs_openmp() {
  // Never closed: torch stays as long as the process.
  void* const torch = dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD);
  if (!torch) return nullptr;
  static const OpenMp found = openmp_of(torch);
  return &found;
}

#else

const OpenMp* torchs_openmp() { return nullptr; }

#endif

}  // namespace fastrnn
