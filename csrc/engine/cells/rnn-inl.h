// Elman RNN (Elman 1990): the equations of one lane, forward and backward.

struct Tanh {
  template <class Lane>
  FASTRNN_LANE Lane value(Lane pre) {
    return tanh(pre);
  }
  template <class Lane>
  FASTRNN_LANE Lane gradient(Lane d_h, Lane h) {
    return d_h * (1 - h * h);
  }
};

struct Relu {
  template <class Lane>
  FASTRNN_LANE Lane value(Lane pre) {
    return relu(pre);
  }
  template <class Lane>
  FASTRNN_LANE Lane gradient(Lane d_h, Lane h) {
    return where_open(h, d_h);
  }
};

template <class Nonlinearity>
struct Rnn {
  static constexpr int kGates = 1;
  static constexpr int kSlots = 1;
  static constexpr int kInputSlot = 0;
  static constexpr int kHiddenSlot = 0;
  static constexpr int kGateOfSlot[4] = {0, 0, 0, 0};
  static constexpr int kStates = 1;
  static constexpr bool kReadsPreviousHidden = false;
  static constexpr bool kSavesGates = false;  // the output says all

  // h = activation(pre)
  template <class Lane>
  FASTRNN_LANE Lane value(Lane pre) {
    return Nonlinearity::value(pre);
  }

  template <class Lane>
  FASTRNN_LANE void backward(const Lane*, Lane h, Lane, Lane, Lane, Lane* d_pre, Lane& d_h, Lane&) {
    d_pre[0] = Nonlinearity::gradient(d_h, h);
  }
};
