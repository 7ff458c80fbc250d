#pragma once

#include <dnnl.hpp>
#include <functional>

namespace kerf::engine {

/// `data` (laid out as `from` says) in the layout `to` that a primitive wants.
///
/// Weights that were packed before are shared: candidates of one model differ in a few layers, and
/// the lanes of one executor in none. What nobody uses any more is kept up to 128 MiB, the last used
/// first. Nobody may write to what is returned.
///
/// Threads:  any.
[[nodiscard]] dnnl::memory packed(const dnnl::memory::desc& from, const void* data, const dnnl::memory::desc& to);

/// The same where it isn't the library that packs: `pack` fills what is new. `to` has to tell layouts apart.
[[nodiscard]] dnnl::memory packed_by(const dnnl::memory::desc& from, const void* data, const dnnl::memory::desc& to,
                                     const std::function<void(dnnl::memory&)>& pack);

/// Drops what only the cache holds.
void forget_packed_weights();

}  // namespace kerf::engine
