// LSTM (Hochreiter & Schmidhuber 1997, forget gate of Gers et al. 2000): the equations of one lane,
// forward and backward. Lane is a vector of units on the CPU, one float on a GPU; sigmoid and tanh
// are found for it by name.

struct Lstm {
  static constexpr int kGates = 4;                          // blocks of H rows in w_ih and w_hh
  static constexpr int kHiddenGates = 4;                    // of these meet h * w_hh^T at once
  static constexpr int kSlots = 4;                          // pre-activations kept apart
  static constexpr int kInputSlot = 0;                      // first slot that x * w_ih^T adds to
  static constexpr int kHiddenSlot = 0;                     // first slot that h * w_hh^T adds to
  static constexpr int kGateOfSlot[kSlots] = {0, 1, 2, 3};  // torch's order: i f g o
  static constexpr int kStates = 2;                         // h and what stays within the cell
  static constexpr bool kReadsPreviousHidden =
      false;                                    // beside the product with w_hh; its gradient too
  static constexpr bool kSavesGates = true;     // backward needs saved[kSlots]
  static constexpr bool kHasPeepholes = false;  // sees c beside the recurrence of c itself
  static constexpr int kStages = 1;             // 2: some gates meet a product of what others gave

  // i, f, o = sigmoid(pre), g = tanh(pre); c = f * c_prev + i * g; h = o * tanh(c)
  template <class Lane>
  FASTRNN_LANE void forward(const Lane* pre, Lane, Lane c_prev, const Extras<Lane>&, Lane* saved,
                            Lane& h, Lane& c) {
    const Lane i = sigmoid(pre[0]);
    const Lane f = sigmoid(pre[1]);
    const Lane g = tanh(pre[2]);
    const Lane o = sigmoid(pre[3]);
    c = f * c_prev + i * g;
    h = o * tanh(c);
    saved[0] = i;
    saved[1] = f;
    saved[2] = g;
    saved[3] = o;
  }

  // In: d_h, d_c, the gradients of this step's h and c. Out: d_pre, and d_c of the step before (its
  // d_h is the product of d_pre and w_hh alone).
  template <class Lane>
  FASTRNN_LANE void backward(const Lane* saved, Lane, Lane, Lane c_prev, Lane c,
                             const Extras<Lane>&, Lane* d_pre, Lane& d_h, Lane& d_c) {
    const Lane i = saved[0], f = saved[1], g = saved[2], o = saved[3];
    const Lane tanh_c = tanh(c);
    const Lane d_state = d_c + d_h * o * (1 - tanh_c * tanh_c);
    d_pre[0] = d_state * g * i * (1 - i);
    d_pre[1] = d_state * c_prev * f * (1 - f);
    d_pre[2] = d_state * i * (1 - g * g);
    d_pre[3] = d_h * tanh_c * o * (1 - o);
    d_c = d_state * f;
  }
};

// The same with peepholes (Gers & Schmidhuber 2000), any activations, clipping, coupled gates
// (Greff et al. 2015). What is saved are the pre-activations: they say all, exactly.
struct LstmVariant : Lstm {
  static constexpr bool kHasPeepholes = true;

  // i, f, g see the cell state of before, o the new one.
  template <class Lane>
  FASTRNN_LANE void forward(const Lane* pre, Lane, Lane c_prev, const Extras<Lane>& extras,
                            Lane* saved, Lane& h, Lane& c) {
    const Variant& variant = extras.variant;
    for (int s = 0; s < 3; ++s) saved[s] = seeing(pre[s], s, c_prev, extras);
    const Gates<Lane> gates(saved, variant);
    c = gates.f * c_prev + gates.i.value * gates.g.value;
    saved[3] = seeing(pre[3], 3, c, extras);
    h = Activated<Lane>(variant, variant.gates, saved[3]).value * activate(variant.output, c);
  }

  template <class Lane>
  FASTRNN_LANE void backward(const Lane* saved, Lane, Lane, Lane c_prev, Lane c,
                             const Extras<Lane>& extras, Lane* d_pre, Lane& d_h, Lane& d_c) {
    const Variant& variant = extras.variant;
    const Gates<Lane> gates(saved, variant);
    const Activated<Lane> o(variant, variant.gates, saved[3]);
    const Lane out = activate(variant.output, c);
    d_pre[3] = o.gradient(d_h * out);
    const Lane d_state =
        seeing(d_c + d_h * o.value * slope(variant.output, c, out), 3, d_pre[3], extras);
    const Lane d_i = d_state * gates.g.value, d_f = d_state * c_prev;
    d_pre[0] = gates.i.gradient(variant.coupled ? d_i - d_f : d_i);
    d_pre[1] = variant.coupled ? Lane{} : gates.own_f.gradient(d_f);
    d_pre[2] = gates.g.gradient(d_state * gates.i.value);
    d_c = d_state * gates.f;
    for (int s = 0; s < 3; ++s) d_c = seeing(d_c, s, d_pre[s], extras);
  }

 private:
  // a, and what gate s gets of `other` through its peephole
  template <class Lane>
  FASTRNN_LANE Lane seeing(Lane a, int s, Lane other, const Extras<Lane>& extras) {
    return extras.variant.peephole[s] < 0 ? a : Lane(a + extras.peephole[s] * other);
  }

  template <class Lane>
  struct Gates {
    Gates(const Lane* saved, const Variant& variant)
        : i(variant, variant.gates, saved[0]),
          own_f(variant, variant.gates, saved[1]),
          g(variant, variant.candidate, saved[2]),
          f(variant.coupled ? Lane(1 - i.value) : own_f.value) {}
    Activated<Lane> i, own_f, g;
    Lane f;
  };
};
