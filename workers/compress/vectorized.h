#pragma once

/// Before a function: one version of it an instruction set; the loader picks. Sanitizers run before
/// the resolvers can, so they get the plain version. (The engine has the same for its own kernels.)
#if defined(__x86_64__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define KERF_VERSIONS
#define KERF_VECTORIZED \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define KERF_VECTORIZED
#endif
