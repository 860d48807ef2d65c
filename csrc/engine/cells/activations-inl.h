// The activations that a variant of a cell can have: value and derivative of one lane. Found by
// name for the lane: sigmoid, tanh, relu, softplus, magnitude, negative_expm1, RealOf.

// What a cell's equations may need besides a lane's states
template <class Lane>
struct Extras {
  const Variant& variant;
  Lane peephole[4];  // weights of i f g o, where the variant has any
};

template <class Lane>
FASTRNN_INLINE Lane within(Lane x, Lane low, Lane high) {
  return x < low ? low : x > high ? high : x;
}

template <class Lane>
FASTRNN_INLINE Lane negative_exponential(Lane x, typename RealOf<Lane>::Real alpha) {
  return x > 0 ? x : alpha * negative_expm1(magnitude(x));
}

template <class Lane>
FASTRNN_NOINLINE Lane activate(const Squash& squash, Lane x) {
  typedef typename RealOf<Lane>::Real Real;
  const Real alpha = static_cast<Real>(squash.alpha), beta = static_cast<Real>(squash.beta);
  const Lane zero = {}, one = zero + 1;
  switch (squash.kind) {
    case Activation::kTanh:
      return tanh(x);
    case Activation::kSigmoid:
      return sigmoid(x);
    case Activation::kRelu:
      return relu(x);
    case Activation::kHardSigmoid:
      return within(alpha * x + beta, zero, one);
    case Activation::kSoftsign:
      return x / (1 + magnitude(x));
    case Activation::kSoftplus:
      return softplus(x);
    case Activation::kElu:
      return negative_exponential(x, alpha);
    case Activation::kLeakyRelu:
      return x > 0 ? x : alpha * x;
    case Activation::kAffine:
      return alpha * x + beta;
    case Activation::kScaledTanh:
      return alpha * tanh(beta * x);
    case Activation::kThresholdedRelu:
      return x <= alpha ? zero : x;
  }
  return x;
}

// The derivative at x, where the value is y
template <class Lane>
FASTRNN_NOINLINE Lane slope(const Squash& squash, Lane x, Lane y) {
  typedef typename RealOf<Lane>::Real Real;
  const Real alpha = static_cast<Real>(squash.alpha), beta = static_cast<Real>(squash.beta);
  const Lane zero = {}, one = zero + 1;
  switch (squash.kind) {
    case Activation::kTanh:
      return 1 - y * y;
    case Activation::kSigmoid:
      return y * (1 - y);
    case Activation::kRelu:
      return where_open(y, one);
    case Activation::kHardSigmoid: {
      const Lane line = alpha * x + beta;
      return line < 0 ? zero : line > 1 ? zero : zero + alpha;
    }
    case Activation::kSoftsign: {
      const Lane denominator = 1 + magnitude(x);
      return 1 / (denominator * denominator);
    }
    case Activation::kSoftplus:
      return sigmoid(x);
    case Activation::kElu:
      return x > 0 ? one : y + alpha;
    case Activation::kLeakyRelu:
      return x > 0 ? one : zero + alpha;
    case Activation::kAffine:
      return zero + alpha;
    case Activation::kScaledTanh: {
      const Lane t = tanh(beta * x);
      return alpha * beta * (1 - t * t);
    }
    case Activation::kThresholdedRelu:
      return x <= alpha ? zero : one;
  }
  return one;
}

// A pre-activation, the value of its activation, and the gradient of the one from the other's. What
// the clip has cut off has no gradient.
template <class Lane>
struct Activated {
  Activated(const Variant& variant, const Squash& squash, Lane pre)
      : variant(variant), squash(squash), pre(pre), x(pre) {
    typedef typename RealOf<Lane>::Real Real;
    if (variant.clip > 0) {
      const Lane limit = Lane{} + static_cast<Real>(variant.clip);
      x = within(pre, -limit, limit);
    }
    value = activate(squash, x);
  }

  Lane gradient(Lane d_value) const {
    const Lane d_x = d_value * slope(squash, x, value);
    return variant.clip > 0 ? Lane(x == pre ? d_x : Lane{}) : d_x;
  }

  const Variant& variant;
  const Squash& squash;
  Lane pre, x, value;
};
