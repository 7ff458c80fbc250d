#include "workers/onnx/wire_scan.h"

#include <cstdint>
#include <string>

#include "workers/onnx/limits.h"

namespace kerf::onnx {
namespace {

enum class Kind {
  kModel,
  kGraph,
  kNode,
  kAttribute,
  kTensor,
  kSparse,
  kValueInfo,
  kType,
  kTensorType,
  kShape,
  kDim,
  kFunction,
  kOther,    // a message or a blob of which only the size matters
  kText,     // a string that has to be UTF-8
  kValue,    // the same, naming an input or output of a node
  kDims,     // TensorProto.dims
  kNumbers,  // numbers of attributes
  kVarints,  // weights as varints
  kBlob,     // weights as bytes
};

/// What the length-delimited or scalar field `number` of a message is.
Kind child(Kind parent, std::uint32_t number) {
  switch (parent) {
    case Kind::kModel:
      return number == 7 ? Kind::kGraph : number == 25 ? Kind::kFunction : Kind::kOther;
    case Kind::kFunction:
      switch (number) {
        case 4:
        case 5:
          return Kind::kValue;
        case 1:
        case 6:
        case 10:
        case 13:
          return Kind::kText;
        case 7:
          return Kind::kNode;
        case 11:
          return Kind::kAttribute;
        default:
          return Kind::kOther;
      }
    case Kind::kGraph:
      switch (number) {
        case 1:
          return Kind::kNode;
        case 2:
          return Kind::kText;
        case 5:
          return Kind::kTensor;
        case 11:
        case 12:
        case 13:
          return Kind::kValueInfo;
        case 15:
          return Kind::kSparse;
        default:
          return Kind::kOther;
      }
    case Kind::kNode:
      switch (number) {
        case 1:
        case 2:
          return Kind::kValue;
        case 3:
        case 4:
        case 7:
          return Kind::kText;
        case 5:
          return Kind::kAttribute;
        default:
          return Kind::kOther;
      }
    case Kind::kAttribute:
      switch (number) {
        case 1:
          return Kind::kText;
        case 5:
        case 10:
          return Kind::kTensor;
        case 6:
        case 11:
          return Kind::kGraph;
        case 7:
        case 8:
          return Kind::kNumbers;
        case 22:
        case 23:
          return Kind::kSparse;
        default:
          return Kind::kOther;
      }
    case Kind::kSparse:
      return number == 3 ? Kind::kDims : Kind::kTensor;
    case Kind::kTensor:
      switch (number) {
        case 1:
          return Kind::kDims;
        case 4:
        case 9:
        case 10:
          return Kind::kBlob;
        case 5:
        case 7:
        case 11:
          return Kind::kVarints;
        case 8:
          return Kind::kText;
        default:
          return Kind::kOther;
      }
    case Kind::kValueInfo:
      return number == 1 ? Kind::kText : number == 2 ? Kind::kType : Kind::kOther;
    case Kind::kType:
      return number == 1 || number == 8 ? Kind::kTensorType : Kind::kOther;
    case Kind::kTensorType:
      return number == 2 ? Kind::kShape : Kind::kOther;
    case Kind::kShape:
      return number == 1 ? Kind::kDim : Kind::kOther;
    case Kind::kDim:
      return number == 2 ? Kind::kText : Kind::kOther;
    default:
      return Kind::kOther;
  }
}

bool is_message(Kind kind) { return kind <= Kind::kFunction; }

/// Bytes that an empty parsed message or string takes in memory, generously.
std::uint64_t weight(Kind kind) {
  switch (kind) {
    case Kind::kNode:
      return 224;
    case Kind::kAttribute:
      return 256;
    case Kind::kTensor:
      return 320;
    case Kind::kGraph:
    case Kind::kSparse:
      return 320;
    case Kind::kText:
    case Kind::kValue:
      return 48;
    case Kind::kNumbers:
      return 8;
    case Kind::kBlob:
    case Kind::kDims:
    case Kind::kVarints:
      return 16;
    default:
      return 96;
  }
}

bool is_utf8(std::string_view text) {
  std::size_t i = 0;
  while (i < text.size()) {
    const auto lead = static_cast<unsigned char>(text[i]);
    std::size_t more = 0;
    std::uint32_t code = lead;
    if (lead >= 0xF0 && lead <= 0xF4) {
      more = 3;
      code = lead & 0x07U;
    } else if (lead >= 0xE0) {
      more = lead <= 0xEF ? 2 : 9;
      code = lead & 0x0FU;
    } else if (lead >= 0xC2) {
      more = 1;
      code = lead & 0x1FU;
    } else if (lead >= 0x80) {
      return false;
    }
    if (more > 3 || text.size() - i <= more) return false;
    for (std::size_t k = 1; k <= more; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      if ((next & 0xC0U) != 0x80U) return false;
      code = (code << 6U) | (next & 0x3FU);
    }
    if ((more == 2 && (code < 0x800 || (code >= 0xD800 && code <= 0xDFFF))) ||
        (more == 3 && (code < 0x10000 || code > 0x10FFFF))) {
      return false;
    }
    i += more + 1;
  }
  return true;
}

class Scanner {
 public:
  explicit Scanner(std::string_view bytes) : bytes_(bytes) {}

