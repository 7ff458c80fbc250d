#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "core/result.h"
#include "workers/graph/tensor.h"

namespace kerf::data {

/// Samples as they lie in a file, before they meet a model.
struct DataSet {
  std::map<std::string, graph::Tensor> inputs;  ///< Raw, by array name; "x" serves a sole input.
  std::optional<graph::Tensor> labels;          ///< "y": integers = classes, floats = targets.
  std::int64_t samples = 0;
  std::map<std::string, std::string> left_out;  ///< Arrays that can't be used, and why.
  bool images = false;            ///< Decoded pictures: "x" is NCHW whatever `layout` says.
  /// x's last column where a CSV has no header: it is the label where the model takes one column
  /// less, which only bind() knows. Integers where every cell is written as one.
  std::optional<graph::Tensor> last_column;
};

/// Loads a data set; the content decides the format, not the file's name.
///
/// Formats:  * NumPy archive (.npz): one array per input, "y" for labels; a .npy file is its "x".
///           * Folder of pictures (PNG, JPEG, BMP), or a zip of one, with labels.csv (columns
///             file, label; with or without a header; label may be missing): "x" uint8
///             [N, C, H, W], C = 1 where all pictures are grey, else 3. All have the same size;
///             names stay below the folder. Labels: integers = classes, else numbers = targets.
///           * CSV: numeric columns, comma-separated; "x" f32 [N, columns]. With a header the label
///             is the column named y, label, target or class. Without one it is the last column
///             where the model takes one column less, else there are no labels.
/// Errors:   not_found; invalid_argument naming file, array or line, and expectation.
[[nodiscard]] Result<DataSet> load_dataset(const std::string& path);

/// As load_dataset(), for a CSV that is known to be one.
[[nodiscard]] Result<DataSet> load_csv(const std::string& path);

/// As load_dataset(), for a folder of pictures or a zip of one.
[[nodiscard]] Result<DataSet> load_images(const std::string& folder);

}  // namespace kerf::data
