#include "core/frame.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace kerf {
namespace {

TEST(Frame, ComesBackWholeWhenItArrivesByteByByte) {
  const Frame sent{{{"type", "hello"}, {"version", 1}}, std::string("raw\0bytes", 9)};
  const auto bytes = encode_frame(sent);
  ASSERT_TRUE(bytes.has_value());
  FrameDecoder decoder;
  for (const char byte : *bytes + *bytes) ASSERT_TRUE(decoder.feed({&byte, 1}).has_value());
  for (int i = 0; i < 2; ++i) {
    const auto got = decoder.next();
    ASSERT_TRUE(got.has_value());
    EXPECT_EQ(got->message, sent.message);
    EXPECT_EQ(got->bytes, sent.bytes);
  }
  EXPECT_FALSE(decoder.next().has_value());
}

TEST(Frame, ForeignBytesAreRefusedAtTheFirstWrongOne) {
  FrameDecoder decoder;
  EXPECT_TRUE(decoder.feed("KR").has_value());
  EXPECT_FALSE(decoder.feed("X").has_value());
  FrameDecoder http;
  EXPECT_FALSE(http.feed("GET / HTTP/1.1\r\n").has_value());
}

TEST(Frame, LengthOverTheLimitIsRefusedBeforeItsBytesCome) {
  FrameDecoder decoder;
  EXPECT_FALSE(decoder.feed(std::string("KRF1\xff\xff\xff\x7f\0\0\0\0", 12)).has_value());
  EXPECT_FALSE(encode_frame({Json::object(), std::string(kMaxFrameBytes + 1, 'x')}).has_value());
}

TEST(Frame, BrokenJsonInsideIsRefused) {
  FrameDecoder decoder;
  EXPECT_FALSE(decoder.feed(std::string("KRF1\x02\0\0\0\0\0\0\0{]", 14)).has_value());
}

}  // namespace
}  // namespace kerf
