// Whether the machine is crowded: whether threads of a team keep one another waiting because other
// work takes their processors away. The calls of a process share what they learn.
#pragma once

#include <cstdint>

namespace fastrnn {

int64_t nanoseconds_now();

// Tells of a wait of some members of a crew, between steps that should take all of them the same
// time, that has lasted much longer than a step. True if such waits have cost so much lately that
// fewer threads would be faster.
bool report_long_wait(int64_t begin, int64_t end, int crew_size, int waiting = 1);

// As many of `wanted` threads as are worth having now: half as many, or a quarter, ..., for a while
// after a crew was found crowded; then twice as many again, for a try.
int uncrowded_threads(int wanted);

// For tests: crews halve after every so many waits whatever the machine is like, never if that is
// negative, and as it is for 0.
void pretend_crowded(int waits);
int pretended_waits();

}  // namespace fastrnn
