#include "core/result.h"

#include <stdexcept>
#include <string>

namespace kerf {

void throw_exception_from_error(const Error& error, const boost::source_location& where) {
  throw std::logic_error("value() of an error at " + where.to_string() + ": " +
                         std::string(to_string(error.code)) + ": " + error.message);
}

}  // namespace kerf
