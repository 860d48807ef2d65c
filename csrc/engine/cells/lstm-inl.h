// LSTM (Hochreiter & Schmidhuber 1997, forget gate of Gers et al. 2000): the equations of one lane,
// forward and backward. Lane is a vector of units on the CPU, one float on a GPU; sigmoid and tanh
// are found for it by name.

struct Lstm {
  static constexpr int kGates = 4;                          // blocks of H rows in w_ih and w_hh
  static constexpr int kSlots = 4;                          // pre-activations kept apart
  static constexpr int kInputSlot = 0;                      // first slot that x * w_ih^T adds to
  static constexpr int kHiddenSlot = 0;                     // first slot that h * w_hh^T adds to
  static constexpr int kGateOfSlot[kSlots] = {0, 1, 2, 3};  // torch's order: i f g o
  static constexpr int kStates = 2;                         // h and what stays within the cell
  static constexpr bool kReadsPreviousHidden =
      false;                                 // beside the product with w_hh; its gradient too
  static constexpr bool kSavesGates = true;  // backward needs saved[kSlots]

  static constexpr int kClosedSlot = kSlots;  // first that `close` has computed

  // i, f, o = sigmoid(pre), g = tanh(pre); c = f * c_prev + i * g
  template <class Lane>
  FASTRNN_LANE void open(const Lane* pre, Lane c_prev, Lane* saved, Lane& c) {
    const Lane i = sigmoid(pre[0]);
    const Lane f = sigmoid(pre[1]);
    const Lane g = tanh(pre[2]);
    c = f * c_prev + i * g;
    saved[0] = i;
    saved[1] = f;
    saved[2] = g;
    saved[3] = sigmoid(pre[3]);
  }

  // h = o * tanh(c)
  template <class Lane>
  FASTRNN_LANE Lane close(Lane* saved, Lane, Lane c) {
    return saved[3] * tanh(c);
  }

  // In: d_h, d_c, the gradients of this step's h and c. Out: d_pre, and d_c of the step before (its
  // d_h is the product of d_pre and w_hh alone).
  template <class Lane>
  FASTRNN_LANE void backward(const Lane* saved, Lane, Lane, Lane c_prev, Lane c, Lane* d_pre,
                             Lane& d_h, Lane& d_c) {
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
