#include "sums.h"

#include <algorithm>
#include <utility>

#include "engine/call/plan.h"

namespace py = pybind11;

namespace fastrnn {
namespace {

template <class Real>
void add_up(const std::vector<Piece>& pieces, const std::vector<Address>& vectors, Real* to) {
  for (const Piece& piece : pieces) {
    const int64_t size = piece.end - piece.begin;
    if (piece.terms.empty()) std::fill_n(to, size, Real{0});
    for (size_t i = 0; i < piece.terms.size(); ++i) {
      const Real* from = reinterpret_cast<const Real*>(vectors[piece.terms[i]]) + piece.begin;
      if (i == 0)
        std::copy_n(from, size, to);
      else
        for (int64_t j = 0; j < size; ++j) to[j] += from[j];
    }
    to += size;
  }
}

}  // namespace

Sums::Sums(std::vector<Piece> pieces, std::vector<int64_t> sizes)
    : pieces_(std::move(pieces)), sizes_(std::move(sizes)) {
  for (const Piece& piece : pieces_) {
    if (piece.begin < 0 || piece.begin > piece.end) throw py::value_error("a piece's borders");
    for (size_t term : piece.terms)
      if (piece.end > sizes_.at(term)) throw py::value_error("a piece beyond its vector");
    size_ += piece.end - piece.begin;
  }
}

py::object Sums::of(const Tensors& tensors, const py::sequence& vectors) const {
  if (vectors.size() != sizes_.size()) return py::none();
  Memory memory;
  std::vector<Address> addresses;
  for (size_t i = 0; i < sizes_.size(); ++i) {
    dlpack::Tensor tensor;
    Element element;
    if (!tensors.read(vectors[i], tensor) || !read_element(tensor, element) ||
        element > Element::kFloat64 || tensor.ndim != 1 || !is_contiguous(tensor) ||
        tensor.shape[0] != sizes_[i])
      return py::none();
    if (i > 0 && element != memory.element) return py::none();
    memory = {element, tensor.device.id};
    addresses.push_back(address_of(tensor));
  }
  Address to = 0;
  py::object made = tensors.new_empty(memory, {size_}, to);
  if (!to) return py::none();
  with_dtype(static_cast<DType>(memory.element),
             [&](auto zero) { add_up(pieces_, addresses, reinterpret_cast<decltype(zero)*>(to)); });
  return made;
}

}  // namespace fastrnn
