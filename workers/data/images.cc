#include <algorithm>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <utility>

#include "workers/data/csv.h"
#include "workers/data/dataset.h"
#include "workers/data/file_bytes.h"
#include "workers/data/zip_archive.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wshadow"
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_NO_STDIO
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_ONLY_BMP
#define STBI_NO_FAILURE_STRINGS
#define STBI_MAX_DIMENSIONS 4096
#include <stb_image.h>
#pragma GCC diagnostic pop

namespace kerf::data {
namespace {

using graph::DType;
using graph::Tensor;

constexpr std::uint64_t kLargestPicture = 64ULL << 20U;
constexpr std::uint64_t kLargestLabels = 256ULL << 20U;
constexpr std::uint64_t kMostBytes = 8ULL << 30U;

/// Gives a file of the folder, wherever the folder lies.
using ReadFile = std::function<Result<std::string>(const std::string& name, std::uint64_t most)>;

struct Pixels {
  void operator()(stbi_uc* pixels) const { stbi_image_free(pixels); }
};

struct Size {
  int width = 0;
  int height = 0;
  int channels = 0;  ///< 1 = grey, 3 = colour; transparency doesn't count.
  [[nodiscard]] std::string text() const {
    return std::to_string(width) + "×" + std::to_string(height);
  }
};

Result<Size> size_of(const std::string& bytes, const std::string& where) {
  Size size;
  int stored = 0;
  if (stbi_info_from_memory(reinterpret_cast<const stbi_uc*>(bytes.data()),
                            static_cast<int>(bytes.size()), &size.width, &size.height,
                            &stored) == 0 ||
      size.width <= 0 || size.height <= 0) {
    return invalid_argument(where + " isn't a picture of at most 4096×4096; expected PNG, JPEG "
                                    "or BMP");
  }
  size.channels = stored <= 2 ? 1 : 3;
  return size;
}

/// Whether a file ends too early, which the decoder would fill up without a word. (It does refuse
/// a PNG that ends early.)
bool is_cut(const std::string& bytes) {
  if (bytes.starts_with("BM") && bytes.size() >= 6) {
    std::uint32_t declared = 0;
    std::memcpy(&declared, bytes.data() + 2, sizeof declared);
    return declared > bytes.size();
  }
  if (bytes.starts_with("\xFF\xD8")) {
    constexpr std::size_t kTrailer = 1U << 16U;  // what some cameras add after the end
    const std::size_t tail = bytes.size() > kTrailer ? bytes.size() - kTrailer : 0;
    return bytes.find("\xFF\xD9", tail) == std::string::npos;
  }
  return false;
}

struct Listing {
  std::vector<std::string> files;
  std::optional<Tensor> labels;
};

/// labels.csv: columns file and label, with or without a header, label or not.
Result<Listing> read_listing(const std::string& text, const std::string& where) {
  CsvReader reader(text, where);
  std::vector<std::string_view> cells;
  KERF_ASSIGN(bool more, reader.next(cells));
  if (!more) return invalid_argument(where + ": empty; expected rows of file,label");
  const std::size_t width = cells.size();
  if (width > 2) {
    return invalid_argument(where + ": " + std::to_string(width) +
                            " columns; expected file,label");
  }
  const auto is_header = [&] {
    return cells[0] == "file" || cells[0] == "filename" || cells[0] == "name" ||
           cells[0] == "image" || cells[0] == "path";
  };
  if (is_header()) {
    KERF_ASSIGN(more, reader.next(cells));
  }
  Listing listing;
  std::vector<std::int64_t> classes;
  std::vector<float> targets;
  while (more) {
    const std::string line = where + ":" + std::to_string(reader.line());
    if (cells.size() != width) {
      return invalid_argument(line + ": " + std::to_string(cells.size()) + " columns; expected " +
                              std::to_string(width));
    }
    listing.files.emplace_back(cells[0]);
    if (width == 2) {
      const auto number = parse_number(cells[1]);
      if (!number) {
        return invalid_argument(line + ": label is " + quote_cell(cells[1]) +
                                "; expected a class's number");
      }
      targets.push_back(static_cast<float>(*number));
      if (const auto whole = parse_integer(cells[1])) classes.push_back(*whole);
    }
    KERF_ASSIGN(more, reader.next(cells));
  }
  const auto count = static_cast<std::int64_t>(listing.files.size());
  if (count == 0) return invalid_argument(where + ": names no files");
  if (width == 2) {
    listing.labels = classes.size() == targets.size() ? Tensor::s64({count}, classes)
                                                      : Tensor::f32({count}, targets);
  }
  return listing;
}

/// Interleaved pixels -> planes.
void deal_planes(const stbi_uc* pixels, std::int64_t places, std::int64_t channels, std::uint8_t* to) {
  for (std::int64_t c = 0; c < channels; ++c) {
    for (std::int64_t i = 0; i < places; ++i) to[c * places + i] = pixels[i * channels + c];
  }
}

Result<DataSet> load(const std::string& folder, const ReadFile& read) {
  KERF_ASSIGN(const std::string text, read("labels.csv", kLargestLabels));
  KERF_ASSIGN(Listing listing, read_listing(text, folder + "/labels.csv"));
  // Sizes first: one pass that decodes nothing, so that a bad file is found early and memory is
  // asked for once.
  Size common;
  for (const std::string& name : listing.files) {
    const std::string where = folder + ": " + quote_cell(name);
    KERF_ASSIGN(const std::string bytes, read(name, kLargestPicture));
    KERF_ASSIGN(const Size size, size_of(bytes, where));
    if (common.width == 0) common = size;
    if (size.width != common.width || size.height != common.height) {
      return invalid_argument(where + " is " + size.text() + "; expected " + common.text() +
                              " as " + quote_cell(listing.files.front()));
    }
    common.channels = std::max(common.channels, size.channels);
  }
  const auto count = static_cast<std::int64_t>(listing.files.size());
  const std::int64_t places = std::int64_t{common.width} * common.height;
  const std::int64_t picture = places * common.channels;
  if (static_cast<std::uint64_t>(count) > kMostBytes / static_cast<std::uint64_t>(picture)) {
    return invalid_argument(folder + ": " + std::to_string(count) + " pictures of " +
                            common.text() + "; expected at most 8 GiB in all");
  }
  DataSet data;
  data.samples = count;
  data.images = true;
  Tensor x(DType::kU8, {count, common.channels, common.height, common.width});
  std::uint8_t* to = x.mutable_as<std::uint8_t>().data();
  for (const std::string& name : listing.files) {
    KERF_ASSIGN(const std::string bytes, read(name, kLargestPicture));
    Size size;
    int stored = 0;
    const std::unique_ptr<stbi_uc, Pixels> pixels(stbi_load_from_memory(
        reinterpret_cast<const stbi_uc*>(bytes.data()), static_cast<int>(bytes.size()),
        &size.width, &size.height, &stored, common.channels));
    if (!pixels || is_cut(bytes) || size.width != common.width || size.height != common.height) {
      return invalid_argument(folder + ": " + quote_cell(name) + " is damaged or truncated");
    }
    deal_planes(pixels.get(), places, common.channels, to);
    to += picture;
  }
  data.inputs["x"] = std::move(x);
  data.labels = std::move(listing.labels);
  return data;
}

}  // namespace

Result<DataSet> load_images(const std::string& folder) {
  try {
    std::error_code failed;
    if (std::filesystem::is_directory(folder, failed)) {
      return load(folder, [&](const std::string& name, std::uint64_t most) {
        return read_beneath(folder, name, most);
      });
    }
    KERF_ASSIGN(const ZipArchive archive, ZipArchive::open(folder));
    std::map<std::string, const ZipArchive::Member*> members;
    for (const ZipArchive::Member& member : archive.members()) members[member.name] = &member;
    return load(folder,
                [&](const std::string& name, std::uint64_t most) -> Result<std::string> {
                  const auto found = members.find(name);
                  if (found == members.end()) return not_found(folder + ": holds no " + quote_cell(name));
                  if (found->second->bytes > most) {
                    return invalid_argument(folder + ": " + quote_cell(name) + " has " +
                                            std::to_string(found->second->bytes) +
                                            " bytes; expected at most " + std::to_string(most));
                  }
                  KERF_ASSIGN(const auto bytes, archive.read(*found->second));
                  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
                });
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kResourceExhausted, folder + ": memory ended while it was read"};
  }
}

}  // namespace kerf::data
