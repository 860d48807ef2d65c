// A device that runs everything.
#include "cuda/device.h"

#include <cstring>

namespace fastrnn::cuda {

const int32_t kDeviceType = 1;

Versions versions() { return {13000, 13000}; }
std::string load_error(int) { return ""; }
bool can_overlap(int) { return false; }
void copy_on_device(void* to, const void* from, int64_t bytes, Stream) {
  std::memcpy(to, from, static_cast<size_t>(bytes));
}

}  // namespace fastrnn::cuda
