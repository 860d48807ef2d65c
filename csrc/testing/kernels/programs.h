// Cells as programs, written by hand.
#pragma once

#include "engine/call/program.h"

namespace fastrnn::plain {

// torch's RNN with tanh
inline Program tanh_cell() {
  Program cell;
  cell.gates = cell.slots = 1;
  cell.gate_of_slot = {0};
  cell.input = {0, 1};
  cell.products = {{0, 1}};
  cell.initial = {0};
  cell.saved = 1;
  cell.forward = {
      {{2, {{Op::pre, 0, 0, 0, 0}, {Op::tanh, 1, 0, 0, 0}, {Op::set_state, 0, 1, 0, 0}}}}, {0}};
  cell.forward_saving = cell.forward;
  cell.forward_saving.stages[0].code.push_back({Op::keep, 0, 1, 0, 0});
  cell.backward = {{{3,
                     {{Op::d_state, 0, 0, 0, 0},
                      {Op::kept, 1, 0, 0, 0},
                      {Op::d_tanh, 2, 0, 1, 0},
                      {Op::set_d_pre, 0, 2, 0, 0}}}},
                   {0}};
  cell.complete();
  return cell;
}

// h = op(a, b, c), the three gates of the input's product, without recurrent weights
inline Program cell_of(Op op) {
  Program cell;
  cell.gates = cell.slots = 3;
  cell.gate_of_slot = {0, 1, 2};
  cell.input = {0, 3};
  cell.products = {{0, 0}};
  cell.recurrent = false;
  cell.initial = {0};
  cell.forward = {{{4,
                    {{Op::input, 0, 0, 0, 0},
                     {Op::input, 1, 1, 0, 0},
                     {Op::input, 2, 2, 0, 0},
                     {op, 3, 0, 1, 2},
                     {Op::set_state, 0, 3, 0, 0}}}},
                  {-1}};
  cell.forward_saving = cell.backward = {{{0, {}}}, {-1}};
  cell.complete();
  return cell;
}

// h = the negative of the sum of the input's product over all units, by code of rows
inline Program sum_cell() {
  Program cell;
  cell.gates = cell.slots = 1;
  cell.gate_of_slot = {0};
  cell.input = {0, 1};
  cell.products = {{0, 0}};
  cell.recurrent = false;
  cell.initial = {0};
  cell.forward_sums = 1;
  cell.forward = {{{1, {{Op::input, 0, 0, 0, 0}, {Op::add_to_sum, 0, 0, 0, 0}}},
                   {2,
                    {{Op::spread, 1, 0, 0, 0}, {Op::set_state, 0, 1, 0, 0}},
                    {{Op::sum, 0, 0, 0, 0}, {Op::neg, 0, 0, 0, 0}}}},
                  {-1, -1}};
  cell.forward_saving = cell.backward = {{{0, {}}}, {-1}};
  cell.complete();
  return cell;
}

}  // namespace fastrnn::plain
