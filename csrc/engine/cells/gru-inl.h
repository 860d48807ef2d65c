// GRU (Cho et al. 2014): the equations of one lane, forward and backward.

// torch's form, the reset gate after the product.
struct Gru {
  static constexpr int kGates = 3;
  static constexpr int kSlots = 4;  // n keeps its two products apart, since r multiplies only one
  static constexpr int kInputSlot = 1;                      // r z n_x
  static constexpr int kHiddenSlot = 0;                     // n_h r z
  static constexpr int kGateOfSlot[kSlots] = {2, 0, 1, 2};  // torch's order: r z n
  static constexpr int kStates = 1;
  static constexpr bool kReadsPreviousHidden = true;
  static constexpr bool kSavesGates = true;

  static constexpr int kClosedSlot = 3;  // first that `close` has computed

  // r, z = sigmoid(pre), and what n is tanh of: n_x + r * n_h
  template <class Lane>
  FASTRNN_LANE void open(const Lane* pre, Lane, Lane* saved, Lane&) {
    const Lane r = sigmoid(pre[1]);
    saved[0] = pre[0];
    saved[1] = r;
    saved[2] = sigmoid(pre[2]);
    saved[3] = pre[3] + r * pre[0];
  }

  // n = tanh(n_x + r * n_h); h = (1 - z) * n + z * h_prev
  template <class Lane>
  FASTRNN_LANE Lane close(Lane* saved, Lane h_prev, Lane) {
    const Lane z = saved[2], n = tanh(saved[3]);
    saved[3] = n;
    return n + z * (h_prev - n);
  }

  // d_h leaves as the part of the gradient of h_prev that does not pass through the product with
  // w_hh.
  template <class Lane>
  FASTRNN_LANE void backward(const Lane* saved, Lane, Lane h_prev, Lane, Lane, Lane* d_pre,
                             Lane& d_h, Lane&) {
    const Lane n_h = saved[0], r = saved[1], z = saved[2], n = saved[3];
    const Lane d_n = d_h * (1 - z) * (1 - n * n);
    d_pre[0] = d_n * r;
    d_pre[1] = d_n * n_h * r * (1 - r);
    d_pre[2] = d_h * (h_prev - n) * z * (1 - z);
    d_pre[3] = d_n;
    d_h = d_h * z;
  }
};
