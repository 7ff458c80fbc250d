#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "workers/compress/layer_input.h"

namespace kerf::compress {

/// Second moments of some columns of the rows that a group of a layer reads.
struct MomentBlock {
  std::size_t group = 0;
  std::size_t begin = 0;     ///< First column in the group's rows.
  std::size_t columns = 0;
  std::vector<double> gram;  ///< [columns, columns]: mean of x xᵀ.
  std::vector<double> mean;  ///< [columns]
  std::vector<double> cross; ///< [columns, outputs]: mean of x yᵀ; empty where no y was collected.
};

/// What a layer's inputs look like on calibration data, as far as a sum of squares can tell.
///
/// One block a group; rows of more than kMostColumns columns fall into several blocks, and what
/// columns of different blocks have in common isn't known.
struct SecondMoments {
  static constexpr std::size_t kMostColumns = 4096;

  std::size_t groups = 0;
  std::size_t depth = 0;
  std::size_t outputs = 0;  ///< Of one group; 0 where no outputs were collected.
  std::int64_t rows = 0;    ///< Seen; 0: everything is 0.
  std::vector<MomentBlock> blocks;  ///< By group, then by column.
  std::vector<double> output_mean;  ///< [groups · outputs]

  [[nodiscard]] std::size_t bytes() const;
  [[nodiscard]] static std::size_t bytes_for(const LayerInput& input, std::size_t outputs);
};

/// Takes second moments of a layer's inputs, and of its wanted outputs with them.
///
/// Cost:     of each item as many evenly spread positions are read as keep the whole near 4·10⁹
///           multiply-adds, at least 8 rows a column and at most 65,536 rows.
/// Threads:  one caller at a time.
class MomentCollector {
 public:
  /// `items`: how many will come. `wanted`: for each of the layer's output channels its channel in
  /// the outputs that are given to add(); empty: inputs only.
  MomentCollector(const LayerInput& input, std::int64_t items,
                  std::vector<std::size_t> wanted = {}, std::size_t wanted_of = 0);

  /// Adds whole items that lie one after another, with the outputs wanted of them. False, with
  /// nothing more added, where an element is not finite or the sizes don't fit.
  [[nodiscard]] bool add(std::span<const float> inputs, std::span<const float> outputs = {});

  [[nodiscard]] SecondMoments finish();

 private:
  void flush();

  LayerInput input_;
  std::vector<std::size_t> wanted_;
  std::size_t wanted_of_;
  std::size_t positions_;  ///< Read of each item.
  std::int64_t items_seen_ = 0;
  std::size_t buffered_ = 0;
  SecondMoments out_;
  std::vector<std::vector<float>> buffers_;  ///< A block's rows [x, 1, y].
  std::vector<std::vector<double>> sums_;
  std::vector<float> row_;
};

}  // namespace kerf::compress
