#pragma once

/// Before a function: one version of it an instruction set; the loader picks. What it calls has to
/// be inlined (KERF_INLINE) to be compiled along. Sanitizers run before the resolvers can, so they
/// get the plain version.
#if defined(__x86_64__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define KERF_VECTORIZED __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define KERF_VECTORIZED
#endif
#define KERF_INLINE [[gnu::always_inline]] inline
