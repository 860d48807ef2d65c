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

template <class Real>
void run_backward(const BackwardStep<Real>& p, const BackwardRow<Real>* rows,
                  const ProgramBlock<Real>& block, const ComingBlock<Real>& coming) {
  constexpr int64_t width = ProgramBlock<Real>::kWidth;
  const ProgramStep<Real>& own = *p.program;
  const int64_t units = block.is_full() ? width : block.valid;
  for (int64_t i = 0; i < own.of_rows.count; ++i) {
    if (own.of_rows.first[i].op == Op::kept) prefetch_kept(own, coming, own.of_rows.first[i].a, 1);
  }
  run_rows(own, rows, block, [&](Op op, const Segment& at, int number) {
    if (op == Op::kept)
      return const_cast<Real*>(rows[at.row].saved) + at.panel * own.kept_panel + number * width;
    return quantity(rows[at.row].temps, at, own.temps, number, width);
  });
  const Instruction* const end = own.code.first + own.code.count;
  for (const Instruction* at = own.code.first; at < end;) {
    Real* to = own.registers + at->to * kRegister<Real>;
    const Real* from = own.registers + at->a * kRegister<Real>;
    const int a = at->a, number = at->to;
    if (at->op <= Op::sum) {
      if (at->op == Op::kept) prefetch_kept(own, coming, a, width);
      take_source(own, p.H, rows, block, at->op, a, to);
      ++at;
      continue;
    }
    switch (at->op) {
      case Op::after:
        take_state(block, a, to,
                   [&](const Segment& segment) { return rows[segment.row].after[a]; });
        break;
      case Op::d_state:
        take(block, to, [&](int64_t, const Segment& segment) {
          return rows[segment.row].d_states[a] + segment.unit;
        });
        if (a == kHidden) add_from_above(block, rows, to);
        break;
      case Op::d_operand:
        take(block, to, [&](int64_t, const Segment& segment) {
          return rows[segment.row].d_operands[a] + segment.unit;
        });
        break;
      case Op::temp:
        take(block, to, [&](int64_t, const Segment& segment) {
          return quantity(rows[segment.row].temps, segment, own.temps, a, width);
        });
        break;
      case Op::add_to_sum:
        add_to_sum(own, rows, block, from, number);
        break;
      case Op::set_d_pre:
        give_first(block, from, [&](const Segment& segment) {
          return rows[segment.row].d_pre + segment.panel * p.d_pre_panel + number * units;
        });
        break;
      case Op::set_d_state:
        give(block, from, [&](const Segment& segment) {
          return rows[segment.row].d_states[number] + segment.unit;
        });
        break;
      case Op::set_temp:
        give(block, from, [&](const Segment& segment) {
          return quantity(rows[segment.row].temps, segment, own.temps, number, width);
        });
        break;
      case Op::add_d_vector:
        each_segment(block, [&](int64_t, const Segment& segment) {
          Real* sum =
              quantity(rows[segment.row].d_vectors, segment, own.vector_count, number, width);
          each_vector(block,
                      [&](int lane) { store(sum + lane, load(sum + lane) + load(from + lane)); });
          from += block.vectors * kLanes<Real>;
        });
        break;
      case Op::add_d_extra:
        each_segment(block, [&](int64_t, const Segment& segment) {
          Real* row = rows[segment.row].d_extras + number * own.extras_width + segment.unit;
          for (int j = 0; j < block.vectors; ++j, from += kLanes<Real>)
            store(row + j * kLanes<Real>, load(row + j * kLanes<Real>) + load(from));
        });
        break;
      case Op::spread:
        spread(block, from, to);
        break;
      default:
        at = compute(at, end, own.registers, block.size());
        continue;
    }
    ++at;
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