  Result<void> run() { return message(Kind::kModel, bytes_.size(), 0); }

 private:
  Error at(const std::string& what) const {
    return invalid_argument("not a readable ONNX file: " + what + " at byte " +
                            std::to_string(at_) + " of " + std::to_string(bytes_.size()));
  }

  bool varint(std::size_t end, std::uint64_t& value) {
    value = 0;
    for (unsigned shift = 0; shift < 70 && at_ < end; shift += 7) {
      const auto byte = static_cast<unsigned char>(bytes_[at_++]);
      if (shift < 64) value |= static_cast<std::uint64_t>(byte & 0x7FU) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }

  Result<void> charge(std::uint64_t bytes) {
    structure_ += bytes;
    if (structure_ <= kMaxStructureBytes) return {};
    return invalid_argument("the model's names, attributes and types would take more than " +
                            std::to_string(kMaxStructureBytes >> 20U) +
                            " MiB of memory, the limit of this reader");
  }

  Result<void> message(Kind kind, std::size_t end, std::size_t graphs) {
    if (kind == Kind::kGraph && ++graphs > kMaxGraphDepth) {
      return unimplemented(
          "graphs are nested more than " + std::to_string(kMaxGraphDepth) +
          " deep; export the model with fewer If, Loop and Scan inside each other");
    }
    if (kind == Kind::kNode && ++nodes_ > kMaxNodes) {
      return invalid_argument("the model has more than " + std::to_string(kMaxNodes) +
                              " nodes, the limit of this reader");
    }
    std::size_t dims = 0;
    while (at_ < end) {
      std::uint64_t tag = 0;
      if (!varint(end, tag)) return at("a field that is cut off");
      const std::uint64_t number = tag >> 3U;
      if (number == 0 || number >= (1ULL << 29U)) return at("an impossible field number");
      const Kind part = child(kind, static_cast<std::uint32_t>(number));
      std::uint64_t value = 0;
      switch (tag & 7U) {
        case 0:
          if (!varint(end, value)) return at("a number that is cut off");
          KERF_TRY(charge(part == Kind::kVarints ? 0 : 16));
          if (part == Kind::kVarints) KERF_TRY(varints(10));
          if (part == Kind::kDims) ++dims;
          break;
        case 1:
        case 5: {
          const std::size_t size = (tag & 7U) == 1 ? 8 : 4;
          if (end - at_ < size) return at("a number that is cut off");
          at_ += size;
          KERF_TRY(charge(16));
          break;
        }
        case 2: {
          if (!varint(end, value)) return at("a length that is cut off");
          if (value > end - at_) {
            return at("a field of " + std::to_string(value) + " bytes where " +
                      std::to_string(end - at_) + " are left (truncated?)");
          }
          KERF_TRY(charge(weight(part)));
          KERF_TRY(field(part, static_cast<std::size_t>(value), graphs, dims));
          break;
        }
        default:
          return at("a field of unknown wire type " + std::to_string(tag & 7U));
      }
      if (dims > kMaxRank) {
        return invalid_argument("a tensor has more than " + std::to_string(kMaxRank) +
                                " dimensions (before byte " + std::to_string(at_) + ")");
      }
    }
    return {};
  }

  Result<void> field(Kind part, std::size_t size, std::size_t graphs, std::size_t& dims) {
    const std::string_view body = bytes_.substr(at_, size);
    const std::size_t end = at_ + size;
    if (is_message(part)) return message(part, end, graphs);
    switch (part) {
      case Kind::kValue:
        if (++values_ > kMaxNames) {
          return invalid_argument("the nodes have more than " + std::to_string(kMaxNames) +
                                  " inputs and outputs, the limit of this reader");
        }
        [[fallthrough]];
      case Kind::kText:
        KERF_TRY(charge(size));
        if (!is_utf8(body)) return at("a name that isn't UTF-8");
        break;
      case Kind::kDims: {
        std::uint64_t ignored = 0;
        while (at_ < end && dims <= kMaxRank) {
          if (!varint(end, ignored)) return at("a dimension that is cut off");
          ++dims;
        }
        break;
      }
      case Kind::kNumbers:
        KERF_TRY(charge(8 * static_cast<std::uint64_t>(size)));
        break;
      case Kind::kVarints:
        KERF_TRY(varints(size));
        break;
      case Kind::kBlob:
        break;
      default:
        KERF_TRY(charge(8 * static_cast<std::uint64_t>(size)));
        break;
    }
    at_ = end;
    return {};
  }

  Result<void> varints(std::uint64_t bytes) {
    varint_bytes_ += bytes;
    if (varint_bytes_ <= kMaxVarintBytes) return {};
    return invalid_argument(
        "more than " + std::to_string(kMaxVarintBytes >> 20U) +
        " MiB of weights lie in int32_data, int64_data or uint64_data; save the "
        "model with raw_data");
  }

  std::string_view bytes_;
  std::size_t at_ = 0;
  std::size_t nodes_ = 0;
  std::size_t values_ = 0;
  std::uint64_t structure_ = 0;
  std::uint64_t varint_bytes_ = 0;
};

}  // namespace

Result<void> scan_model(std::string_view bytes) { return Scanner(bytes).run(); }

}  // namespace kerf::onnx
