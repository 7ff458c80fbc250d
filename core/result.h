#pragma once

#include <boost/system/result.hpp>
#include <type_traits>
#include <utility>

#include "core/error.h"

namespace kerf {

/// Called by boost when value() meets an Error: the caller's bug, hence an exception. Stands before
/// Result, since boost looks it up where Result<void> is compiled.
[[noreturn]] void throw_exception_from_error(const Error& error,
                                             const boost::source_location& where);

/// Either a T or an Error. The way expected outcomes travel; exceptions are for a broken world.
///
/// Used through has_value(), value(), error(), * and -> only. value() on an error throws
/// std::logic_error-like boost exception: reaching it is a bug of the caller.
template <class T>
class [[nodiscard]] Result {
 public:
  using value_type = T;

  Result(T value) : result_(boost::system::in_place_value, std::move(value)) {}  // NOLINT
  Result(Error error) : result_(boost::system::in_place_error, std::move(error)) {}  // NOLINT

  [[nodiscard]] bool has_value() const noexcept { return result_.has_value(); }
  [[nodiscard]] T& value() & { return result_.value(); }
  [[nodiscard]] const T& value() const& { return result_.value(); }
  /// By value, so that what a temporary Result held can be iterated over or kept.
  [[nodiscard]] T value() && { return std::move(result_).value(); }
  [[nodiscard]] Error error() const& { return result_.error(); }
  [[nodiscard]] T& operator*() & { return *result_; }
  [[nodiscard]] const T& operator*() const& { return *result_; }
  [[nodiscard]] T operator*() && { return std::move(*result_); }
  [[nodiscard]] T* operator->() { return &*result_; }
  [[nodiscard]] const T* operator->() const { return &*result_; }

 private:
  boost::system::result<T, Error> result_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;

  Result() = default;
  Result(Error error) : result_(boost::system::in_place_error, std::move(error)) {}  // NOLINT

  [[nodiscard]] bool has_value() const noexcept { return result_.has_value(); }
  void value() const { result_.value(); }
  [[nodiscard]] Error error() const { return result_.error(); }

 private:
  boost::system::result<void, Error> result_;
};

}  // namespace kerf

#define KERF_CONCAT_INNER(a, b) a##b
#define KERF_CONCAT(a, b) KERF_CONCAT_INNER(a, b)

/// Returns the error of `expression` (a Result<void>, or any Result whose value isn't wanted) to
/// the caller, if it has one.
#define KERF_TRY(expression)                                            \
  do {                                                                  \
    auto&& kerf_try_result = (expression);                              \
    if (!kerf_try_result.has_value()) return kerf_try_result.error();   \
  } while (false)

/// KERF_ASSIGN(auto x, f()): x = the value of f(), or return its error to the caller.
#define KERF_ASSIGN(declaration, expression) \
  KERF_ASSIGN_INNER(KERF_CONCAT(kerf_result_, __LINE__), declaration, expression)
#define KERF_ASSIGN_INNER(temporary, declaration, expression)   \
  auto temporary = (expression);                                \
  if (!temporary.has_value()) return temporary.error();         \
  declaration = std::move(*temporary)
