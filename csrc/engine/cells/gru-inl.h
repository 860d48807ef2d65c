// GRU (Cho et al. 2014): the equations of one lane, forward and backward.

// torch's form, the reset gate after the product.
struct Gru {
  static constexpr int kGates = 3;
  static constexpr int kHiddenGates = 3;
  static constexpr int kSlots = 4;  // n keeps its two products apart, since r multiplies only one
  static constexpr int kInputSlot = 1;                      // r z n_x
  static constexpr int kHiddenSlot = 0;                     // n_h r z
  static constexpr int kGateOfSlot[kSlots] = {2, 0, 1, 2};  // torch's order: r z n
  static constexpr int kStates = 1;
  static constexpr bool kReadsPreviousHidden = true;
  static constexpr bool kSavesGates = true;
  static constexpr bool kHasPeepholes = false;
  static constexpr int kStages = 1;

  // r, z = sigmoid(pre); n = tanh(n_x + r * n_h); h = (1 - z) * n + z * h_prev
  template <class Lane>
  FASTRNN_LANE void forward(const Lane* pre, Lane h_prev, Lane, const Extras<Lane>&, Lane* saved,
                            Lane& h, Lane&) {
    const Lane r = sigmoid(pre[1]);
    const Lane z = sigmoid(pre[2]);
    const Lane n = tanh(pre[3] + r * pre[0]);
    h = n + z * (h_prev - n);
    saved[0] = pre[0];
    saved[1] = r;
    saved[2] = z;
    saved[3] = n;
  }

  // d_h leaves as the part of the gradient of h_prev that does not pass through the product with
  // w_hh.
  template <class Lane>
  FASTRNN_LANE void backward(const Lane* saved, Lane, Lane h_prev, Lane, Lane, const Extras<Lane>&,
                             Lane* d_pre, Lane& d_h, Lane&) {
    const Lane n_h = saved[0], r = saved[1], z = saved[2], n = saved[3];
    const Lane d_n = d_h * (1 - z) * (1 - n * n);
    d_pre[0] = d_n * r;
    d_pre[1] = d_n * n_h * r * (1 - r);
    d_pre[2] = d_h * (h_prev - n) * z * (1 - z);
    d_pre[3] = d_n;
    d_h = d_h * z;
  }
};

// The same with any activations and clipping; saves the pre-activations.
struct GruVariant : Gru {
  template <class Lane>
  FASTRNN_LANE void forward(const Lane* pre, Lane h_prev, Lane, const Extras<Lane>& extras,
                            Lane* saved, Lane& h, Lane&) {
    for (int s = 0; s < kSlots; ++s) saved[s] = pre[s];
    const Gates<Lane> gates(saved, extras.variant);
    h = gates.n.value + gates.z.value * (h_prev - gates.n.value);
  }

  template <class Lane>
  FASTRNN_LANE void backward(const Lane* saved, Lane, Lane h_prev, Lane, Lane,
                             const Extras<Lane>& extras, Lane* d_pre, Lane& d_h, Lane&) {
    const Gates<Lane> gates(saved, extras.variant);
    const Lane d_n = gates.n.gradient(d_h * (1 - gates.z.value));
    d_pre[0] = d_n * gates.r.value;
    d_pre[1] = gates.r.gradient(d_n * saved[0]);
    d_pre[2] = gates.z.gradient(d_h * (h_prev - gates.n.value));
    d_pre[3] = d_n;
    d_h = d_h * gates.z.value;
  }

 private:
  template <class Lane>
  struct Gates {
    Gates(const Lane* saved, const Variant& variant)
        : r(variant, variant.gates, saved[1]),
          z(variant, variant.gates, saved[2]),
          n(variant, variant.candidate, saved[3] + r.value * saved[0]) {}
    Activated<Lane> r, z, n;
  };
};

// The form of Cho et al. as published, the reset gate before the product: two stages, since all
// units' r * h_prev must be there before n can be. Saves the pre-activations.
struct GruResetBefore {
  static constexpr int kGates = 3;
  static constexpr int kHiddenGates = 2;  // r z; n meets the product with r * h_prev
  static constexpr int kSlots = 3;
  static constexpr int kInputSlot = 0;
  static constexpr int kHiddenSlot = 0;
  static constexpr int kGateOfSlot[kSlots] = {0, 1, 2};
  static constexpr int kStates = 1;
  static constexpr bool kReadsPreviousHidden = true;
  static constexpr bool kSavesGates = true;
  static constexpr bool kHasPeepholes = false;
  static constexpr int kStages = 2;

  // The first stage's h is r * h_prev.
  template <class Lane>
  FASTRNN_LANE void forward(const Lane* pre, Lane h_prev, Lane, const Extras<Lane>& extras,
                            Lane* saved, Lane& h, Lane&) {
    const Variant& variant = extras.variant;
    for (int s = 0; s < kSlots; ++s) saved[s] = pre[s];
    h = Activated<Lane>(variant, variant.gates, pre[0]).value * h_prev;
  }

  // saved[2] has become the whole of n's pre-activation.
  template <class Lane>
  FASTRNN_LANE Lane forward_last(const Lane* saved, Lane h_prev, const Extras<Lane>& extras) {
    const Variant& variant = extras.variant;
    const Lane z = Activated<Lane>(variant, variant.gates, saved[1]).value;
    const Lane n = Activated<Lane>(variant, variant.candidate, saved[2]).value;
    return n + z * (h_prev - n);
  }

  // d_pre of z and n; r waits for the gradient of r * h_prev.
  template <class Lane>
  FASTRNN_LANE void backward(const Lane* saved, Lane, Lane h_prev, Lane, Lane,
                             const Extras<Lane>& extras, Lane* d_pre, Lane& d_h, Lane&) {
    const Variant& variant = extras.variant;
    const Activated<Lane> z(variant, variant.gates, saved[1]);
    const Activated<Lane> n(variant, variant.candidate, saved[2]);
    d_pre[0] = Lane{};
    d_pre[1] = z.gradient(d_h * (h_prev - n.value));
    d_pre[2] = n.gradient(d_h * (1 - z.value));
    d_h = d_h * z.value;
  }

  // d_reset: the gradient of r * h_prev. Returns d_pre of r.
  template <class Lane>
  FASTRNN_LANE Lane backward_last(const Lane* saved, Lane h_prev, Lane d_reset,
                                  const Extras<Lane>& extras, Lane& d_h) {
    const Activated<Lane> r(extras.variant, extras.variant.gates, saved[0]);
    d_h += d_reset * r.value;
    return r.gradient(d_reset * h_prev);
  }
};
