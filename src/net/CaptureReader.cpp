// SPDX-License-Identifier: MIT
#include "net/CaptureReader.h"

#include "core/Fd.h"
#include "net/Decapsulate.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <pcap/pcap.h>
#include <string_view>
#include <sys/stat.h>
#include <unistd.h>

namespace btblock::net {

struct CaptureReader::State {
    ~State() {
        if (handle)
            pcap_close(handle); // closes the stream too, except standard input
    }
    std::string path;
    std::unique_ptr<char[]> buffer; // of the stream
    pcap_t* handle = nullptr;
    std::uint64_t delivered = 0;
    bool finished = false;
};

namespace {

constexpr std::size_t stream_buffer = 1 << 18;

using Magic = std::array<unsigned char, 4>;

bool is_capture(const Magic& magic) {
    // libpcap also reads the two variants with extra fields (Kuznetzov's patch, Navtel)
    constexpr std::array<std::uint32_t, 5> pcap_magics{0xa1b2c3d4, 0xa1b23c4d, 0xa1b2cd34, 0xa12b3c4d, 0x0a0d0d0a};
    std::uint32_t value;
    std::memcpy(&value, magic.data(), sizeof value);
    return std::ranges::any_of(pcap_magics,
                               [&](std::uint32_t m) { return value == m || __builtin_bswap32(value) == m; });
}

std::string compression(const Magic& m) {
    if (m[0] == 0x1f && m[1] == 0x8b)
        return "gzip";
    if (m == Magic{0x28, 0xb5, 0x2f, 0xfd})
        return "zstd";
    if (m == Magic{0xfd, '7', 'z', 'X'})
        return "xz";
    if (m[0] == 'B' && m[1] == 'Z' && m[2] == 'h')
        return "bzip2";
    if (m == Magic{0x04, 0x22, 0x4d, 0x18})
        return "lz4";
    return {};
}

Error not_a_capture(const std::string& path) {
    return error(path + ": not a pcap or pcapng capture");
}

// The stream to read from, after checking what cannot be a capture.
Result<std::FILE*> open_stream(const std::string& path) {
    struct stat st {};
    if (::stat(path.c_str(), &st) != 0)
        return errno_error(path);
    if (S_ISDIR(st.st_mode))
        return error(path + ": is a directory, not a capture");
    if (!S_ISREG(st.st_mode)) // opening a FIFO waits, opening a device may act
        return error(path + ": not a regular file (use '-' to read a capture from standard input)");
    Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    if (!fd)
        return errno_error(path);
    if (::fstat(fd.get(), &st) != 0)
        return errno_error(path);
    if (!S_ISREG(st.st_mode)) // replaced meanwhile
        return error(path + ": not a regular file");

    Magic magic{};
    const ssize_t got = ::pread(fd.get(), magic.data(), magic.size(), 0);
    if (got < 0)
        return errno_error(path);
    if (got == 0)
        return error(path + ": empty file");
    if (const std::string packed = compression(magic); !packed.empty())
        return error(path + ": compressed with " + packed + ": decompress it first, '-' reads standard input");
    if (got < static_cast<ssize_t>(magic.size()) || !is_capture(magic))
        return not_a_capture(path);

    std::FILE* stream = ::fdopen(fd.get(), "rb");
    if (!stream)
        return errno_error(path);
    fd.release();
    return stream;
}

} // namespace

CaptureReader::CaptureReader(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
CaptureReader::CaptureReader(CaptureReader&&) noexcept = default;
CaptureReader& CaptureReader::operator=(CaptureReader&&) noexcept = default;
CaptureReader::~CaptureReader() = default;

Result<CaptureReader> CaptureReader::open(const std::string& path) {
    auto state = std::make_unique<State>();
    std::FILE* stream = stdin;
    if (path == "-") {
        state->path = "standard input";
        if (::isatty(STDIN_FILENO))
            return error("standard input: is a terminal, not a capture");
    } else {
        auto opened = open_stream(path);
        if (!opened)
            return opened.error();
        stream = *opened;
        state->path = path;
    }

    // libpcap reads through the stream, whose own buffer is a page: a system call for a few packets. That of standard
    // input must live as long as the process.
    static char for_standard_input[stream_buffer];
    char* buffer = for_standard_input;
    if (stream != stdin) {
        state->buffer = std::make_unique_for_overwrite<char[]>(stream_buffer);
        buffer = state->buffer.get();
    }
    std::setvbuf(stream, buffer, _IOFBF, stream_buffer);
    char reason[PCAP_ERRBUF_SIZE] = "";
    state->handle = pcap_fopen_offline_with_tstamp_precision(stream, PCAP_TSTAMP_PRECISION_NANO, reason);
    if (!state->handle) {
        if (stream != stdin)
            std::fclose(stream);
        const std::string_view text(reason);
        if (text.find("unknown file format") != text.npos)
            return not_a_capture(state->path);
        if (stream == stdin && text.find("only got 0") != text.npos)
            return error(state->path + ": empty");
        return error(state->path + ": " + reason);
    }
    const int type = pcap_datalink(state->handle);
    if (!link_type_supported(type)) {
        const char* name = pcap_datalink_val_to_name(type);
        return error(state->path + ": link type " + std::to_string(type) +
                     (name ? " (" + std::string(name) + ")" : "") + " not supported");
    }
    return CaptureReader(std::move(state));
}

int CaptureReader::link_type() const noexcept {
    return pcap_datalink(state_->handle);
}

std::string CaptureReader::link_type_name() const {
    const char* name = pcap_datalink_val_to_name(link_type());
    return name ? name : std::to_string(link_type());
}

Result<bool> CaptureReader::next(CapturedPacket& packet) {
    State& s = *state_;
    if (s.finished)
        return false;
    pcap_pkthdr* header = nullptr;
    const u_char* bytes = nullptr;
    const int got = pcap_next_ex(s.handle, &header, &bytes);
    if (got != 1) {
        s.finished = true;
        if (got == PCAP_ERROR_BREAK) // libpcap's end of file
            return false;
        std::string reason = pcap_geterr(s.handle);
        if (reason.find("different from the") != reason.npos) // what libpcap says of a second, unlike interface
            reason += " (one capture, one link type and snapshot length: split the file by interface)";
        return error(s.path + ": packet " + std::to_string(s.delivered + 1) + ": " + reason);
    }
    packet.number = ++s.delivered;
    const auto seconds = static_cast<std::uint64_t>(std::max<time_t>(header->ts.tv_sec, 0));
    const auto nanoseconds = static_cast<std::uint64_t>(std::max<suseconds_t>(header->ts.tv_usec, 0));
    packet.time_ns = seconds * 1'000'000'000u + nanoseconds;
    packet.bytes = {bytes, header->caplen};
    packet.wire_length = std::max(header->len, header->caplen);
    return true;
}

} // namespace btblock::net
