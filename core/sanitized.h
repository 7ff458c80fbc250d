#pragma once

/// KERF_SANITIZED is 1 in a build with AddressSanitizer or ThreadSanitizer, else 0. They bring
/// allocators of their own, reserve terabytes of addresses for their shadow, and keep memory resident
/// that isn't ours: limits and counts of bytes mean nothing there.
///
/// GCC says by a macro that one of them is on, clang by a feature.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define KERF_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define KERF_SANITIZED 1
#endif
#endif
#ifndef KERF_SANITIZED
#define KERF_SANITIZED 0
#endif

namespace kerf {

inline constexpr bool kSanitized = KERF_SANITIZED != 0;

}  // namespace kerf
