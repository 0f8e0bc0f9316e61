// SPDX-License-Identifier: MIT
#include "queue/NfQueue.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
// after the kernel's header, which is newer than the copy it brings
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <spdlog/fmt/fmt.h>
#include <sys/socket.h>
#include <unistd.h>

namespace btblock::queue {
namespace {

constexpr std::uint16_t packet_message = NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET;
// Room for the netlink headers and all attributes but the payload (hardware address and header, VLAN, marks, ...).
constexpr std::size_t attribute_room = 4096;
constexpr std::uint32_t max_copy_range = 0xffff;
constexpr int verdict_attempts = 3;

// A big-endian number that fills its attribute; false when the size differs.
bool read_u32(std::span<const std::uint8_t> body, std::uint32_t& value) noexcept {
    if (body.size() != sizeof value)
        return false;
    std::memcpy(&value, body.data(), sizeof value);
    value = ntohl(value);
    return true;
}

void force_receive_buffer(int fd, const QueueOptions& options) noexcept {
    // The kernel doubles the value. Then a full queue of full copies fits, and the queue's limit is the one that acts.
    const std::uint64_t wanted = std::uint64_t{options.max_length} * (options.copy_range + 1024);
    const int bytes = static_cast<int>(std::min<std::uint64_t>(wanted, 1u << 29));
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) != 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
}

std::string listener_name(std::uint32_t port_id) {
    if (port_id == static_cast<std::uint32_t>(getpid()))
        return "this process";
    std::ifstream file(fmt::format("/proc/{}/comm", port_id));
    std::string name;
    // A second socket of a process gets an arbitrary port id, so this is a strong hint but no proof.
    if (std::getline(file, name) && !name.empty())
        return fmt::format("another process, apparently {} (pid {})", name, port_id);
    return fmt::format("another process (netlink port {})", port_id);
}

Error bind_error(std::uint16_t number, int err) {
    if (err == EPERM || err == EBUSY) {
        if (const auto holder = read_queue_stats(number))
            return error(fmt::format("NFQUEUE {} is already bound by {}; stop it or choose other queue numbers "
                                     "(queue.first, queue.count)",
                                     number, listener_name(holder->port_id)));
        if (err == EBUSY)
            return error(fmt::format("NFQUEUE {} is already bound by another process", number));
        return error(fmt::format("NFQUEUE {}: not permitted (needs CAP_NET_ADMIN)", number));
    }
    if (err == EINVAL || err == EOPNOTSUPP || err == ENOENT)
        return errno_error(
            fmt::format("NFQUEUE {}: the kernel refused it (is the module nfnetlink_queue there?)", number), err);
    return errno_error(fmt::format("NFQUEUE {}", number), err);
}

} // namespace

Parsed parse_packet(std::span<const std::uint8_t> datagram, Packet& packet) noexcept {
    packet = Packet{};
    nlmsghdr message;
    if (datagram.size() < sizeof message)
        return Parsed::malformed;
    std::memcpy(&message, datagram.data(), sizeof message);
    if (message.nlmsg_len < sizeof message || message.nlmsg_len > datagram.size())
        return Parsed::malformed;
    if (message.nlmsg_type != packet_message)
        return Parsed::other;
    if (message.nlmsg_len < sizeof message + sizeof(nfgenmsg))
        return Parsed::malformed;

    bool identified = false, intact = true;
    std::uint32_t captured_of = 0, skb_info = 0;
    std::span<const std::uint8_t> rest = datagram.first(message.nlmsg_len).subspan(sizeof message + sizeof(nfgenmsg));
    while (!rest.empty()) {
        nlattr attribute;
        if (rest.size() >= sizeof attribute)
            std::memcpy(&attribute, rest.data(), sizeof attribute);
        if (rest.size() < sizeof attribute || attribute.nla_len < sizeof attribute || attribute.nla_len > rest.size()) {
            intact = false;
            break;
        }
        const auto body = rest.subspan(sizeof attribute, attribute.nla_len - sizeof attribute);
        switch (attribute.nla_type & NLA_TYPE_MASK) {
        case NFQA_PACKET_HDR:
            if (nfqnl_msg_packet_hdr header; body.size() == sizeof header) {
                std::memcpy(&header, body.data(), sizeof header);
                packet.id = ntohl(header.packet_id);
                packet.hw_protocol = ntohs(header.hw_protocol);
                packet.hook = header.hook;
                identified = true;
            }
            break;
        case NFQA_MARK: intact &= read_u32(body, packet.mark); break;
        case NFQA_IFINDEX_INDEV: intact &= read_u32(body, packet.in_ifindex); break;
        case NFQA_CAP_LEN: intact &= read_u32(body, captured_of); break;
        case NFQA_SKB_INFO: intact &= read_u32(body, skb_info); break;
        case NFQA_PAYLOAD: packet.ip = body; break;
        default: break;
        }
        rest = rest.subspan(std::min<std::size_t>(NLA_ALIGN(attribute.nla_len), rest.size()));
    }
    if (!identified)
        return Parsed::malformed;
    packet.gso = skb_info & NFQA_SKB_GSO;
    packet.checksum_not_ready = skb_info & NFQA_SKB_CSUMNOTREADY;
    packet.wire_len = std::max(captured_of, static_cast<std::uint32_t>(packet.ip.size()));
    return intact && !packet.ip.empty() ? Parsed::packet : Parsed::truncated;
}

