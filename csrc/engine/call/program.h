// A cell that was written as a program: what its layers consist of, and the code of its stages. The
// code is made in Python (python/fastrnn/_program).
#pragma once

#include <cstdint>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "engine/kernels/code.h"

namespace fastrnn {

struct ProgramStage {
  int product = -1;  // forward: the one before the code; backward: the one after it; -1: none
  int registers = 0;
  std::vector<Instruction> code;

  Code view() const { return {code.data(), static_cast<int64_t>(code.size())}; }
};

struct Program {
  int gates = 0;                  // blocks of H rows of a weight matrix
  int states = 1;                 // the hidden one first, which is what the layer puts out
  int held = 0;                   // of the states, the last ones: a call keeps what it was given
  int slots = 0;                  // pre-activations of a unit
  std::vector<int> gate_of_slot;  // [slots]
  Slots input;                    // those that the input's product adds to
  std::vector<Slots> products;  // those of each recurrent product; the first is of the hidden state
  int vectors = 0;              // learned values of each unit
  std::vector<Extra> extras;
  int64_t heads = 1;            // blocks on the diagonal of the recurrent weights
  bool recurrent = true;        // are there any?
  std::vector<double> initial;  // [states] what a reset goes back to
  std::vector<double> constants;
  int kept = 0;                             // quantities of a unit that pass from stage to stage,
  int saved = 0;                            // or from forward to backward,
  int temps = 0;                            // or from stage to stage backward
  int forward_sums = 0, backward_sums = 0;  // over the units of a row
  std::vector<ProgramStage> forward, forward_saving, backward;

  const std::vector<ProgramStage>& stages(bool save) const {
    return save ? forward_saving : forward;
  }
  int registers() const;
  int first_held() const { return states - held; }
  bool sets_hidden_gradient() const;  // beside what the product with the hidden state gives
  bool adds_extra_gradients() const;

  // Must rows' units wait for one another at the end of a step?
  bool meets() const;

  // Throws std::invalid_argument, saying what, where code could reach beyond what there is.
  void check() const;
  // The same for a layer with a projection, whose hidden state has other features than its units:
  // then the first product alone may read it.
  void check_projection() const;
};

Instruction make_instruction(const std::string& op, int to, int a, int b, int c);

// Cycles that a stage's code takes for one row of a panel of `vectors` vectors, roughly
double cycles_of(const std::vector<ProgramStage>& stages, int vectors);

}  // namespace fastrnn
