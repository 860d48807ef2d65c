// Where the code of programs finds its operands: some rows and units, and for each of them where
// the quantities lie that an instruction reads and writes.

// Vectors that a register holds
constexpr int kBlockVectors = 24;

// The units of a row in a panel: `unit` is the first of them.
struct Segment {
  int64_t row, panel, unit;
};

// The segments that an instruction works on: those of some rows in a panel, or those of a single
// row in several panels, all full.
template <class Real>
struct ProgramBlock {
  static constexpr int64_t kWidth = kColumnVectors * kLanes<Real>;

  ProgramBlock(int64_t H, int64_t panel, int64_t panels, int64_t rows)
      : first{0, panel, panel * kWidth},
        valid(H - first.unit),
        vectors(valid < kWidth ? static_cast<int>((valid + kLanes<Real> - 1) / kLanes<Real>)
                               : kColumnVectors),
        segments(rows * panels),
        across(panels > 1) {}
  Segment first;
  int64_t valid;     // units from the first on
  int vectors;       // of a segment
  int64_t segments;  // row by row, or of one row panel by panel
  bool across;

  int64_t rows_at_once() const { return kBlockVectors / vectors; }
  int64_t size() const { return segments * vectors; }
  bool is_full() const { return valid >= kWidth; }
};

template <class Real>
constexpr int64_t kRegister = kBlockVectors * kLanes<Real>;

// Calls each(m, segment) for the m-th segment.
template <class Real, class Each>
FASTRNN_INLINE void each_segment(const ProgramBlock<Real>& block, Each each) {
  Segment at = block.first;
  const int64_t panels = block.across, rows = !block.across;
  for (int64_t m = 0; m < block.segments; ++m) {
    each(m, at);
    at.row += rows;
    at.panel += panels;
    at.unit += panels * ProgramBlock<Real>::kWidth;
  }
}

// Calls each(lane) for the vectors of a segment. Most panels are full, and there the loop is
// unrolled.
template <class Real, class Each>
FASTRNN_INLINE void each_vector(const ProgramBlock<Real>& block, Each each) {
  if (block.vectors == kColumnVectors) {
    for (int j = 0; j < kColumnVectors; ++j) each(j * kLanes<Real>);
  } else {
    for (int j = 0; j < block.vectors; ++j) each(j * kLanes<Real>);
  }
}

// What stands for the recurrent share where it is zero
template <class Real>
alignas(64) constexpr Real kNoShare[ProgramBlock<Real>::kWidth] = {};

// Of each place, where the segments of a block have it
template <class Real>
struct Places {
  Real* first[Operand::kPlaces][kBlockVectors];  // that of number 0
  int64_t stride[Operand::kPlaces];              // from one number to the next

  int64_t offset(Operand of) const { return of.number * stride[of.place]; }
  Real* at(Operand of, int64_t m) const { return first[of.place][m] + offset(of); }

  // of(segment) yields where number 0 lies.
  template <class Of>
  void set(const ProgramBlock<Real>& block, int place, int64_t from_one_to_next, Of of) {
    stride[place] = from_one_to_next;
    each_segment(block, [&](int64_t m, const Segment& segment) {
      first[place][m] = const_cast<Real*>(of(segment));
    });
  }

  void set_registers(const ProgramBlock<Real>& block, Real* registers) {
    stride[Operand::kWhole] = stride[Operand::kRegister] = kRegister<Real>;
    for (int64_t i = 0; i < kBlockVectors / kColumnVectors; ++i)
      first[Operand::kWhole][i] = registers + i * ProgramBlock<Real>::kWidth;
    for (int64_t m = 0; m < block.segments; ++m)
      first[Operand::kRegister][m] = registers + m * block.vectors * kLanes<Real>;
  }
};

// Calls set(place) for each place of some code that is not a register.
template <class Set>
FASTRNN_INLINE void each_place(uint64_t places, Set set) {
  const uint64_t registers = uint64_t{1} << Operand::kWhole | uint64_t{1} << Operand::kRegister;
  for (uint64_t left = places & ~registers; left; left &= left - 1) set(__builtin_ctzll(left));
}

// The places that code of either pass has
template <class Real, class Row>
FASTRNN_INLINE void set_place(const ProgramStep<Real>& own, int64_t H, const Row* rows,
                              const ProgramBlock<Real>& block, int place, Places<Real>* places) {
  constexpr int64_t width = ProgramBlock<Real>::kWidth;
  switch (place) {
    case Operand::kConstants:
      places->set(block, place, width, [&](const Segment&) { return own.constants; });
      break;
    case Operand::kVectors:
      places->set(block, place, H, [&](const Segment& at) { return own.vectors + at.unit; });
      break;
    case Operand::kExtras:
      places->set(block, place, 1,
                  [&](const Segment& at) { return rows[at.row].extras + at.unit; });
      break;
    case Operand::kKept:
      places->set(block, place, width, [&](const Segment& at) {
        return rows[at.row].saved + at.panel * own.kept_panel;
      });
      break;
    default:
      if (place < Operand::kAfter) {
        const int state = place - Operand::kBefore;
        places->set(block, place, 0,
                    [&](const Segment& at) { return rows[at.row].before[state] + at.unit; });
      } else {
        const int state = place - Operand::kAfter;
        places->set(block, place, 0,
                    [&](const Segment& at) { return rows[at.row].after[state] + at.unit; });
      }
  }
}
