#include "cuda/device.h"

#include <fastrnn_device/launch.h>

namespace fastrnn::cuda {

// Compiled for the same architectures as all kernels, so it says of all whether there is one.
static __global__ void nothing() {}

Versions versions() {
  Versions found;
  cudaDriverGetVersion(&found.driver);
  cudaRuntimeGetVersion(&found.runtime);
  return found;
}

std::string load_error(int device) {
  try {
    const OnDevice here(device);
    cudaFuncAttributes attributes;
    expect(cudaFuncGetAttributes(&attributes, nothing));
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

}  // namespace fastrnn::cuda
