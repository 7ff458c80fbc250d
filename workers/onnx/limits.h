#pragma once

#include <cstddef>
#include <cstdint>

namespace kerf::onnx {

/// What a model file may hold. A file past a limit is refused by the scan that comes before
/// parsing, so that a small file cannot ask for much memory.
inline constexpr std::size_t kMaxNodes = 100'000;
inline constexpr std::size_t kMaxNames = 500'000;  ///< Inputs and outputs of all nodes together.
inline constexpr std::size_t kMaxRank = 16;
inline constexpr std::size_t kMaxGraphDepth =
    4;  ///< Graphs inside attributes, counted from the main one.
inline constexpr std::size_t kMaxFunctionDepth = 16;  ///< Local functions that call each other.
inline constexpr std::uint64_t kMaxElements = 1ULL << 40U;

/// Bytes that names, attributes and types take once parsed; weights don't count.
inline constexpr std::uint64_t kMaxStructureBytes = 192ULL << 20U;

/// Bytes of weights that lie as varints (int32_data, int64_data, uint64_data), which grow up to
/// eightfold in memory. Larger ones belong into raw_data.
inline constexpr std::uint64_t kMaxVarintBytes = 64ULL << 20U;

/// protobuf's own limit for one message.
inline constexpr std::uint64_t kMaxMessageBytes = (1ULL << 31U) - 1;

inline constexpr std::int64_t kMinOpset = 7;
inline constexpr std::int64_t kMaxOpset = 24;

}  // namespace kerf::onnx
