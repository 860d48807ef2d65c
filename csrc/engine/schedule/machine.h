// The machine as the cost model sees it: all of the model's constants. Cycles are those of one
// core. What names no source was fitted by forcing every other choice on an AVX-512 server core
// (docs/performance.md, "The choice of a split"). Rough on purpose: the choices are wide apart
// except near the borders, where either is good.
#pragma once

#include <cstdint>

namespace fastrnn {

// ---- a core: round figures of current x86 and Arm servers ----

constexpr double kFmaPerCycle = 2;           // vectors
constexpr double kFmaLatency = 4;            // cycles
constexpr double kNearBytesPerCycle = 40;    // from the second-level cache
constexpr double kFarBytesPerCycle = 24;     // from the third-level cache
constexpr double kMemoryBytesPerCycle = 12;  // from beyond it
constexpr double kNanosecondsOfCycle = 0.4;  // at 2.5 GHz

// ---- its caches, in bytes ----

// What Linux says of the first core's, else usual sizes. (sysconf counts the third level of a whole
// socket on some processors, not what a core reaches of it.) Asked of the system at the first use.
struct Caches {
  int64_t second_level;
  int64_t third_level;

  // As much as weights may take, so that what a step works on has room beside them
  int64_t near() const { return second_level * 3 / 4; }
  int64_t far() const { return third_level * 2 / 3; }
};
const Caches& caches();

// ---- what the kernels cost, in cycles ----

constexpr double kTileCycles = 60;          // starting and emptying a tile
constexpr double kForwardRowCycles = 60;    // the equations, for one row of one panel
constexpr double kBackwardRowCycles = 160;  // the same of their derivatives
constexpr double kPackingPerCycle = 4;      // weights that are packed
constexpr double kCentringCycles = 0.6;     // a weight less its column's mean
constexpr double kDrawingCycles = 0.5;      // a number of a mask
constexpr double kTimesProjectedMoves = 3;  // what is projected is fetched, written, read again

// ---- what threads cost, in cycles ----

// Of a signal from one thread to another, in nanoseconds, where none has been measured (distance.h)
constexpr double kUsualSignal = 60;
// At a barrier after a step, signals come one after the other, and after them the lines of memory
// with what was computed, which take about as long as so many signals. (Two threads that share a
// cache and two that share none: 60 and 260 for a signal, 290 and 1150 for a barrier.)
constexpr double kSignalsOfLines = 3;
// What the dearest signals cost in usual ones: the hour may change in the course of a call
constexpr double kDearestSignal = 3;
// Lines that one thread has written and another reads one after the other take their signals so
// many at a time.
constexpr double kLinesAtOnce = 3;
constexpr double kTeamCycles = 40000;  // waking the threads of a call, and the risk of waiting

// ---- time blocks ----

// Rows of one whose input is projected ahead
constexpr int64_t kLeastBlockRows = 64;
constexpr int64_t kMostBlockRows = 512;

// Rows of one in the backward pass. Sums over rows are cut here: another number would change the
// last bits of weight gradients.
constexpr int64_t kBackwardBlockRows = 1024;

// Blocks that helpers project are short, since the first has nothing to hide behind: so many of
// them, but of so many steps at the least, to be worth a barrier. A piece of one is worth its pass
// over the weights.
constexpr int64_t kHelpedBlocks = 4;
constexpr int64_t kLeastHelpedSteps = 64;
constexpr int64_t kTilesOfPiece = 4;

// Tiles of rows, of all steps together, up to which it is not worth packing weights for backward
constexpr int64_t kFewTiles = 3;

}  // namespace fastrnn