void NfQueue::Closer::operator()(mnl_socket* socket) const noexcept {
    mnl_socket_close(socket);
}

NfQueue::NfQueue(std::unique_ptr<mnl_socket, Closer> socket, const QueueOptions& options)
    : socket_(std::move(socket)), options_(options), buffer_(options.copy_range + attribute_room) {}

Result<NfQueue> NfQueue::open(const QueueOptions& options) {
    if (options.copy_range == 0 || options.copy_range > max_copy_range)
        return error(fmt::format("NFQUEUE {}: copy range {} is not within 1..{}", options.number, options.copy_range,
                                 max_copy_range),
                     ExitCode::usage);
    if (options.max_length == 0)
        return error(fmt::format("NFQUEUE {}: a queue of length 0 passes nothing", options.number), ExitCode::usage);
    std::unique_ptr<mnl_socket, Closer> socket(mnl_socket_open2(NETLINK_NETFILTER, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!socket)
        return errno_error(fmt::format("NFQUEUE {}: netlink socket", options.number));
    if (mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) != 0)
        return errno_error(fmt::format("NFQUEUE {}: netlink address", options.number));
    NfQueue queue(std::move(socket), options);
    force_receive_buffer(queue.fd(), options);
    int on = 1; // a full socket must not turn into a receive error; what was lost shows in the packet ids
    mnl_socket_setsockopt(queue.socket_.get(), NETLINK_NO_ENOBUFS, &on, sizeof on);
    if (auto done = queue.configure(); !done)
        return done.error();
    return queue;
}

int NfQueue::fd() const noexcept {
    return mnl_socket_get_fd(socket_.get());
}

// One message binds and configures, so no packet meets a queue that is bound but does not copy yet.
Result<void> NfQueue::configure() {
    std::array<char, 512> request{};
    nlmsghdr* message = nfq_nlmsg_put(request.data(), NFQNL_MSG_CONFIG, options_.number);
    message->nlmsg_flags |= NLM_F_ACK;
    message->nlmsg_seq = 1;
    nfq_nlmsg_cfg_put_cmd(message, AF_UNSPEC, NFQNL_CFG_CMD_BIND);
    nfq_nlmsg_cfg_put_params(message, NFQNL_COPY_PACKET, static_cast<int>(options_.copy_range));
    nfq_nlmsg_cfg_put_qmaxlen(message, options_.max_length);
    // Without GSO the kernel would segment and checksum every super-packet before queueing it.
    mnl_attr_put_u32(message, NFQA_CFG_FLAGS, htonl(NFQA_CFG_F_GSO | (options_.fail_open ? NFQA_CFG_F_FAIL_OPEN : 0u)));
    mnl_attr_put_u32(message, NFQA_CFG_MASK, htonl(NFQA_CFG_F_GSO | NFQA_CFG_F_FAIL_OPEN | NFQA_CFG_F_CONNTRACK));
    if (mnl_socket_sendto(socket_.get(), message, message->nlmsg_len) < 0)
        return bind_error(options_.number, errno);

    // The kernel answers within the send call; packets may already be in front of the answer.
    for (;;) {
        const ssize_t got = recv(fd(), buffer_.data(), buffer_.size(), 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return errno_error(fmt::format("NFQUEUE {}: no answer to the bind request", options_.number));
        const std::span<const std::uint8_t> datagram(buffer_.data(), static_cast<std::size_t>(got));
        Packet packet;
        if (parse_packet(datagram, packet) != Parsed::other) {
            early_.emplace_back(datagram.begin(), datagram.end());
            continue;
        }
        const auto* answer = reinterpret_cast<const nlmsghdr*>(buffer_.data());
        if (answer->nlmsg_type != NLMSG_ERROR || answer->nlmsg_seq != 1 ||
            answer->nlmsg_len < MNL_NLMSG_HDRLEN + sizeof(nlmsgerr))
            continue;
        const int code = static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(answer))->error;
        if (code != 0)
            return bind_error(options_.number, -code);
        std::reverse(early_.begin(), early_.end()); // taken from the back
        return {};
    }
}

