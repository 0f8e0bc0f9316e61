// SPDX-License-Identifier: MIT
#include "detect/WebSocket.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string>

namespace btblock::detect {
namespace {

constexpr std::size_t hash_length = 20;
constexpr std::size_t looked_at = 2048; // bytes of a message: offers may follow, of several KiB
constexpr std::uint8_t compressed = 0x40;

// JSON has no bytes: trackers and clients write a hash as 20 characters below U+0100.
bool is_hash(std::string_view utf8) noexcept {
    std::size_t characters = 0;
    for (const char c : utf8) {
        const auto b = static_cast<std::uint8_t>(c);
        if (b >= 0xc4)
            return false;
        characters += (b & 0xc0) != 0x80;
    }
    return characters == hash_length;
}

// Notes the members of the outermost object that make a tracker request. A cut text is read to its end.
class Request : public nlohmann::json_sax<nlohmann::json> {
public:
    // Without an action two hashes under these names say as much.
    [[nodiscard]] bool is_tracker() const noexcept { return hash_ && (action_ || peer_id_); }

    bool start_object(std::size_t) override { return enter(true); }
    bool end_object() override { return leave(); }
    bool start_array(std::size_t) override { return enter(false); }
    bool end_array() override { return leave(); }
    bool key(std::string& name) override {
        if (depth_ == 1)
            key_ = name;
        return true;
    }
    bool string(std::string& value) override {
        // A scrape may ask for several: an array.
        hash_ |= key_ == "info_hash" && depth_ <= 2 && is_hash(value);
        peer_id_ |= key_ == "peer_id" && depth_ == 1 && is_hash(value);
        action_ |= key_ == "action" && depth_ == 1 && (value == "announce" || value == "scrape");
        return !is_tracker(); // false: enough was read
    }
    bool null() override { return depth_ > 0; }
    bool boolean(bool) override { return depth_ > 0; }
    bool number_integer(number_integer_t) override { return depth_ > 0; }
    bool number_unsigned(number_unsigned_t) override { return depth_ > 0; }
    bool number_float(number_float_t, const std::string&) override { return depth_ > 0; }
    bool binary(nlohmann::json::binary_t&) override { return false; }
    bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception&) override { return false; }

private:
    bool enter(bool object) noexcept { return ++depth_ > 1 || object; }
    bool leave() noexcept { return --depth_ > 0; }

    unsigned depth_ = 0;
    std::string key_; // of the outermost object
    bool hash_ = false, peer_id_ = false, action_ = false;
};

} // namespace

bool is_client_frame(Bytes s) noexcept {
    // FIN or not, compressed or not; the other reserved bits mean nothing yet. A control frame is no message.
    return s.size() >= 2 && (s[0] & 0x3f) >= 1 && (s[0] & 0x3f) <= 2 && s[1] & 0x80;
}

WebSocketFrame read_client_frame(Bytes s, bool all, Inflater& inflater) {
    WebSocketFrame frame;
    if (!is_client_frame(s))
        return frame;
    std::size_t at = 2;
    std::uint64_t length = s[1] & 0x7f;
    const std::size_t wide = length == 126 ? 2 : length == 127 ? 8 : 0;
    constexpr std::size_t mask_length = 4;
    frame.need_more = !all;
    if (s.size() < at + wide + mask_length)
        return frame;
    if (wide) {
        length = wide == 2 ? be16(&s[at]) : be64(&s[at]);
        at += wide;
    }
    constexpr std::uint64_t longest = std::uint64_t{1} << 31;
    if (length > longest) {
        frame.need_more = false;
        return frame;
    }
    const Bytes mask = s.subspan(at, mask_length), masked = s.subspan(at + mask_length);
    frame.length = at + mask_length + length;
    std::array<char, looked_at> payload, inflated;
    const std::size_t n = std::min<std::uint64_t>({masked.size(), length, payload.size()});
    for (std::size_t i = 0; i < n; ++i)
        payload[i] = static_cast<char>(masked[i] ^ mask[i % mask_length]);
    std::string_view text(payload.data(), n);
    if (s[0] & compressed) {
        // By itself: one that refers to an earlier message cannot be read.
        const auto message = inflater.inflate({reinterpret_cast<const std::uint8_t*>(payload.data()), n}, inflated);
        if (!message) {
            frame.need_more = false;
            return frame;
        }
        text = *message;
    }
    if (!text.empty() && text[0] != '{') {
        frame.need_more = false;
        return frame;
    }
    Request request;
    if (!text.empty()) // the parser tells it at length
        nlohmann::json::sax_parse(text.begin(), text.end(), &request);
    if (request.is_tracker())
        frame.finding = {Judgement::proves, BT_EV_BIT(BT_EV_TRACKER_HTTP), false};
    frame.need_more = !all && n < length && n < payload.size() && text.size() < looked_at && !request.is_tracker();
    return frame;
}

} // namespace btblock::detect
