// SPDX-License-Identifier: MIT
#include "detect/Names.h"

#include <algorithm>

namespace btblock::detect {

namespace {

// Calls known(suffix) for the host and for what is left after each dot, until one is.
template <class Known> bool any_suffix(std::string_view host, Known known) {
    while (!host.empty()) {
        if (known(host))
            return true;
        const auto dot = host.find('.');
        host.remove_prefix(dot == std::string_view::npos ? host.size() : dot + 1);
    }
    return false;
}

} // namespace

bool HostName::append(std::uint8_t c) noexcept {
    if (length_ == longest || !(is_alnum(c) || c == '-' || c == '_' || c == '.'))
        return false;
    chars_[length_++] = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    return true;
}

// ---------------------------------------------------------------- TLS

void ClientHello::feed(Bytes bytes) noexcept {
    while (!bytes.empty() && !done()) {
        const auto part = bytes.first(record_left_ > 0 ? std::min<std::size_t>(bytes.size(), record_left_) : 1);
        fed_ += static_cast<std::uint32_t>(part.size());
        bool more = fed_ <= most;
        if (record_left_ > 0) {
            record_left_ -= static_cast<std::uint32_t>(part.size());
            more = more && feed_record(part);
        } else {
            more = more && feed_header(part[0]);
        }
        if (!more)
            field_ = Field::end;
        bytes = bytes.subspan(part.size());
    }
}

// A record of type 22, version 3.0 to 3.4, a length. False: it is none.
bool ClientHello::feed_header(std::uint8_t byte) noexcept {
    switch (header_have_++) {
    case 0: return byte == 22;
    case 1: return byte == 3;
    case 2: return byte <= 4;
    case 3: length_high_ = byte; return true;
    default:
        header_have_ = 0;
        record_left_ = static_cast<std::uint32_t>(length_high_ << 8 | byte);
        return record_left_ > 0;
    }
}

// False: it ends here.
bool ClientHello::feed_record(Bytes bytes) noexcept {
    while (!bytes.empty()) {
        const bool skipped = field_ == Field::version_and_random || field_ == Field::session ||
                             field_ == Field::suites || field_ == Field::methods || field_ == Field::extension;
        std::size_t used = 1;
        if (skipped)
            used = std::min<std::size_t>(bytes.size(), left_);
        else if (field_ == Field::name) {
            if (!host_.append(bytes[0]))
                return false;
        } else {
            value_ = value_ << 8 | bytes[0];
        }
        if (used > message_left_)
            return false;
        message_left_ -= static_cast<std::uint32_t>(used);
        left_ -= static_cast<std::uint32_t>(used);
        bytes = bytes.subspan(used);
        // A field of no bytes is over at once.
        while (left_ == 0)
            if (!next(value_))
                return false;
        if (message_left_ == 0)
            return false;
    }
    return true;
}

bool ClientHello::read(Field field, std::uint32_t bytes) noexcept {
    field_ = field;
    left_ = bytes;
    value_ = 0;
    return true;
}

// The field is complete.
bool ClientHello::next(std::uint32_t value) noexcept {
    switch (field_) {
    case Field::type: return value == 1 && read(Field::length, 3);
    case Field::length: message_left_ = value; return read(Field::version_and_random, 34);
    case Field::version_and_random: return read(Field::session_length, 1);
    case Field::session_length: return value <= 32 && read(Field::session, value);
    case Field::session: return read(Field::suites_length, 2);
    case Field::suites_length: return value % 2 == 0 && read(Field::suites, value);
    case Field::suites: return read(Field::methods_length, 1);
    case Field::methods_length: return read(Field::methods, value);
    case Field::methods: return read(Field::extensions_length, 2);
    case Field::extensions_length: return read(Field::extension_type, 2);
    case Field::extension_type:
        extension_type_ = static_cast<std::uint16_t>(value);
        return read(Field::extension_length, 2);
    case Field::extension_length:
        return extension_type_ == 0 ? read(Field::names_length, 2) : read(Field::extension, value);
    case Field::extension: return read(Field::extension_type, 2);
    case Field::names_length: return read(Field::name_type, 1);
    case Field::name_type: return value == 0 && read(Field::name_length, 2);
    case Field::name_length: return value > 0 && value <= HostName::longest && read(Field::name, value);
    case Field::name: found_ = true; return false;
    case Field::end: break;
    }
    return false;
}

// ---------------------------------------------------------------- DNS

namespace {

bool read_question(Bytes d, HostName& host) noexcept {
    // A query of the standard kind, one question, no answer.
    if (d.size() < 17 || (be16(d.data() + 2) & 0xf800) != 0 || be16(d.data() + 4) != 1 || be16(d.data() + 6) != 0)
        return false;
    std::size_t at = 12;
    bool plain = true; // others name services, printers and the like
    while (d[at] != 0) {
        const std::size_t length = d[at];
        if (length > 63 || at + 1 + length >= d.size()) // also a pointer: nothing stands before a question
            return false;
        plain = plain && (at == 12 || host.append('.'));
        for (const std::uint8_t c : d.subspan(at + 1, length))
            plain = plain && c != '.' && host.append(c);
        at += 1 + length;
    }
    if (!plain)
        host.clear();
    constexpr std::size_t type_and_class = 4;
    return at + 1 + type_and_class <= d.size();
}

} // namespace

bool read_dns_query(Bytes datagram, HostName& host) noexcept {
    host.clear();
    const bool query = read_question(datagram, host);
    if (!query)
        host.clear();
    return query;
}

// ---------------------------------------------------------------- lists

namespace {

// Hosts whose web site has the same name are left out, and so are WebSocket trackers: web pages that are no torrent
// clients meet there.
constexpr std::string_view libtorrent = "libtorrent, settings_pack.cpp, dht_bootstrap_nodes";
constexpr std::string_view anacrolix = "anacrolix/dht, DefaultGlobalBootstrapHostPorts";
constexpr std::string_view bitcomet = "dht.add_node in rtorrent configurations";
constexpr std::string_view debian = "announce URL of Debian's torrent files";
constexpr std::string_view archive = "announce URL of the Internet Archive's torrent files";
constexpr std::string_view ngosang = "github.com/ngosang/trackerslist, trackers_all.txt";
constexpr std::string_view xiu2 = "github.com/XIU2/TrackersListCollection, best.txt";

constexpr std::array known = {
    KnownHost{"9.rarbg.to", ngosang},
    KnownHost{"bt.okmp3.ru", xiu2},
    KnownHost{"bt1.archive.org", archive},
    KnownHost{"bt2.archive.org", archive},
    KnownHost{"bttracker.debian.org", debian},
    KnownHost{"dht.aelitis.com", anacrolix},
    KnownHost{"dht.anacrolix.link", anacrolix},
    KnownHost{"dht.libtorrent.org", libtorrent},
    KnownHost{"dht.transmissionbt.com", anacrolix},
    KnownHost{"exodus.desync.com", xiu2},
    KnownHost{"extracker.dahrkael.net", xiu2},
    KnownHost{"ipv4.rer.lol", xiu2},
    KnownHost{"ipv4.tracker.harry.lu", ngosang},
    KnownHost{"ipv6.rer.lol", xiu2},
    KnownHost{"nyaa.tracker.wf", xiu2},
    KnownHost{"open.acgnxtracker.com", ngosang},
    KnownHost{"open.acgtracker.com", ngosang},
    KnownHost{"open.demonii.com", xiu2},
    KnownHost{"open.facedatabg.net", ngosang},
    KnownHost{"open.stealth.si", xiu2},
    KnownHost{"p2p.publictracker.xyz", xiu2},
    KnownHost{"p4p.arenabg.com", xiu2},
    KnownHost{"public.popcorn-tracker.org", ngosang},
    KnownHost{"retracker.coltel.ru", ngosang},
    KnownHost{"retracker.lanta-net.ru", ngosang},
    KnownHost{"retracker.lanta.me", xiu2},
    KnownHost{"retracker.mgts.by", ngosang},
    KnownHost{"retracker.nts.su", ngosang},
    KnownHost{"retracker.spark-rostov.ru", ngosang},
    KnownHost{"retracker.telecom.by", ngosang},
    KnownHost{"router.bitcomet.com", bitcomet},
    KnownHost{"router.bittorrent.cloud", anacrolix},
    KnownHost{"router.bittorrent.com", anacrolix},
    KnownHost{"router.silotis.us", anacrolix},
    KnownHost{"router.utorrent.com", anacrolix},
    KnownHost{"t.nyaatracker.com", ngosang},
    KnownHost{"t.overflow.biz", xiu2},
    KnownHost{"tr.abiir.top", xiu2},
    KnownHost{"tr.nyacat.pw", xiu2},
    KnownHost{"tr.zukizuki.org", xiu2},
    KnownHost{"tracker-udp.gbitt.info", xiu2},
    KnownHost{"tracker.bittor.pw", xiu2},
    KnownHost{"tracker.bt4g.com", xiu2},
    KnownHost{"tracker.coppersurfer.tk", ngosang},
    KnownHost{"tracker.cyberia.is", xiu2},
    KnownHost{"tracker.darkness.services", xiu2},
    KnownHost{"tracker.dler.com", xiu2},
    KnownHost{"tracker.dler.org", ngosang},
    KnownHost{"tracker.dump.cl", xiu2},
    KnownHost{"tracker.files.fm", ngosang},
    KnownHost{"tracker.fnix.net", xiu2},
    KnownHost{"tracker.gigantino.net", xiu2},
    KnownHost{"tracker.gmi.gd", xiu2},
    KnownHost{"tracker.ipv6tracker.ru", xiu2},
    KnownHost{"tracker.mywaifu.best", xiu2},
    KnownHost{"tracker.open-internet.nl", ngosang},
    KnownHost{"tracker.opentrackr.org", xiu2},
    KnownHost{"tracker.privateseedbox.xyz", xiu2},
    KnownHost{"tracker.qu.ax", xiu2},
    KnownHost{"tracker.renfei.net", xiu2},
    KnownHost{"tracker.skyts.net", xiu2},
    KnownHost{"tracker.srv00.com", xiu2},
    KnownHost{"tracker.tiny-vps.com", ngosang},
    KnownHost{"tracker.torrent.eu.org", xiu2},
    KnownHost{"tracker.torrust-demo.com", xiu2},
    KnownHost{"tracker.tryhackx.org", xiu2},
    KnownHost{"tracker.yume-hatsuyuki.moe", xiu2},
    KnownHost{"tracker1.520.jp", xiu2},
    KnownHost{"tracker1.myporn.club", xiu2},
    KnownHost{"tracker1.wasabii.com.tw", ngosang},
    KnownHost{"tracker2.dler.org", xiu2},
    KnownHost{"tracker4.itzmx.com", ngosang},
    KnownHost{"udp.tracker.projectk.org", xiu2},
};
static_assert(std::ranges::is_sorted(known, {}, &KnownHost::host), "it is searched by halves");

} // namespace

std::span<const KnownHost> known_hosts() noexcept {
    return known;
}

bool is_known_host(std::string_view host) noexcept {
    return any_suffix(
        host, [](std::string_view name) { return std::ranges::binary_search(known, name, {}, &KnownHost::host); });
}

HostList::HostList(std::vector<std::string> hosts) : hosts_(std::move(hosts)) {
    std::sort(hosts_.begin(), hosts_.end());
}

bool HostList::contains(std::string_view host) const noexcept {
    return any_suffix(host, [this](std::string_view name) {
        return std::binary_search(hosts_.begin(), hosts_.end(), name, std::less<>{});
    });
}

} // namespace btblock::detect
