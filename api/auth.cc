#include "api/auth.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <stdexcept>

#include "core/sha256.h"

namespace kerf::api {
namespace {

bool allows(const std::set<Scope>& scopes, Scope wanted) {
  if (scopes.contains(Scope::kAdmin) || scopes.contains(wanted)) return true;
  return wanted == Scope::kRead && scopes.contains(Scope::kSubmit);
}

}  // namespace

void TokenTable::add(std::string_view token, std::set<Scope> scopes) {
  entries_.push_back({sha256_hex(token), std::move(scopes)});
}

Result<void> TokenTable::check(std::string_view authorization, Scope wanted) const {
  constexpr std::string_view kPrefix = "Bearer ";
  if (wanted == Scope::kNone) return {};
  const std::string_view token =
      authorization.starts_with(kPrefix) ? authorization.substr(kPrefix.size()) : std::string_view();
  const std::string hash = sha256_hex(token);
  const Entry* found = nullptr;
  for (const Entry& entry : entries_) {  // all of them, always
    if (CRYPTO_memcmp(entry.hash.data(), hash.data(), hash.size()) == 0) found = &entry;
  }
  if (found == nullptr || token.empty()) {
    return Error{ErrorCode::kUnauthenticated, "no or an unknown token; expected Authorization: Bearer …"};
  }
  if (!allows(found->scopes, wanted)) {
    return Error{ErrorCode::kPermissionDenied, "the token's scope doesn't allow this"};
  }
  return {};
}

std::string make_token() {
  std::array<unsigned char, 32> bytes{};
  if (RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) != 1) {
    throw std::runtime_error("no random bytes from OpenSSL");
  }
  static constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::string text;
  for (const unsigned char byte : bytes) text += kDigits[byte & 63U];
  for (std::size_t i = 0; i < 11; ++i) text += kDigits[(bytes[i] >> 6U) | ((bytes[i + 11] >> 6U) << 2U) | ((bytes[i + 21] >> 6U & 3U) << 4U)];
  return text;
}

Result<std::string> token_in_file(const std::string& path) {
  std::string token;
  if (std::ifstream file(path); file && std::getline(file, token) && token.size() >= 20) return token;
  token = make_token();
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return Error{ErrorCode::kUnavailable, path + ": can't be written"};
  const std::string line = token + "\n";
  const bool written = ::write(fd, line.data(), line.size()) == static_cast<ssize_t>(line.size()) && ::fsync(fd) == 0;
  ::close(fd);
  if (!written) return Error{ErrorCode::kUnavailable, path + ": can't be written"};
  return token;
}

}  // namespace kerf::api
