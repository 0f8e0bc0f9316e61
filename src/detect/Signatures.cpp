// SPDX-License-Identifier: MIT
#include "detect/Signatures.h"

#include <algorithm>
#include <array>
#include <tuple>

namespace btblock::detect {

namespace {

// clang-format off
constexpr std::array words = {
    Signature{Place::agent, "anacrolix-torrent", "anacrolix/torrent, version"},
    Signature{Place::agent, "azureus", "Azureus and BiglyBT, ResourceDownloaderURLImpl"},
    Signature{Place::agent, "biglybt", "Azureus and BiglyBT, ResourceDownloaderURLImpl"},
    Signature{Place::agent, "bitlord", "TBDev tracker, getagent()"},
    Signature{Place::agent, "bitspirit", "RatioMaster.NET, client emulations"},
    Signature{Place::agent, "bittornado", "BitTornado"},
    Signature{Place::agent, "bittorrent", "Emerging Threats, p2p.rules; BitTorrent/7.10"},
    Signature{Place::agent, "btsp", "Emerging Threats, p2p.rules 2011713"},
    Signature{Place::agent, "btwebclient", "nDPI, HTTP user agents"},
    Signature{Place::agent, "deluge", "Deluge, core.py"},
    Signature{Place::agent, "enhanced-ctorrent", "Emerging Threats, p2p.rules 2011703"},
    Signature{Place::agent, "halite", "Halite"},
    Signature{Place::agent, "ktorrent", "KTorrent, bt version"},
    Signature{Place::agent, "libtorrent", "libtorrent, settings_pack.cpp, user_agent"},
    Signature{Place::agent, "picotorrent", "PicoTorrent"},
    Signature{Place::agent, "qbittorrent", "qBittorrent, session settings"},
    Signature{Place::agent, "rtorrent", "rtorrent, http user agent"},
    Signature{Place::agent, "tixati", "RatioMaster.NET, client emulations"},
    Signature{Place::agent, "transmission", "Transmission, web.cc"},
    Signature{Place::agent, "tribler", "Tribler"},
    Signature{Place::agent, "utorrent", "Emerging Threats, p2p.rules 2011706"},
    Signature{Place::agent, "utorrentmac", "xbt and Gazelle client whitelists"},
    Signature{Place::agent, "vuze", "Azureus and BiglyBT, ResourceDownloaderURLImpl"},
    Signature{Place::agent, "webtorrent", "webtorrent"},
    Signature{Place::agent, "\xc2\xb5" "torrent", "Emerging Threats, p2p.rules 2011706"},
    Signature{Place::downloader, "bitcomet", "Emerging Threats, p2p.rules 2011710"},
    Signature{Place::downloader, "fdm", "Emerging Threats, p2p.rules 2011712"},
    Signature{Place::downloader, "flashget", "nDPI, HTTP user agents"},
    Signature{Place::downloader, "folx", "Transmission, clients.cc"},
    Signature{Place::downloader, "frostwire", "FrostWire"},
    Signature{Place::downloader, "mediaget", "Transmission, clients.cc"},
    Signature{Place::downloader, "shareaza", "Shareaza"},
    Signature{Place::downloader, "xunlei", "Transmission, clients.cc"},
    Signature{Place::extension, "LT_metadata", "libtorrent 0.x"},
    Signature{Place::extension, "lt_donthave", "BEP 54"},
    Signature{Place::extension, "lt_tex", "BEP 28"},
    Signature{Place::extension, "share_mode", "libtorrent, bt_peer_connection.cpp"},
    Signature{Place::extension, "upload_only", "BEP 21"},
    Signature{Place::extension, "ut_bid", "uTorrent"},
    Signature{Place::extension, "ut_comment", "uTorrent"},
    Signature{Place::extension, "ut_hash_piece", "BEP 30"},
    Signature{Place::extension, "ut_holepunch", "BEP 55"},
    Signature{Place::extension, "ut_metadata", "BEP 9"},
    Signature{Place::extension, "ut_pex", "BEP 11"},
    Signature{Place::extension, "ut_recommend", "uTorrent"},
    Signature{Place::handshake_key, "complete_ago", "libtorrent, bt_peer_connection.cpp"},
    Signature{Place::handshake_key, "ipv4", "BEP 10"},
    Signature{Place::handshake_key, "ipv6", "BEP 10"},
    Signature{Place::handshake_key, "lt_donthave", "BEP 54"},
    Signature{Place::handshake_key, "metadata_size", "BEP 9"},
    Signature{Place::handshake_key, "reqq", "BEP 10"},
    Signature{Place::handshake_key, "share_mode", "libtorrent, bt_peer_connection.cpp"},
    Signature{Place::handshake_key, "upload_only", "BEP 21"},
    Signature{Place::handshake_key, "yourip", "BEP 10"},
    Signature{Place::media_type, "application/x-bittorrent", "wiki.theory.org/BitTorrentSpecification; shared-mime-info"},
    Signature{Place::metainfo_key, "announce", "BEP 3"},
    Signature{Place::metainfo_key, "announce-list", "BEP 12"},
    Signature{Place::metainfo_key, "collections", "BEP 38"},
    Signature{Place::metainfo_key, "created by", "wiki.theory.org/BitTorrentSpecification"},
    Signature{Place::metainfo_key, "creation date", "wiki.theory.org/BitTorrentSpecification"},
    Signature{Place::metainfo_key, "encoding", "wiki.theory.org/BitTorrentSpecification"},
    Signature{Place::metainfo_key, "httpseeds", "BEP 17"},
    Signature{Place::metainfo_key, "info", "BEP 3"},
    Signature{Place::metainfo_key, "nodes", "BEP 5"},
    Signature{Place::metainfo_key, "piece layers", "BEP 52"},
    Signature{Place::metainfo_key, "similar", "BEP 38"},
    Signature{Place::metainfo_key, "url-list", "BEP 19"},
    Signature{Place::path_end, ".torrent", "BEP 3"},
    Signature{Place::path_end, "/announce", "BEP 3"},
    Signature{Place::path_end, "/announce.php", "wiki.theory.org/BitTorrent_Tracker_Protocol"},
    Signature{Place::path_end, "/scrape", "BEP 48"},
    Signature{Place::path_end, "/scrape.php", "BEP 48"},
    Signature{Place::query_name, "azhttp", "Azureus, TRTrackerBTAnnouncerImpl"},
    Signature{Place::query_name, "azq", "Azureus, TRTrackerBTAnnouncerImpl"},
    Signature{Place::query_name, "azudp", "Azureus, TRTrackerBTAnnouncerImpl"},
    Signature{Place::query_name, "azver", "Azureus, TRTrackerBTAnnouncerImpl"},
    Signature{Place::query_name, "corrupt", "libtorrent, http_tracker_connection.cpp"},
    Signature{Place::query_name, "cryptoport", "MSE/PE; Azureus"},
    Signature{Place::query_name, "downloaded", "BEP 3"},
    Signature{Place::query_name, "info_hash", "BEP 3"},
    Signature{Place::query_name, "ipv4", "BEP 7"},
    Signature{Place::query_name, "ipv6", "BEP 7"},
    Signature{Place::query_name, "no_peer_id", "BEP 23"},
    Signature{Place::query_name, "num_want", "BitComet"},
    Signature{Place::query_name, "numwant", "wiki.theory.org/BitTorrentSpecification"},
    Signature{Place::query_name, "peer_id", "BEP 3"},
    Signature{Place::query_name, "redundant", "libtorrent, http_tracker_connection.cpp"},
    Signature{Place::query_name, "requirecrypto", "MSE/PE; Azureus"},
    Signature{Place::query_name, "supportcrypto", "MSE/PE; Azureus, libtorrent"},
    Signature{Place::query_name, "trackerid", "wiki.theory.org/BitTorrentSpecification"},
    Signature{Place::query_name, "uploaded", "BEP 3"},
    Signature{Place::reply_key, "complete", "wiki.theory.org/BitTorrentSpecification"},
    Signature{Place::reply_key, "crypto_flags", "MSE/PE; Azureus"},
    Signature{Place::reply_key, "downloaded", "BEP 48"},
    Signature{Place::reply_key, "external ip", "BEP 24"},
    Signature{Place::reply_key, "failure reason", "BEP 3"},
    Signature{Place::reply_key, "files", "BEP 48"},
    Signature{Place::reply_key, "incomplete", "wiki.theory.org/BitTorrentSpecification"},
    Signature{Place::reply_key, "interval", "BEP 3"},
    Signature{Place::reply_key, "min interval", "wiki.theory.org/BitTorrentSpecification"},
    Signature{Place::reply_key, "peers", "BEP 3"},
    Signature{Place::reply_key, "peers6", "BEP 7"},
    Signature{Place::reply_key, "retry in", "BEP 31"},
    Signature{Place::reply_key, "tracker id", "wiki.theory.org/BitTorrentSpecification"},
    Signature{Place::reply_key, "warning message", "wiki.theory.org/BitTorrentSpecification"},
};

constexpr std::string_view bep20 = "BEP 20";
constexpr std::string_view transmission = "Transmission, clients.cc";
constexpr std::string_view aria2_source = "aria2, util and option peer-id-prefix";

constexpr std::array ids = {
    ClientId{IdStyle::azureus, "AG", "Ares", bep20},
    ClientId{IdStyle::azureus, "AR", "Arctic", bep20},
    ClientId{IdStyle::azureus, "AT", "Artemis", transmission},
    ClientId{IdStyle::azureus, "AV", "Avicora", bep20},
    ClientId{IdStyle::azureus, "AX", "BitPump", bep20},
    ClientId{IdStyle::azureus, "AZ", "Azureus, Vuze", bep20},
    ClientId{IdStyle::azureus, "A~", "Ares", bep20},
    ClientId{IdStyle::azureus, "BB", "BitBuddy", bep20},
    ClientId{IdStyle::azureus, "BC", "BitComet", bep20},
    ClientId{IdStyle::azureus, "BE", "BitTorrent SDK", transmission},
    ClientId{IdStyle::azureus, "BF", "Bitflu", bep20},
    ClientId{IdStyle::azureus, "BG", "BTG", bep20},
    ClientId{IdStyle::azureus, "BH", "BitZilla", transmission},
    ClientId{IdStyle::azureus, "BI", "BiglyBT", transmission},
    ClientId{IdStyle::azureus, "BL", "BitLord", transmission},
    ClientId{IdStyle::azureus, "BM", "BitMagnet", transmission},
    ClientId{IdStyle::azureus, "BN", "Baidu Netdisk", transmission},
    ClientId{IdStyle::azureus, "BP", "BitTorrent Pro", transmission},
    ClientId{IdStyle::azureus, "BR", "BitRocket", bep20},
    ClientId{IdStyle::azureus, "BS", "BTSlave", bep20},
    ClientId{IdStyle::azureus, "BT", "BitTorrent", transmission},
    ClientId{IdStyle::azureus, "BW", "BitWombat", transmission},
    ClientId{IdStyle::azureus, "BX", "~Bittorrent X", bep20},
    ClientId{IdStyle::azureus, "CD", "Enhanced CTorrent", bep20},
    ClientId{IdStyle::azureus, "CT", "CTorrent", bep20},
    ClientId{IdStyle::azureus, "DE", "Deluge", bep20},
    ClientId{IdStyle::azureus, "DP", "Propagate Data Client", bep20},
    ClientId{IdStyle::azureus, "EB", "EBit", bep20},
    ClientId{IdStyle::azureus, "ES", "electric sheep", bep20},
    ClientId{IdStyle::azureus, "FC", "FileCroc", transmission},
    ClientId{IdStyle::azureus, "FD", "Free Download Manager", transmission},
    ClientId{IdStyle::azureus, "FG", "FlashGet", transmission},
    ClientId{IdStyle::azureus, "FL", "Folx", transmission},
    ClientId{IdStyle::azureus, "FT", "FoxTorrent", bep20},
    ClientId{IdStyle::azureus, "FW", "FrostWire", bep20},
    ClientId{IdStyle::azureus, "FX", "Freebox BitTorrent", bep20},
    ClientId{IdStyle::azureus, "G3", "G3 Torrent", transmission},
    ClientId{IdStyle::azureus, "GR", "GetRight", transmission},
    ClientId{IdStyle::azureus, "GS", "GSTorrent", bep20},
    ClientId{IdStyle::azureus, "HK", "Hekate", transmission},
    ClientId{IdStyle::azureus, "HL", "Halite", bep20},
    ClientId{IdStyle::azureus, "HN", "Hydranode", bep20},
    ClientId{IdStyle::azureus, "KG", "KGet", bep20},
    ClientId{IdStyle::azureus, "KT", "KTorrent", bep20},
    ClientId{IdStyle::azureus, "LC", "LeechCraft", transmission},
    ClientId{IdStyle::azureus, "LH", "LH-ABC", bep20},
    ClientId{IdStyle::azureus, "LP", "Lphant", bep20},
    ClientId{IdStyle::azureus, "LT", "libtorrent", bep20},
    ClientId{IdStyle::azureus, "LW", "LimeWire", bep20},
    ClientId{IdStyle::azureus, "MG", "MediaGet", transmission},
    ClientId{IdStyle::azureus, "MK", "Meerkat", transmission},
    ClientId{IdStyle::azureus, "ML", "MLDonkey", transmission},
    ClientId{IdStyle::azureus, "MO", "MonoTorrent", bep20},
    ClientId{IdStyle::azureus, "MP", "MooPolice", bep20},
    ClientId{IdStyle::azureus, "MR", "Miro", bep20},
    ClientId{IdStyle::azureus, "MT", "MoonlightTorrent", bep20},
    ClientId{IdStyle::azureus, "NE", "BT Next Evolution", transmission},
    ClientId{IdStyle::azureus, "NX", "Net Transport", bep20},
    ClientId{IdStyle::azureus, "OS", "OneSwarm", transmission},
    ClientId{IdStyle::azureus, "OT", "OmegaTorrent", transmission},
    ClientId{IdStyle::azureus, "PD", "Pando", bep20},
    ClientId{IdStyle::azureus, "PI", "PicoTorrent", transmission},
    ClientId{IdStyle::azureus, "QD", "QQDownload", bep20},
    ClientId{IdStyle::azureus, "QT", "Qt 4 Torrent example", bep20},
    ClientId{IdStyle::azureus, "RS", "Rufus", transmission},
    ClientId{IdStyle::azureus, "RT", "Retriever", bep20},
    ClientId{IdStyle::azureus, "RZ", "RezTorrent", transmission},
    ClientId{IdStyle::azureus, "SB", "~Swiftbit", bep20},
    ClientId{IdStyle::azureus, "SD", "Thunder", transmission},
    ClientId{IdStyle::azureus, "SM", "SoMud", transmission},
    ClientId{IdStyle::azureus, "SP", "BitSpirit", transmission},
    ClientId{IdStyle::azureus, "SS", "SwarmScope", bep20},
    ClientId{IdStyle::azureus, "ST", "SymTorrent", bep20},
    ClientId{IdStyle::azureus, "SZ", "Shareaza", bep20},
    ClientId{IdStyle::azureus, "S~", "Shareaza", bep20},
    ClientId{IdStyle::azureus, "TN", "TorrentDotNET", bep20},
    ClientId{IdStyle::azureus, "TR", "Transmission", bep20},
    ClientId{IdStyle::azureus, "TS", "Torrentstorm", bep20},
    ClientId{IdStyle::azureus, "TT", "TuoTu", bep20},
    ClientId{IdStyle::azureus, "UE", "uTorrent Embedded", transmission},
    ClientId{IdStyle::azureus, "UL", "uLeecher!", bep20},
    ClientId{IdStyle::azureus, "UM", "uTorrent Mac", transmission},
    ClientId{IdStyle::azureus, "UT", "uTorrent", bep20},
    ClientId{IdStyle::azureus, "UW", "uTorrent Web", transmission},
    ClientId{IdStyle::azureus, "VG", "Vagaa", bep20},
    ClientId{IdStyle::azureus, "WT", "BitLet", bep20},
    ClientId{IdStyle::azureus, "WW", "WebTorrent", transmission},
    ClientId{IdStyle::azureus, "WY", "FireTorrent", bep20},
    ClientId{IdStyle::azureus, "XC", "Xtorrent", transmission},
    ClientId{IdStyle::azureus, "XF", "Xfplay", transmission},
    ClientId{IdStyle::azureus, "XL", "Xunlei", bep20},
    ClientId{IdStyle::azureus, "XS", "XSwifter", transmission},
    ClientId{IdStyle::azureus, "XT", "XanTorrent", bep20},
    ClientId{IdStyle::azureus, "XX", "Xtorrent", bep20},
    ClientId{IdStyle::azureus, "ZO", "Zona", transmission},
    ClientId{IdStyle::azureus, "ZT", "ZipTorrent", bep20},
    ClientId{IdStyle::azureus, "bk", "BitKitten", transmission},
    ClientId{IdStyle::azureus, "lt", "libTorrent (Rakshasa)", bep20},
    ClientId{IdStyle::azureus, "pb", "pbTorrent", transmission},
    ClientId{IdStyle::azureus, "qB", "qBittorrent", bep20},
    ClientId{IdStyle::azureus, "st", "sharktorrent", bep20},
    ClientId{IdStyle::mainline, "A", "aria2", aria2_source},
    ClientId{IdStyle::mainline, "M", "BitTorrent", bep20},
    ClientId{IdStyle::mainline, "Q", "Queen Bee", transmission},
    ClientId{IdStyle::shadow, "A", "ABC", bep20},
    ClientId{IdStyle::shadow, "O", "Osprey Permaseed", bep20},
    ClientId{IdStyle::shadow, "Q", "BTQueue", bep20},
    ClientId{IdStyle::shadow, "R", "Tribler", bep20},
    ClientId{IdStyle::shadow, "S", "Shad0w", bep20},
    ClientId{IdStyle::shadow, "T", "BitTornado", bep20},
    ClientId{IdStyle::shadow, "U", "UPnP NAT Bit Torrent", bep20},
    ClientId{IdStyle::custom, "-BOW", "Bits on Wheels", transmission},
    ClientId{IdStyle::custom, "10-------", "JVtorrent", transmission},
    ClientId{IdStyle::custom, "346-", "TorrentTopia", transmission},
    ClientId{IdStyle::custom, "AZ2500BT", "BitTyrant", transmission},
    ClientId{IdStyle::custom, "FUTB", "BitComet", transmission},
    ClientId{IdStyle::custom, "LIME", "LimeWire", transmission},
    ClientId{IdStyle::custom, "Mbrst", "burst!", transmission},
    ClientId{IdStyle::custom, "Pando", "Pando", transmission},
    ClientId{IdStyle::custom, "Plus", "Plus!", transmission},
    ClientId{IdStyle::custom, "QVOD", "QVOD", transmission},
    ClientId{IdStyle::custom, "a00---0", "Swarmy", transmission},
    ClientId{IdStyle::custom, "a02---0", "Swarmy", transmission},
    ClientId{IdStyle::custom, "aria2-", "aria2", transmission},
    ClientId{IdStyle::custom, "btpd", "BT Protocol Daemon", transmission},
    ClientId{IdStyle::custom, "exbc", "BitComet, BitLord", transmission},
    ClientId{IdStyle::custom, "martini", "Martini Man", transmission},
    ClientId{IdStyle::custom, "xUTB", "BitComet", transmission},
};
// clang-format on

constexpr bool before(const Signature& a, const Signature& b) noexcept {
    return std::tie(a.place, a.text) < std::tie(b.place, b.text);
}
static_assert(std::is_sorted(words.begin(), words.end(), before), "they are searched by halves");

constexpr auto first_query_name =
    std::lower_bound(words.begin(), words.end(), Signature{Place::query_name, {}, {}}, before);
static_assert(std::count_if(words.begin(), words.end(),
                            [](const Signature& s) { return s.place == Place::query_name; }) <= 32);

} // namespace

std::span<const Signature> signatures() noexcept {
    return words;
}

bool is_signature(Place place, std::string_view text) noexcept {
    return std::binary_search(words.begin(), words.end(), Signature{place, text, {}}, before);
}

std::span<const ClientId> client_ids() noexcept {
    return ids;
}

std::string_view client_of(const std::uint8_t* id) noexcept {
    const std::string_view text(reinterpret_cast<const char*>(id), 20);
    const auto fits = [&](const ClientId& known) {
        switch (known.style) {
        case IdStyle::azureus:
            return id[0] == '-' && text.substr(1, 2) == known.code && (id[7] == '-' || is_alnum(id[7]));
        case IdStyle::mainline:
            return text.starts_with(known.code) && is_digit(id[1]) && id[2] == '-' && is_digit(id[3]) &&
                   std::count(text.begin() + 2, text.begin() + 9, '-') >= 3;
        case IdStyle::shadow: return text.starts_with(known.code) && text.substr(6, 3) == "---";
        case IdStyle::custom: return text.starts_with(known.code);
        }
        return false;
    };
    const auto found = std::find_if(ids.begin(), ids.end(), fits);
    return found == ids.end() ? std::string_view{} : found->client;
}

std::uint32_t query_word(std::string_view name) noexcept {
    const auto found = std::equal_range(words.begin(), words.end(), Signature{Place::query_name, name, {}}, before);
    return found.first == found.second ? 0 : 1u << (found.first - first_query_name);
}

} // namespace btblock::detect
