// The backward steps of cells that were written as programs.

// Rows and panels of a step whose turn comes next
template <class Real>
struct ComingBlock {
  const BackwardRow<Real>* rows;
  int64_t count, panel, panels;
};

// A quantity that was kept for them. It lies far apart for different rows, so that the processor
// does not see it coming; and all that is kept at once would be more lines than it waits for.
template <class Real>
FASTRNN_INLINE void prefetch_kept(const ProgramStep<Real>& own, const ComingBlock<Real>& coming,
                                  int number, int64_t size) {
  for (int64_t m = 0; m < coming.count; ++m) {
    const Real* from =
        coming.rows[m].saved + coming.panel * own.kept_panel + number * ProgramBlock<Real>::kWidth;
    for (int64_t i = 0; i < coming.panels; ++i, from += own.kept_panel)
      for (int64_t j = 0; j < size; j += kLine<Real>) __builtin_prefetch(from + j);
  }
}

// Where the code of a stage finds its operands
template <class Real>
FASTRNN_INLINE void set_places(const BackwardStep<Real>& p, const Code& code,
                               const BackwardRow<Real>* rows, const ProgramBlock<Real>& block,
                               Places<Real>* places) {
  constexpr int64_t width = ProgramBlock<Real>::kWidth;
  const ProgramStep<Real>& own = *p.program;
  places->set_registers(block, own.registers);
  each_place(code.places | own.of_rows.places, [&](int place) {
    switch (place) {
      case Operand::kTemps:
        places->set(block, place, width, [&](const Segment& at) {
          return rows[at.row].temps + at.panel * own.temps * width;
        });
        break;
      case Operand::kDPre:
        places->set(block, place, block.is_full() ? width : block.valid, [&](const Segment& at) {
          return rows[at.row].d_pre + at.panel * p.d_pre_panel;
        });
        break;
      default:
        if (place < Operand::kGradients) {
          set_place(own, p.H, rows, block, place, places);
        } else if (place < Operand::kOperands) {
          const int state = place - Operand::kGradients;
          places->set(block, place, 0,
                      [&](const Segment& at) { return rows[at.row].d_states[state] + at.unit; });
        } else {
          const int product = place - Operand::kOperands;
          places->set(block, place, 0, [&](const Segment& at) {
            return rows[at.row].d_operands[product] + at.unit;
          });
        }
    }
  });
}

// The gradient of the hidden state, which that of the output joins
template <class Real>
FASTRNN_INLINE void take_hidden_gradient(const BackwardRow<Real>* rows,
                                         const ProgramBlock<Real>& block, Real* to) {
  each_segment(block, [&](int64_t, const Segment& at) {
    const Real* own = rows[at.row].d_states[kHidden] + at.unit;
    if (const Real* above = rows[at.row].d_y) {
      above += at.unit;
      each_vector(block, [&](int lane) {
        store<Real>(to + lane, load(own + lane) + load_first(above + lane, block.valid - lane));
      });
    } else {
      each_vector(block, [&](int lane) { store(to + lane, load(own + lane)); });
    }
    to += block.vectors * kLanes<Real>;
  });
}

// sum[unit] += from[unit] for what to(segment) yields
template <class Real, class To>
FASTRNN_INLINE void add_to_units(const ProgramBlock<Real>& block, const Places<Real>& places,
                                 Operand from, To to) {
  each_segment(block, [&](int64_t m, const Segment& at) {
    const Real* one = places.at(from, m);
    Real* sum = to(at);
    each_vector(block,
                [&](int lane) { store<Real>(sum + lane, load(sum + lane) + load(one + lane)); });
  });
}

template <class Real>
void run_backward(const BackwardStep<Real>& p, const BackwardRow<Real>* rows,
                  const ProgramBlock<Real>& block, const ComingBlock<Real>& coming) {
  constexpr int64_t width = ProgramBlock<Real>::kWidth;
  const ProgramStep<Real>& own = *p.program;
  const Code& code = block.is_full() ? own.whole : own.part;
  Places<Real> places;
  set_places(p, code, rows, block, &places);
  for (int64_t i = 0; i < own.of_rows.count; ++i) {
    const Operand& from = own.of_rows.first[i].a;
    if (own.of_rows.first[i].op == Op::take && from.place == Operand::kKept)
      prefetch_kept(own, coming, from.number, 1);
  }
  run_rows(own, rows, block, places);
  const Walk segments = walk_of(block), registers = walk_of_registers(block);
  const PlacedInstruction *at = code.first, *const end = code.first + code.count;
  for (; (at = compute(at, end, places, segments, registers)) < end; ++at) {
    switch (at->op) {
      case Op::prefetch:
        prefetch_kept(own, coming, at->a.number, width);
        break;
      case Op::d_state:
        take_hidden_gradient(rows, block, places.at(at->to, 0));
        break;
      case Op::add_d_vector:
        add_to_units(block, places, at->a, [&](const Segment& segment) {
          return rows[segment.row].d_vectors +
                 (segment.panel * own.vector_count + at->to.number) * width;
        });
        break;
      case Op::add_d_extra:
        add_to_units(block, places, at->a, [&](const Segment& segment) {
          return rows[segment.row].d_extras + at->to.number * own.extras_width + segment.unit;
        });
        break;
      default:
        run_other(own, rows, block, places, *at);
    }
  }
}

template <class Real>
void program_backward(const BackwardStep<Real>& p) {
  typedef ProgramBlock<Real> Block;
  const bool descending = false;
  each_group<Real>(p, descending, [&](int64_t panel, int64_t panels) {
    const int64_t at_once = Block(p.H, panel, panels, 0).rows_at_once();
    const int64_t next = panel + panels, rest = p.panel_end - next;
    for (int64_t r = 0; r < p.count; r += at_once) {
      const int64_t left = p.count - r, some = left < at_once ? left : at_once;
      ComingBlock<Real> coming = {p.rows + r + some, left < 2 * some ? left - some : some, panel,
                                  panels};
      if (some == left) {
        coming = {p.rows, rest > 0 ? (p.count < some ? p.count : some) : 0, next,
                  rest < panels ? rest : panels};
      }
      run_backward(p, p.rows + r, Block(p.H, panel, panels, some), coming);
    }
  });
}
