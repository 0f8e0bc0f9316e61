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
    [[nodiscard]] bool fetch(std::size_t length);
    [[nodiscard]] bool take(CapturedPacket& packet);
    [[nodiscard]] std::size_t ahead() const noexcept { return filled - at; }

    std::string path;
    std::unique_ptr<char[]> buffer; // of the stream
    pcap_t* handle = nullptr;
    std::uint64_t delivered = 0;
    bool finished = false;
    // The records of an ordinary pcap file are taken from large pieces of it, in place. Whatever is not ordinary (a
    // record that is cut or too long, the end) is left to libpcap from there on, and so are all other files.
    bool plain = false;
    int file = -1;
    std::uint32_t longest = 0;     // record
    std::uint32_t nanoseconds = 0; // a unit of their times
    std::unique_ptr<std::uint8_t[]> piece;
    std::size_t at = 0, filled = 0; // the next record, and the end of what is there
    std::uint64_t begins = 0;       // the piece, in the file
};

namespace {

constexpr std::size_t stream_buffer = 1 << 18;
constexpr std::size_t piece_size = 1 << 20;
constexpr std::uint32_t longest_record = 1 << 18; // what libpcap takes of the link types that are read
static_assert(longest_record < piece_size / 2);

// In the byte order of the machine.
struct FileHeader {
    std::uint32_t magic;
    std::uint16_t major, minor;
    std::uint32_t reserved[2];
    std::uint32_t snapshot, link_type;
};
struct RecordHeader {
    std::int32_t seconds, fraction; // libpcap takes them for signed, too
    std::uint32_t length, wire_length;
};

// Nanoseconds in a unit of the file's times; 0: not an ordinary pcap file of this byte order.
std::uint32_t ordinary_file(int file) {
    FileHeader header;
    if (::pread(file, &header, sizeof header, 0) != sizeof header || header.major != 2 || header.minor != 4)
        return 0;
    return header.magic == 0xa1b2c3d4 ? 1000 : header.magic == 0xa1b23c4d ? 1 : 0;
}

std::uint64_t time_of(std::int64_t seconds, std::int64_t nanoseconds) {
    return static_cast<std::uint64_t>(std::max<std::int64_t>(seconds, 0)) * 1'000'000'000u +
           static_cast<std::uint64_t>(std::max<std::int64_t>(nanoseconds, 0));
}

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

// Whether so many bytes from the next record on are there, after reading on if need be.
bool CaptureReader::State::fetch(std::size_t length) {
    if (ahead() >= length)
        return true;
    std::memmove(piece.get(), piece.get() + at, ahead());
    begins += at;
    filled -= at;
    at = 0;
    while (filled < length) {
        const ssize_t got =
            ::pread(file, piece.get() + filled, piece_size - filled, static_cast<off_t>(begins + filled));
        if (got == 0 || (got < 0 && errno != EINTR))
            return false;
        filled += got > 0 ? static_cast<std::size_t>(got) : 0;
    }
    return true;
}

bool CaptureReader::State::take(CapturedPacket& packet) {
    RecordHeader record;
    if (!fetch(sizeof record))
        return false;
    std::memcpy(&record, piece.get() + at, sizeof record);
    if (record.length > longest || !fetch(sizeof record + record.length))
        return false;
    packet.time_ns = time_of(record.seconds, std::int64_t{record.fraction} * nanoseconds);
    packet.bytes = {piece.get() + at + sizeof record, record.length};
    packet.wire_length = std::max(record.wire_length, record.length);
    at += sizeof record + record.length;
    return true;
}

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

    state->file = ::fileno(stream);
    state->nanoseconds = stream == stdin ? 0 : ordinary_file(state->file);
    state->plain = state->nanoseconds != 0;
    // libpcap reads through the stream, whose own buffer is a page: a system call for a few packets. That of standard
    // input must live as long as the process.
    static char for_standard_input[stream_buffer];
    if (!state->plain) {
        if (stream != stdin)
            state->buffer = std::make_unique_for_overwrite<char[]>(stream_buffer);
        std::setvbuf(stream, stream == stdin ? for_standard_input : state->buffer.get(), _IOFBF, stream_buffer);
    }
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
    if (state->plain) {
        state->longest = std::min(static_cast<std::uint32_t>(pcap_snapshot(state->handle)), longest_record);
        state->piece = std::make_unique_for_overwrite<std::uint8_t[]>(piece_size);
        state->begins = sizeof(FileHeader);
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
    if (s.plain) {
        if (s.take(packet)) {
            packet.number = ++s.delivered;
            return true;
        }
        s.plain = false;
        if (::fseeko(pcap_file(s.handle), static_cast<off_t>(s.begins + s.at), SEEK_SET) != 0) {
            s.finished = true;
            return errno_error(s.path);
        }
    }
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
    packet.time_ns = time_of(header->ts.tv_sec, header->ts.tv_usec);
    packet.bytes = {bytes, header->caplen};
    packet.wire_length = std::max(header->len, header->caplen);
    return true;
}

bool CaptureReader::next_keeps() const noexcept {
    const State& s = *state_;
    RecordHeader record;
    if (!s.plain || s.ahead() < sizeof record)
        return false;
    std::memcpy(&record, s.piece.get() + s.at, sizeof record);
    return record.length <= s.longest && s.ahead() >= sizeof record + record.length;
}

} // namespace btblock::net
