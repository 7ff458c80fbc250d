#include "workers/data/dataset.h"

#include <filesystem>
#include <fstream>
#include <string_view>
#include <utility>

#include "workers/data/npz.h"
#include "workers/data/zip_archive.h"

namespace kerf::data {
namespace {

using graph::Tensor;

/// Sorts arrays into inputs and labels.
Result<DataSet> from_arrays(Arrays arrays, std::map<std::string, std::string> left_out,
                            const std::string& path) {
  DataSet data;
  data.left_out = std::move(left_out);
  for (auto& [name, tensor] : arrays) {
    if (tensor.rank() == 0) {
      data.left_out[name] = name + " is a single value; expected one entry a sample";
    } else if (name == "y") {
      data.labels = std::move(tensor);
    } else {
      data.inputs[name] = std::move(tensor);
    }
  }
  if (data.inputs.empty() && !data.labels) {
    std::string why = data.left_out.empty() ? "" : " (" + data.left_out.begin()->second + ")";
    return invalid_argument(path + ": holds no array of samples" + why +
                            "; expected one per model input, or x");
  }
  const auto x = data.inputs.find("x");
  if (x != data.inputs.end()) {
    data.samples = x->second.dim(0);
  } else if (!data.inputs.empty()) {
    data.samples = data.inputs.begin()->second.dim(0);
  } else {
    data.samples = data.labels->dim(0);
  }
  if (x != data.inputs.end() && data.labels && data.labels->dim(0) != data.samples) {
    return invalid_argument(path + ": y has " + std::to_string(data.labels->dim(0)) +
                            " entries; expected " + std::to_string(data.samples) +
                            ", one a sample of x");
  }
  return data;
}

}  // namespace

Result<DataSet> load_dataset(const std::string& path) {
  std::error_code failed;
  const auto status = std::filesystem::status(path, failed);
  if (!std::filesystem::exists(status)) return not_found(path + ": no such file");
  if (std::filesystem::is_directory(status)) return load_images(path);
  if (!std::filesystem::is_regular_file(status)) {
    return invalid_argument(path + ": expected a file or a folder");
  }
  std::string start(6, '\0');
  {
    std::ifstream file(path, std::ios::binary);
    if (!file) return invalid_argument(path + ": may not be read");
    file.read(start.data(), static_cast<std::streamsize>(start.size()));
    start.resize(static_cast<std::size_t>(file.gcount()));
  }
  if (start == "\x93NUMPY") {
    KERF_ASSIGN(Tensor tensor, read_npy(path));
    return from_arrays({{"x", std::move(tensor)}}, {}, path);
  }
  // A name that promises an archive gets the archive's errors, whatever the content.
  const bool named_npz = path.ends_with(".npz") || path.ends_with(".zip");
  if (!start.starts_with("PK") && !named_npz) return load_csv(path);
  {
    KERF_ASSIGN(const ZipArchive archive, ZipArchive::open(path));
    if (archive.find("labels.csv") != nullptr) return load_images(path);
  }
  std::map<std::string, std::string> left_out;
  KERF_ASSIGN(Arrays arrays, read_npz(path, {}, &left_out));
  return from_arrays(std::move(arrays), std::move(left_out), path);
}

}  // namespace kerf::data
