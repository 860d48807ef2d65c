// The block that the steps of csrc/cuda are written for, on a CPU: its threads are turns of a loop,
// a step's blocks run one after another, and tensor cores follow the layouts of the PTX ISA. It is
// to prove results, and that a step needs nothing of the launch before until it waits for it; no
// more than that: nothing runs at once here, so it cannot find a race.
#pragma once

#include <functional>
#include <limits>
#include <memory>
#include <type_traits>
#include <vector>

#include "cuda/layer.h"
#include "cuda/product.h"

namespace fastrnn::cuda {

// Section "Matrix Fragments for mma.m16n8k16" of the PTX ISA: where lane `lane` holds element i of
// each operand. Written from the manual and not from tiling.h, which it judges.
template <class T>
struct Fragments {
  static constexpr int kK = 16;
  static constexpr int kA = 8, kB = 4;  // elements of a lane, two in each word
  static int a_row(int lane, int i) { return lane / 4 + (i / 2 % 2 ? 8 : 0); }
  static int a_column(int lane, int i) { return lane % 4 * 2 + i % 2 + (i >= 4 ? 8 : 0); }
  static int b_row(int lane, int i) { return lane % 4 * 2 + i % 2 + (i >= 2 ? 8 : 0); }
  static float value(const uint32_t* words, int i) {
    return widen(T{static_cast<uint16_t>(words[i / 2] >> (i % 2 ? 16 : 0))});
  }
};

// The same of m16n8k8 with TF32
template <>
struct Fragments<float> {
  static constexpr int kK = 8;
  static constexpr int kA = 4, kB = 2;
  static int a_row(int lane, int i) { return lane / 4 + (i % 2 ? 8 : 0); }
  static int a_column(int lane, int i) { return lane % 4 + (i >= 2 ? 4 : 0); }
  static int b_row(int lane, int i) { return lane % 4 + (i >= 1 ? 4 : 0); }
  static float value(const uint32_t* words, int i) { return float_of(words[i] & ~0x1fffu); }
};

// What mma.sync does with the operands of all lanes of a warp
template <class T, class SumOf>
void multiply_on_tensor_cores(const Operands (&in)[kLanes], SumOf sum) {
  using F = Fragments<T>;
  float a[16][F::kK] = {}, b[F::kK][8] = {};
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int i = 0; i < F::kA; ++i)
      a[F::a_row(lane, i)][F::a_column(lane, i)] = F::value(in[lane].a, i);
    for (int i = 0; i < F::kB; ++i) b[F::b_row(lane, i)][lane / 4] = F::value(in[lane].b, i);
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + (i >= 2 ? 8 : 0), column = lane % 4 * 2 + i % 2;
      for (int k = 0; k < F::kK; ++k) sum(lane)[i] += a[row][k] * b[k][column];
    }
  }
}

template <class P, int kGroups>
class Block {
  using S = Sum<typename P::T>;

 public:
  static constexpr bool kOverlaps = true;
  Block(uint32_t index, S* partials, std::function<void()> await)
      : index_(index),
        partials_(partials),
        await_(std::move(await)),
        threads_(new Registers<P, kGroups>[kThreads]) {}

  uint32_t index() const { return index_; }
  S* partials() const { return partials_; }

  // Backwards, since no order may matter
  template <class Work>
  void each_thread(Work work) {
    for (int thread = kThreads - 1; thread >= 0; --thread) work(thread, threads_[thread]);
  }
  void meet() {}
  void have_loaded() {}
  void await_launch_before() { await_(); }
  void prefetch(const void*) const {}

  void multiply(int stage) {
    for (int first = 0; first < kThreads; first += kLanes) {
      for (int g = 0; g < kGroups; ++g) multiply_group(&threads_[first], stage, g);
    }
  }

 private:
  void multiply_group(Registers<P, kGroups>* lanes, int stage, int g) {
    const auto in_of = [&](int lane) -> auto& { return lanes[lane].in[stage]; };
    if constexpr (P::kTensorCores) {
      for (int turn = 0; turn < P::kMultiplies; ++turn) {
        Operands in[kLanes];
        for (int l = 0; l < kLanes; ++l) in[l] = P::operands(in_of(l).a, in_of(l).w[g], turn);
        multiply_on_tensor_cores<typename P::T>(in, [&](int l) { return lanes[l].sum[g]; });
      }
    } else {
      for (int l = 0; l < kLanes; ++l) P::multiply(in_of(l).a, in_of(l).w[g], lanes[l].sum[g]);
    }
  }

  uint32_t index_;
  S* partials_;
  std::function<void()> await_;
  std::unique_ptr<Registers<P, kGroups>[]> threads_;
};

// Each launch begins before the one before it, which runs when somebody waits for it. Shared memory
// begins as NaN, as no kernel may read what no thread of its block has written.
class Launches {
 public:
  explicit Launches(Stream) {}
  ~Launches() { finish(); }
  Launches(const Launches&) = delete;
  Launches& operator=(const Launches&) = delete;

  template <class MakeStep>
  void operator()(int directions, MakeStep make_step) {
    using Step = decltype(make_step(0));
    std::vector<Step> steps;
    for (int d = 0; d < directions; ++d) steps.push_back(make_step(d));
    // What begins early is the block that comes first: of either direction in turn.
    if (pending_.size() % 2) std::swap(steps.front(), steps.back());
    pending_.push_back([this, steps] {
      for (const Step& step : steps) run(step);
    });
    if (pending_.size() == kMostPending) finish();
  }

 private:
  static constexpr size_t kMostPending = 8;  // each on the stack of the one behind it

  template <class Step>
  void run(const Step& step) {
    using P = typename Step::Policy;
    using S = Sum<typename P::T>;
    for (int64_t left = step.size.tiles(); left > 0; --left) {
      std::vector<S> partials(kPartials<Step::kGroups>, std::numeric_limits<S>::quiet_NaN());
      Block<P, Step::kGroups> block(static_cast<uint32_t>(left - 1), partials.data(),
                                    [this] { run_last(); });
      step(block);
    }
  }

  void run_last() {
    if (pending_.empty()) return;
    const std::function<void()> last = std::move(pending_.back());
    pending_.pop_back();
    last();
  }
  void finish() {
    while (!pending_.empty()) run_last();
  }

  std::vector<std::function<void()>> pending_;
};

}  // namespace fastrnn::cuda
