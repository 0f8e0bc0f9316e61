// SPDX-License-Identifier: MIT
#include "detect/Inflater.h"

#include <new>
#include <zlib.h>

namespace btblock::detect {
namespace {

constexpr int raw = -MAX_WBITS; // no header of zlib's

} // namespace

void Inflater::End::operator()(z_stream_s* stream) const noexcept {
    inflateEnd(stream);
    delete stream;
}

std::optional<std::string_view> Inflater::inflate(Bytes compressed, std::span<char> room) noexcept {
    if (!stream_) {
        auto* stream = new (std::nothrow) z_stream_s{};
        if (!stream)
            return {};
        if (inflateInit2(stream, raw) != Z_OK) {
            delete stream;
            return {};
        }
        stream_.reset(stream);
    } else if (inflateReset(stream_.get()) != Z_OK) {
        return {};
    }
    stream_->next_in = const_cast<Bytef*>(compressed.data()); // only read
    stream_->avail_in = static_cast<uInt>(compressed.size());
    stream_->next_out = reinterpret_cast<Bytef*>(room.data());
    stream_->avail_out = static_cast<uInt>(room.size());
    const int result = ::inflate(stream_.get(), Z_SYNC_FLUSH);
    // Z_BUF_ERROR: neither more to read nor room, as with an empty message.
    if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
        return {};
    return std::string_view(room.data(), room.size() - stream_->avail_out);
}

} // namespace btblock::detect
