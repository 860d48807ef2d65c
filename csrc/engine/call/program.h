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

// Code whose operands are at places (placing.h)
struct PlacedCode {
  std::vector<PlacedInstruction> all;
  uint64_t places = 0;

  Code view() const { return {all.data(), static_cast<int64_t>(all.size()), places}; }
};

struct ProgramStage {
  int registers = 0;
  std::vector<Instruction> code;
  std::vector<Instruction> of_rows = {};  // goes before it, and computes a number for each row
  // What complete() works out:
  PlacedCode whole = {}, part = {}, rows = {};  // as in ProgramStep
};

struct ProgramPass {
  std::vector<ProgramStage> stages;
  std::vector<int> product;  // [stages] as in Stages
  // What complete() works out:
  double cycles = 0;  // of a vector, roughly
  int input = 0;      // forward, which stage has the input's product

  Stages products() const { return {static_cast<int>(stages.size()), product.data()}; }
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
  ProgramPass forward, forward_saving, backward;

  // What complete() works out:
  int registers = 0;                  // of the stage that has most
  bool sets_hidden_gradient = false;  // beside what the product with the hidden state gives
  bool adds_extra_gradients = false;
  bool meets = false;  // must rows' units wait for one another at the end of a step?

  const ProgramPass& forward_pass(bool save) const { return save ? forward_saving : forward; }
  int first_held() const { return states - held; }

  // Throws std::invalid_argument, saying what, where code could reach beyond what there is.
  void complete();
  // The same for a layer with a projection, whose hidden state has other features than its units:
  // then the first product alone may read it.
  void check_projection() const;
};

enum class OpKind { kSource, kSink, kArithmetic };
OpKind kind_of(Op op);
int registers_read(Op op);

Instruction make_instruction(const std::string& op, int to, int a, int b, int c);

}  // namespace fastrnn
