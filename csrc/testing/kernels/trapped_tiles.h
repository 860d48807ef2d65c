// AMX on processors without it: the signal that its instructions raise there is taken for a call.
#pragma once

namespace fastrnn {

// From now on tile instructions are computed as Intel's manual defines them, in as many shapes as
// it allows; what it forbids ends the process. False where that cannot be done.
bool trap_tiles();

// Whether this thread's have a shape and were not released since, as far as they are trapped
bool tiles_are_held();

}  // namespace fastrnn
