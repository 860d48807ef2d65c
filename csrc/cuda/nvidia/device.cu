#include "cuda/device.h"

#include <fastrnn_device/launch.h>

#include <cstdlib>
#include <map>
#include <mutex>

namespace fastrnn::cuda {

extern const int32_t kDeviceType = 2;

// Compiled for the same architectures as all kernels, so it says of all whether there is one.
static __global__ void nothing() {}

Versions versions() {
  Versions found;
  cudaDriverGetVersion(&found.driver);
  cudaRuntimeGetVersion(&found.runtime);
  return found;
}

static cudaFuncAttributes attributes_on(int device) {
  const OnDevice here(device);
  cudaFuncAttributes attributes;
  expect(cudaFuncGetAttributes(&attributes, nothing));
  return attributes;
}

std::string load_error(int device) {
  try {
    attributes_on(device);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

bool can_overlap(int device) {
  static std::mutex guard;
  static std::map<int, bool> known;
  const std::lock_guard<std::mutex> lock(guard);
  const auto found = known.find(device);
  if (found != known.end()) return found->second;
  const char* said = std::getenv("FASTRNN_CUDA_OVERLAP");
  // Not the device's capability: a driver may have made this code from PTX for an older GPU.
  return known[device] = !(said && std::string(said) == "0") && versions().driver >= 12030 &&
                         attributes_on(device).ptxVersion >= 90;
}

void copy_on_device(void* to, const void* from, int64_t bytes, Stream stream) {
  const OnDevice here(stream.device);
  expect(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice,
                         static_cast<cudaStream_t>(stream.handle)),
         "a copy on a CUDA device failed: ");
}

}  // namespace fastrnn::cuda
