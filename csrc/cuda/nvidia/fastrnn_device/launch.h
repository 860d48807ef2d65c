// How a step gets onto a GPU: the block that the steps of csrc/cuda are written for, as nvcc
// compiles it. (The tests have another one of the same name, which runs on the CPU.)
#pragma once

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#include "cuda/device.h"
#include "cuda/layer.h"
#include "cuda/product.h"

namespace fastrnn::cuda {

// Sums += a * b on the tensor cores. Volatile, so that it stays where all lanes of a warp come by.
template <class T>
struct Mma;

#define FASTRNN_MMA_M16N8K16(T, type)                                                      \
  template <>                                                                              \
  struct Mma<T> {                                                                          \
    static FASTRNN_DEVICE void multiply(const Operands& in, float (&sum)[kTileSums]) {     \
      asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type                  \
                   ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"  \
                   : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])                \
                   : "r"(in.a[0]), "r"(in.a[1]), "r"(in.a[2]), "r"(in.a[3]), "r"(in.b[0]), \
                     "r"(in.b[1]));                                                        \
    }                                                                                      \
  };
FASTRNN_MMA_M16N8K16(Half, "f16")
FASTRNN_MMA_M16N8K16(BFloat16, "bf16")
#undef FASTRNN_MMA_M16N8K16

template <>
struct Mma<float> {
  static FASTRNN_DEVICE void multiply(const Operands& in, float (&sum)[kTileSums]) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(in.a[0]), "r"(in.a[1]), "r"(in.a[2]), "r"(in.a[3]), "r"(in.b[0]), "r"(in.b[1]));
  }
};

// What one thread sees of its block.
template <class P, int kGroups>
class Block {
  using S = Sum<typename P::T>;

 public:
  // Can the launch before be still at work?
#if __CUDA_ARCH__ >= 900
  static constexpr bool kOverlaps = true;
#else
  static constexpr bool kOverlaps = false;
#endif
  explicit FASTRNN_DEVICE Block(S* partials) : partials_(partials) {}

  FASTRNN_DEVICE uint32_t index() const { return blockIdx.x; }
  FASTRNN_DEVICE S* partials() const { return partials_; }

  // work(thread, registers) by every thread, with no order among them
  template <class Work>
  FASTRNN_DEVICE void each_thread(Work work) {
    work(static_cast<int>(threadIdx.x), mine_);
  }
  // All threads have left what they were told to do, and see it.
  FASTRNN_DEVICE void meet() { __syncthreads(); }

  // All loads so far are on their way; without this the compiler moves them behind multiplications
  // that wait for others. And mma.sync is for all lanes at once, which those of a branch need not
  // be.
  FASTRNN_DEVICE void have_loaded() {
    __threadfence_block();
    __syncwarp();
  }

  // Before this a thread may read what was there before the loop over time, and write nothing: the
  // launch before may still be at work. It costs nothing where that has ended. (The driver starts
  // a launch early only if it is told to, below, and code for GPUs before 9.0 has no such wait.)
  FASTRNN_DEVICE void await_launch_before() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
  }

  // Have an address brought from memory to the second-level cache: no register waits for it.
  FASTRNN_DEVICE void prefetch(const void* address) const {
    asm volatile("prefetch.global.L2 [%0];" : : "l"(address));
  }

  // Each warp multiplies what its lanes have loaded of a chunk.
  FASTRNN_DEVICE void multiply(int stage) {
    const auto& in = mine_.in[stage];
    FASTRNN_UNROLL
    for (int g = 0; g < kGroups; ++g) {
      if constexpr (P::kTensorCores) {
        FASTRNN_UNROLL
        for (int turn = 0; turn < P::kMultiplies; ++turn)
          Mma<typename P::T>::multiply(P::operands(in.a, in.w[g], turn), mine_.sum[g]);
      } else {
        P::multiply(in.a, in.w[g], mine_.sum[g]);
      }
    }
  }

 private:
  S* partials_;
  Registers<P, kGroups> mine_;
};

template <class Step>
struct OfDirections {
  Step of[2];
};

template <class Step>
__global__ void __launch_bounds__(kThreads)
    run_step(const __grid_constant__ OfDirections<Step> steps) {
  using P = typename Step::Policy;
#if __CUDA_ARCH__ >= 900
  // The next launch's blocks may take their places while these work.
  asm volatile("griddepcontrol.launch_dependents;");
#endif
  __shared__ Sum<typename P::T> partials[kPartials<Step::kGroups>];
  Block<P, Step::kGroups> block(partials);
  steps.of[blockIdx.y](block);
}

inline void expect(cudaError_t error, const char* what = "") {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // else the next launch, a good one, would be blamed for it
  throw std::runtime_error(std::string(what) + cudaGetErrorString(error));
}

// The calling thread's device for as long as this lives
class OnDevice {
 public:
  explicit OnDevice(int device) {
    expect(cudaGetDevice(&before_));
    expect(cudaSetDevice(device));
  }
  ~OnDevice() { cudaSetDevice(before_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int before_ = 0;
};

// The launches of a loop over time, one after another on a stream. The first one begins when all is
// done that was enqueued before; each of the others, where the device can, as soon as all blocks of
// the one before have begun.
class Launches {
 public:
  explicit Launches(Stream stream)
      : here_(stream.device),
        stream_(static_cast<cudaStream_t>(stream.handle)),
        can_overlap_(can_overlap(stream.device)) {}

  // Enqueue the steps of all directions, which make_step(direction) describes, as one launch.
  template <class MakeStep>
  void operator()(int directions, MakeStep make_step) {
    using Step = decltype(make_step(0));
    OfDirections<Step> steps;
    for (int d = 0; d < directions; ++d) steps.of[d] = make_step(d);
    cudaLaunchAttribute overlap;
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t how{};
    how.gridDim = dim3(static_cast<unsigned>(steps.of[0].size.tiles()), directions);
    how.blockDim = kThreads;
    how.stream = stream_;
    how.attrs = &overlap;
    how.numAttrs = overlaps_ ? 1 : 0;
    expect(cudaLaunchKernelEx(&how, run_step<Step>, steps), "a CUDA launch failed: ");
    overlaps_ = can_overlap_;
  }

 private:
  OnDevice here_;
  cudaStream_t stream_;
  bool can_overlap_;
  bool overlaps_ = false;
};

}  // namespace fastrnn::cuda
