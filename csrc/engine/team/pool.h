// Threads of the engine's own, for processes that have no OpenMP.
#pragma once

namespace fastrnn {

// Calls body(context, id, size) on this thread, as id 0, and on up to `wanted` - 1 of the pool's,
// and returns when all have returned. size: as many as there were, for which prepare(context, size)
// is called first if that is not `wanted`. The pool has a thread less than the process may use
// processors; they start when they are first wanted. Calls that run at the same time share them, so
// that the second gets what the first has left.
void run_on_pool(int wanted, void (*prepare)(void* context, int size),
                 void (*body)(void* context, int id, int size), void* context);

}  // namespace fastrnn
