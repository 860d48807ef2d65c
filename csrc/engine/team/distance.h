// How far apart the threads of a team are: how long a signal takes from one to another. It depends
// on the caches that their processors share, and a host may move a virtual machine's processors at
// any time. The calls of a process share what they measure.
#pragma once

#include <cstdint>

namespace fastrnn {

// What a signal takes: as measured lately, or what is usual where nothing has been measured yet
double signal_nanoseconds();

// Is it to be measured anew, at this time? True for one caller, once in a while.
bool signal_is_due(int64_t now);

// What a team has measured. A longer time than any two processors need is not taken: other work
// has had the processor of one of the threads meanwhile.
void report_signal(double nanoseconds);

// For tests: a time that signals take from now on, whatever is measured; 0: as it is.
void pretend_signal(double nanoseconds);

}  // namespace fastrnn
