// The part of DLPack's C interface (version 1, https://dmlc.github.io/dlpack) that reads a tensor
// without owning it.
#pragma once

#include <stdint.h>

namespace fastrnn::dlpack {

constexpr uint32_t kMajorVersion = 1;
constexpr int32_t kCpu = 1;
constexpr int32_t kCuda = 2;
constexpr uint8_t kInt = 0;
constexpr uint8_t kFloat = 2;
constexpr uint8_t kBfloat = 4;
constexpr uint8_t kBool = 6;

struct Version {
  uint32_t major, minor;
};

struct Device {
  int32_t type, id;
};

struct DataType {
  uint8_t code, bits;
  uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  int32_t ndim;
  DataType dtype;
  int64_t* shape;
  int64_t* strides;  // in elements; null: contiguous
  uint64_t byte_offset;
};

// What a capsule named "dlpack_exchange_api" points to.
struct ExchangeApi {
  Version version;
  ExchangeApi* previous;
  void* allocate;
  void* own;
  void* give;
  int (*read)(void* object, Tensor* out);  // 0, or -1 with a Python exception; may be null
  void* current_stream;
};

}  // namespace fastrnn::dlpack
