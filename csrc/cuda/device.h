// What a device is besides launches: whether it can run the kernels, and how, which is asked once,
// before the first of them; and copies.
#pragma once

#include <cstdint>
#include <string>

#include "layer.h"

namespace fastrnn::cuda {

// As DLPack counts them; tensors that the kernels take lie on a device of this type.
extern const int32_t kDeviceType;

// Versions of CUDA as its runtime counts them, 13000 for 13.0: the newest that the driver knows (0:
// there is no driver), and that of the runtime that is linked in.
struct Versions {
  int driver = 0;
  int runtime = 0;
};
Versions versions();

// Why the device loads none of the kernels, in the runtime's words; empty if it does.
std::string load_error(int device);

// Whether a launch may begin while the one before it ends: what the device loads waits by itself
// for what it needs (capability 9.0 or more), and graphs can record it (a driver for CUDA 12.3 or
// later). The environment variable FASTRNN_CUDA_OVERLAP=0 says no.
bool can_overlap(int device);

// Enqueues a copy from one place in the device's memory to another.
void copy_on_device(void* to, const void* from, int64_t bytes, Stream stream);

}  // namespace fastrnn::cuda
