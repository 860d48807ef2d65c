// torch's tensors: read through DLPack's C interface, made by torch.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <initializer_list>

#include "dlpack.h"
#include "engine/call/api.h"
#include "python/calls.h"

namespace fastrnn {

// The sizes of a tensor of at most three dimensions.
class Sizes {
 public:
  static constexpr int kMost = 3;
  Sizes(std::initializer_list<int64_t> sizes) : count_(static_cast<int>(sizes.size())) {
    std::copy(sizes.begin(), sizes.end(), sizes_);
  }
  int count() const { return count_; }
  const int64_t* begin() const { return sizes_; }
  const int64_t* end() const { return sizes_ + count_; }

 private:
  int count_;
  int64_t sizes_[kMost] = {};
};

// The dtypes that kernels compute in; the engine on the CPU in those of DType, which come first.
enum class Element { kFloat32, kFloat64, kFloat16, kBFloat16 };
inline Element element_of(DType dtype) { return static_cast<Element>(dtype); }
int64_t bytes_of(Element element);

// What the tensors of a call have in common. device: the number among those of one type.
struct Memory {
  Element element = Element::kFloat32;
  int32_t device = 0;
};

class Tensors {
 public:
  // plain_types: the classes whose instances hide nothing from a reader of their memory, torch's
  // Tensor first, then Parameter; subclasses do not count. make_empty(sizes, strides, dtype) makes
  // a tensor on a device of the type; dtypes: torch's for elements, in their order. ImportError if
  // the interface is another one.
  Tensors(const pybind11::capsule& exchange_api, pybind11::tuple plain_types,
          pybind11::function make_empty, pybind11::tuple dtypes,
          int32_t device_type = dlpack::kCpu);

  // False if it is no plain tensor with memory on a device of the type.
  bool read(pybind11::handle object, dlpack::Tensor& tensor) const;

  // The address of a plain contiguous tensor of these sizes; false if it is another one.
  bool read_contiguous(pybind11::handle object, Memory memory, Sizes sizes, Address& address) const;

  // The same with any strides but that of the last dimension. What has others, or would have to be
  // contiguous, becomes a contiguous copy of itself; false if that does not help. None is absent.
  bool read_rows(pybind11::object& object, Memory memory, Sizes sizes,
                 dlpack::Tensor& tensor) const;
  bool copy_contiguous(pybind11::object& object, Memory memory, Sizes sizes,
                       Address& address) const;

  // The memory of a parameter, whose module may give it other memory; null of another tensor.
  pybind11::object storage_of_parameter(pybind11::handle tensor) const;

  // torch's
  pybind11::handle dtype(Element element) const { return dtypes_[static_cast<size_t>(element)]; }

  // A contiguous tensor, or one whose first two dimensions lie the other way round; without an
  // address where torch makes it elsewhere, as a mode of its does
  pybind11::object new_empty(Memory memory, Sizes sizes, Address& address,
                             bool swapped = false) const;

 private:
  bool read_memory(pybind11::handle object, dlpack::Tensor& tensor) const;
  bool is_negative(pybind11::handle tensor) const;
  template <class Suits>
  bool read_or_copy(pybind11::object& object, Memory memory, Sizes sizes, Suits suits,
                    dlpack::Tensor& tensor) const;
  bool repeats_in_rows(const dlpack::Tensor& tensor) const;
  pybind11::object repeated(const dlpack::Tensor& tensor, Memory memory, Sizes sizes) const;

  const dlpack::ExchangeApi* api_;
  pybind11::tuple plain_types_;
  pybind11::object is_neg_, untyped_storage_;  // torch's methods
  pybind11::function make_empty_;
  pybind11::tuple dtypes_;
  int32_t device_type_;
};

bool requires_grad(pybind11::handle tensor);

bool read_element(const dlpack::Tensor& tensor, Element& element);  // false for any other
bool is_contiguous(const dlpack::Tensor& tensor);
Address address_of(const dlpack::Tensor& tensor);

}  // namespace fastrnn