Result<std::optional<Parsed>> NfQueue::receive(Packet& packet) {
    if (!early_.empty()) {
        const std::size_t size = std::min(early_.back().size(), buffer_.size());
        std::copy_n(early_.back().begin(), size, buffer_.begin());
        early_.pop_back();
        return std::optional(parse_packet({buffer_.data(), size}, packet));
    }
    for (;;) {
        sockaddr_nl sender{};
        iovec part{buffer_.data(), buffer_.size()};
        msghdr header{};
        header.msg_name = &sender;
        header.msg_namelen = sizeof sender;
        header.msg_iov = &part;
        header.msg_iovlen = 1;
        const ssize_t got = recvmsg(fd(), &header, 0);
        if (got < 0) {
            if (errno == EINTR || errno == ENOBUFS)
                continue;
            if (errno == EAGAIN || errno == EWOULDBLOCK)
                return std::optional<Parsed>{};
            return errno_error(fmt::format("NFQUEUE {}: receive", options_.number));
        }
        if (sender.nl_pid != 0)
            continue; // only the kernel sends packets
        // The kernel sends one message in a datagram. A cut one is shorter than it says and so counts as malformed,
        // which cannot happen as long as the buffer has room for the copy range.
        return std::optional(parse_packet({buffer_.data(), static_cast<std::size_t>(got)}, packet));
    }
}

Result<void> NfQueue::verdict(std::uint32_t id, bool accept, std::optional<std::uint32_t> mark) {
    return send_verdict(NFQNL_MSG_VERDICT, id, accept, mark);
}

Result<void> NfQueue::accept_until(std::uint32_t id, std::optional<std::uint32_t> mark) {
    return send_verdict(NFQNL_MSG_VERDICT_BATCH, id, true, mark);
}

Result<void> NfQueue::send_verdict(int type, std::uint32_t id, bool accept, std::optional<std::uint32_t> mark) {
    std::array<char, 128> request; // headers, verdict and mark: 40 bytes
    nlmsghdr* message = nfq_nlmsg_put(request.data(), type, options_.number);
    nfq_nlmsg_verdict_put(message, static_cast<int>(id), accept ? NF_ACCEPT : NF_DROP);
    if (mark)
        nfq_nlmsg_verdict_put_mark(message, *mark);
    int err = 0;
    for (int attempt = 0; attempt < verdict_attempts; ++attempt) {
        if (mnl_socket_sendto(socket_.get(), message, message->nlmsg_len) >= 0)
            return {};
        err = errno;
        if (err != EINTR && err != EAGAIN && err != ENOBUFS && err != ENOMEM)
            break;
    }
    return errno_error(fmt::format("NFQUEUE {}: verdict", options_.number), err);
}

std::optional<QueueStats> parse_queue_stats(std::string_view table, std::uint16_t number) noexcept {
    // queue, port id, waiting, copy mode, copy range, queue dropped, user dropped, id sequence, 1
    constexpr std::size_t columns = 8;
    while (!table.empty()) {
        const std::size_t newline = table.find('\n');
        std::string_view line = table.substr(0, newline);
        table = newline == std::string_view::npos ? std::string_view{} : table.substr(newline + 1);
        std::array<std::uint64_t, columns> value{};
        std::size_t filled = 0;
        while (filled < columns) {
            line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
            // port ids above 2^31 are printed as they are, by some kernels as negative numbers
            std::int64_t parsed = 0;
            const auto [next, failed] = std::from_chars(line.data(), line.data() + line.size(), parsed);
            if (failed != std::errc{})
                break;
            value[filled++] = static_cast<std::uint64_t>(parsed);
            line.remove_prefix(static_cast<std::size_t>(next - line.data()));
        }
        if (filled == columns && value[0] == number)
            return QueueStats{static_cast<std::uint32_t>(value[1]), static_cast<std::uint32_t>(value[2]), value[5],
                              value[6], value[7]};
    }
    return std::nullopt;
}

std::optional<QueueStats> read_queue_stats(std::uint16_t number) {
    // The table of the calling thread's namespace; /proc/net would be that of the main thread.
    std::ifstream file("/proc/thread-self/net/netfilter/nfnetlink_queue");
    if (!file)
        return std::nullopt;
    const std::string table{std::istreambuf_iterator<char>(file), {}};
    return parse_queue_stats(table, number);
}

} // namespace btblock::queue
