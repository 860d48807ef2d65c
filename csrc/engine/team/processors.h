// How many processors this process may use.
#pragma once

#include <string>

namespace fastrnn {

// The processors that it may run on and those that the quota of its control group pays for, the
// smaller number; at least one. Asked of the system once.
int usable_processors();

// Those that it may run on alone
int allowed_processors();

// Processors' worth of time that control groups, of version 1 or 2, grant this process, 0 for no
// limit. `root` stands before the paths of the system.
double processor_quota(const std::string& root = "");

// For tests: a number to take for that of usable_processors() from now on; 0: its own again.
void pretend_processors(int count);

}  // namespace fastrnn
