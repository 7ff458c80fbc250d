#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "workers/compress/packed/byte_stream.h"
#include "workers/graph/tensor.h"

namespace kerf::compress::packed {

/// A tensor's elements in the fewest bytes that one of these gives; bit for bit.
///
/// Forms:    dense or sparse, each with planes or a palette; a byte says which: 1 = sparse,
///           2 = palette.
///           sparse    elements whose bytes are all zero are left out: their number before each
///                     other element, as bytes of which 255 means "255, and more follows"
///           planes    the elements' first bytes, their second bytes … each as a run of its own
///                     (byte_stream.h: fixed width or Huffman); 8-bit and 4-bit integers are one
///                     plane, f32 four, of which bf16 values leave two constant
///           palette   elements of more than a byte with at most 256 values: the values in
///                     ascending order of their bits, and an index for each element
/// Sparse is tried where one element in 32 or more is zero. One that would say more of so few
/// bytes than a reader believes isn't taken (most_bytes_from).
/// Cost:     a pass over the elements for each form that is in question; no bits are packed to know
///           the size.
/// Source:   Han et al. 2016, arXiv:1510.00149, sections 2 to 4.
class TensorPlan {
 public:
  explicit TensorPlan(const graph::Tensor& tensor);

  /// Exact, in bytes.
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] bool sparse() const { return sparse_; }
  [[nodiscard]] bool palette() const { return !palette_.empty(); }

  /// Appends size() bytes.
  void write(std::string& out) const;

 private:
  struct Candidate;
  void try_sparse(std::span<const std::uint8_t> bytes, std::size_t zeros, Candidate& best);

  bool sparse_ = false;
  std::vector<std::uint64_t> palette_;  ///< Bits of the values.
  std::uint8_t flip_ = 0;
  std::size_t element_ = 1;
  std::size_t others_ = 0;              ///< Elements that a sparse form keeps.
  std::vector<std::uint8_t> gaps_;
  StreamPlan gaps_plan_;
  std::vector<std::vector<std::uint8_t>> runs_;  ///< Planes, or the indices.
  std::vector<StreamPlan> plans_;
  graph::Tensor tensor_;  ///< Its bytes are the run of a dense tensor of one-byte elements.
  std::size_t size_ = 0;
};

/// Reads what write() wrote, all of `payload`. False where it is no tensor of this type and shape.
/// Throws nothing; takes no more memory than most_bytes_from(payload.size()).
[[nodiscard]] bool read_tensor(std::string_view payload, graph::DType dtype,
                               const graph::Shape& shape, graph::Tensor& tensor);

}  // namespace kerf::compress::packed
