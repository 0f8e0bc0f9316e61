#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the project's own small captures and what `btblock analyze` must say about them.

usage: make_captures.py DIRECTORY

DIRECTORY/*.pcap, *.pcapng   the captures, the same bytes on every run
DIRECTORY/expected.csv       one line a flow: the columns of `analyze -o csv --all`, where
                             evidence = codes that must be among those found ('' = not checked),
                             first_packet = exact ('' = not checked)
Standard library only. Addresses: 10.x and fd00:: are the inside, 198.51.100.x, 203.0.113.x and 2001:db8:: the outside.
"""
import csv
import hashlib
import ipaddress
import os
import struct
import sys

TCP, UDP = 6, 17
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
T0 = 1_700_000_000


def noise(label, n):
    """n bytes that look random and are the same everywhere."""
    out, i = b"", 0
    while len(out) < n:
        out += hashlib.sha256(f"{label}/{i}".encode()).digest()
        i += 1
    return out[:n]


# ---------------------------------------------------------------- internet and transport layer


def inet_sum(data):
    if len(data) & 1:
        data += b"\0"
    s = sum(struct.unpack(f">{len(data) // 2}H", data))
    while s >> 16:
        s = (s & 0xFFFF) + (s >> 16)
    return ~s & 0xFFFF


def ip_packet(src, dst, proto, payload, *, options=b"", ext=b"", first_next=None, frag=0, ident=1, total=None):
    """An IPv4 or IPv6 packet. frag is the IPv4 flags-and-offset field; ext are ready IPv6 extension headers, the first
    of type first_next."""
    a, b = ipaddress.ip_address(src), ipaddress.ip_address(dst)
    if a.version == 4:
        head = 20 + len(options)
        length = head + len(payload) if total is None else total
        h = struct.pack(">BBHHHBBH4s4s", 0x40 | head // 4, 0, length, ident, frag, 64, proto, 0, a.packed, b.packed)
        h += options
        return h[:10] + struct.pack(">H", inet_sum(h)) + h[12:] + payload
    length = len(ext) + len(payload) if total is None else total
    nxt = proto if first_next is None else first_next
    return struct.pack(">IHBB16s16s", 6 << 28, length, nxt, 64, a.packed, b.packed) + ext + payload


def transport_sum(src, dst, proto, segment):
    a, b = ipaddress.ip_address(src), ipaddress.ip_address(dst)
    return inet_sum(a.packed + b.packed + struct.pack(">II", len(segment), proto) + segment)


def tcp_segment(src, sport, dst, dport, seq, ack, flags, data):
    h = struct.pack(">HHIIBBHHH", sport, dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, 5 << 4, flags, 64240, 0, 0)
    return h[:16] + struct.pack(">H", transport_sum(src, dst, TCP, h + data)) + h[18:] + data


def udp_datagram(src, sport, dst, dport, data):
    h = struct.pack(">HHHH", sport, dport, 8 + len(data), 0)
    return h[:6] + struct.pack(">H", transport_sum(src, dst, UDP, h + data) or 0xFFFF) + data


# ---------------------------------------------------------------- capture files


def pcap(link, frames, endian="<", nano=False, snap=262144):
    out = struct.pack(endian + "IHHiIII", 0xA1B23C4D if nano else 0xA1B2C3D4, 2, 4, 0, 0, snap, link)
    for i, frame in enumerate(frames):
        part = i % 100 * 10_000 * (1000 if nano else 1)  # a packet every 10 ms
        out += struct.pack(endian + "IIII", T0 + i // 100, part, min(len(frame), snap), len(frame)) + frame[:snap]
    return out


def pcapng_block(kind, body, endian):
    body += b"\0" * (-len(body) % 4)
    n = len(body) + 12
    return struct.pack(endian + "II", kind, n) + body + struct.pack(endian + "I", n)


def pcapng(links, frames, endian="<", nano=False, snap=262144):
    """One section, an interface per entry of links (frames alternate between them)."""
    out = pcapng_block(0x0A0D0D0A, struct.pack(endian + "IHHq", 0x1A2B3C4D, 1, 0, -1), endian)
    for link in links:
        options = struct.pack(endian + "HHB3x", 9, 1, 9) + struct.pack(endian + "HH", 0, 0) if nano else b""
        out += pcapng_block(1, struct.pack(endian + "HHI", link, 0, snap) + options, endian)
    for i, frame in enumerate(frames):
        t = (T0 * 10**6 + i * 10_000) * (1000 if nano else 1)
        out += pcapng_block(6, struct.pack(endian + "IIIII", i % len(links), t >> 32, t & 0xFFFFFFFF,
                                           len(frame), len(frame)) + frame, endian)
    return out


# ---------------------------------------------------------------- captures under construction


class Capture:
    all = []

    def __init__(self, name):
        self.name, self.packets, self.rows = name, [], {}
        Capture.all.append(self)

    def add(self, packet, flow=None):
        self.packets.append(packet)
        if flow is not None:
            self.rows.setdefault(flow, dict(packets=0, verdict="other", evidence="", first=""))["packets"] += 1
        return len(self.packets)

    def bittorrent(self, flow, evidence="", first=""):
        self.rows[flow.key].update(verdict="bittorrent", evidence=evidence, first=first)

    def frames(self):
        return [ether(p) for p in self.packets]

    def data(self):
        return pcap(1, self.frames())


class Tcp:
    """A TCP connection; send() and reply() return packet numbers."""

    def __init__(self, cap, src, sport, dst, dport, handshake=True, wrap=None):
        self.cap, self.wrap = cap, wrap or (lambda p: p)
        self.ends = ((src, sport), (dst, dport))
        self.key = ("tcp", src, sport, dst, dport)
        self.seq = [int.from_bytes(noise(f"{self.key}{i}", 4), "big") for i in (0, 1)]
        if handshake:
            self.emit(0, SYN, b"", 1)
            self.emit(1, SYN | ACK, b"", 1)
            self.emit(0, ACK, b"")

    def emit(self, side, flags, data, consume=0):
        (src, sport), (dst, dport) = self.ends[side], self.ends[1 - side]
        ack = self.seq[1 - side] if flags & ACK else 0
        seg = tcp_segment(src, sport, dst, dport, self.seq[side], ack, flags, data)
        self.seq[side] += len(data) + consume
        return self.cap.add(self.wrap(ip_packet(src, dst, TCP, seg)), self.key)

    def send(self, data):
        return self.emit(0, PSH | ACK, data)

    def reply(self, data):
        return self.emit(1, PSH | ACK, data)


class Udp:
    def __init__(self, cap, src, sport, dst, dport, wrap=None):
        self.cap, self.wrap = cap, wrap or (lambda p: p)
        self.ends = ((src, sport), (dst, dport))
        self.key = ("udp", src, sport, dst, dport)

    def emit(self, side, data):
        (src, sport), (dst, dport) = self.ends[side], self.ends[1 - side]
        return self.cap.add(self.wrap(ip_packet(src, dst, UDP, udp_datagram(src, sport, dst, dport, data))), self.key)

    def send(self, data):
        return self.emit(0, data)

    def reply(self, data):
        return self.emit(1, data)


# ---------------------------------------------------------------- link layers

MACS = bytes.fromhex("02000000000202000000000a")


def ether_type(ip):
    return b"\x08\x00" if ip[0] >> 4 == 4 else b"\x86\xdd"


def ether(ip, tags=b""):
    """Ethernet with the padding to 60 bytes that small frames have on the wire."""
    frame = MACS + tags + ether_type(ip) + ip
    return frame + b"\xa5" * (60 - len(frame))


def vlan(tpid, vid):
    return struct.pack(">HH", tpid, vid)


def ppp_number(ip):
    return b"\x00\x21" if ip[0] >> 4 == 4 else b"\x00\x57"


def pppoe(ip):
    body = ppp_number(ip) + ip
    return struct.pack(">BBHH", 0x11, 0, 7, len(body)) + body


def mpls(ip, labels):
    return b"".join(struct.pack(">I", (100 + i) << 12 | (i == labels - 1) << 8 | 64) for i in range(labels)) + ip


def gre(ip, flags=0, proto=None, optional=b""):
    return struct.pack(">H", flags) + (proto or ether_type(ip)) + optional + ip


def tunnel4(payload, proto):
    return ip_packet("192.0.2.1", "192.0.2.2", proto, payload)


def tunnel6(payload, proto):
    return ip_packet("2001:db8::1", "2001:db8::2", proto, payload)


def family(ip, v6):
    return 2 if ip[0] >> 4 == 4 else v6


def nflog(ip):
    def attribute(kind, value):
        return struct.pack("<HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)
    return struct.pack(">BBH", family(ip, 10), 0, 5) + attribute(1, b"\x08\0\x01\0") + attribute(10, b"prefix\0") + attribute(9, ip)


def sll(ip):
    return struct.pack(">HHH", 4, 1, 6) + b"\x02\0\0\0\0\x0a\0\0" + ether_type(ip) + ip


def sll2(ip):
    return ether_type(ip) + struct.pack(">HIHBB", 0, 3, 1, 4, 6) + b"\x02\0\0\0\0\x0a\0\0" + ip


LINKS = {
    # name: (link type number, frame from IP packet)
    "raw_12": (12, bytes),
    "raw_14": (14, bytes),
    "raw_101": (101, bytes),
    "sll": (113, sll),
    "sll2": (276, sll2),
    "null_little": (0, lambda ip: struct.pack("<I", family(ip, 30)) + ip),
    "null_big": (0, lambda ip: struct.pack(">I", family(ip, 24)) + ip),
    "loop": (108, lambda ip: struct.pack(">I", family(ip, 24)) + ip),
    "ppp": (9, lambda ip: ppp_number(ip) + ip),
    "ppp_address_control": (9, lambda ip: b"\xff\x03" + ppp_number(ip) + ip),
    "ppp_short_protocol": (9, lambda ip: ppp_number(ip)[1:] + ip),
    "ppp_serial": (50, lambda ip: b"\xff\x03" + ppp_number(ip) + ip),
    "ppp_serial_hdlc": (50, lambda ip: b"\x0f\x00" + ether_type(ip) + ip),
    "ppp_ether": (51, pppoe),
    "ppp_direction": (204, lambda ip: b"\x01\xff\x03" + ppp_number(ip) + ip),
    "hdlc": (104, lambda ip: b"\x0f\x00" + ether_type(ip) + ip),
    "frame_relay": (107, lambda ip: b"\x18\x41\x03" + (b"\xcc" if ip[0] >> 4 == 4 else b"\x8e") + ip),
    "atm": (11, lambda ip: b"\xaa\xaa\x03\0\0\0" + ether_type(ip) + ip),
    "enc": (109, lambda ip: struct.pack("<III", family(ip, 24), 1, 0) + ip),
    "pflog": (117, lambda ip: struct.pack(">BB", 61, family(ip, 24)) + bytes(62) + ip),
    "nflog": (239, nflog),
    "firewire": (138, lambda ip: bytes(16) + ether_type(ip) + ip),
    "pktap": (258, lambda ip: struct.pack("<III", 108, 1, 1) + bytes(96) + ether(ip)),
    "ethernet": (1, ether),
    "vlan": (1, lambda ip: ether(ip, vlan(0x8100, 7))),
    "vlan_stacked": (1, lambda ip: ether(ip, vlan(0x8100, 7) + vlan(0x8100, 8))),
    "qinq": (1, lambda ip: ether(ip, vlan(0x88A8, 7) + vlan(0x8100, 8))),
    "qinq_9100": (1, lambda ip: ether(ip, vlan(0x9100, 7) + vlan(0x8100, 8))),
    "snap": (1, lambda ip: MACS + struct.pack(">H", 8 + len(ip)) + b"\xaa\xaa\x03\0\0\0" + ether_type(ip) + ip),
    "mpls": (1, lambda ip: MACS + b"\x88\x47" + mpls(ip, 1)),
    "mpls_stacked": (1, lambda ip: MACS + b"\x88\x47" + mpls(ip, 3)),
    "mpls_pseudowire": (1, lambda ip: MACS + b"\x88\x47" + mpls(bytes(4) + ether(ip), 2)),
    "pppoe": (1, lambda ip: MACS + b"\x88\x64" + pppoe(ip)),
    "vlan_pppoe": (1, lambda ip: MACS + vlan(0x8100, 7) + b"\x88\x64" + pppoe(ip)),
    "ipip": (1, lambda ip: ether(tunnel4(ip, 4 if ip[0] >> 4 == 4 else 41))),
    "ip_in_ipv6": (1, lambda ip: ether(tunnel6(ip, 4 if ip[0] >> 4 == 4 else 41))),
    "gre": (1, lambda ip: ether(tunnel4(gre(ip), 47))),
    "gre_key": (1, lambda ip: ether(tunnel4(gre(ip, 0x2000, None, b"\0\0\0\7"), 47))),
    "gre_all": (1, lambda ip: ether(tunnel4(gre(ip, 0xB000, None, bytes(4) + b"\0\0\0\7" + b"\0\0\0\1"), 47))),
    "gre_routing": (1, lambda ip: ether(tunnel4(gre(ip, 0x4000, None, bytes(4) + b"\x08\x00\x00\x04\xc0\0\2\1" + bytes(4)), 47))),
    "gre_ethernet": (1, lambda ip: ether(tunnel4(gre(ether(ip), 0, b"\x65\x58"), 47))),
    "gre_ipv6": (1, lambda ip: ether(tunnel6(gre(ip), 47))),
    "gre_ipip": (1, lambda ip: ether(tunnel4(gre(tunnel4(ip, 4 if ip[0] >> 4 == 4 else 41)), 47))),
    "pptp": (1, lambda ip: ether(tunnel4(gre(b"\xff\x03" + ppp_number(ip) + ip, 0x3081, b"\x88\x0b",
                                             struct.pack(">HHII", len(ip) + 4, 7, 1, 1)), 47))),
}

# ---------------------------------------------------------------- BitTorrent payloads

INFO_HASH = noise("info-hash", 20)
PEER_ID = b"-BT0001-" + b"abcdefghijkl"
HANDSHAKE = b"\x13BitTorrent protocol" + bytes(5) + b"\x10\x00\x05" + INFO_HASH + PEER_ID


def bencode(v):
    if isinstance(v, int):
        return b"i%de" % v
    if isinstance(v, str):
        v = v.encode()
    if isinstance(v, bytes):
        return b"%d:%s" % (len(v), v)
    if isinstance(v, list):
        return b"l" + b"".join(map(bencode, v)) + b"e"
    return b"d" + b"".join(bencode(k) + bencode(v[k]) for k in sorted(v)) + b"e"


NODE_ID = noise("node", 20)
DHT_PING = bencode({"a": {"id": NODE_ID}, "q": "ping", "t": "aa", "y": "q"})
DHT_GET_PEERS = bencode({"a": {"id": NODE_ID, "info_hash": INFO_HASH}, "q": "get_peers", "t": "gp", "y": "q"})
DHT_PONG = bencode({"r": {"id": noise("other node", 20)}, "t": "aa", "y": "r"})
DHT_ERROR = bencode({"e": [203, "Protocol Error"], "t": "aa", "y": "e"})


def compact(ip, port):
    return ipaddress.ip_address(ip).packed + struct.pack(">H", port)


TRACKER_CONNECT = struct.pack(">QII", 0x41727101980, 0, 0x12345678)
TRACKER_CONNECTED = struct.pack(">II", 0, 0x12345678) + noise("connection id", 8)
TRACKER_ANNOUNCE = (noise("connection id", 8) + struct.pack(">II", 1, 0x22345678) + INFO_HASH + PEER_ID +
                    struct.pack(">QQQIIIiH", 0, 1000, 0, 2, 0, 0x11223344, -1, 6881))
TRACKER_SCRAPE = noise("connection id", 8) + struct.pack(">II", 2, 0x32345678) + INFO_HASH
TRACKER_PEERS = struct.pack(">IIIII", 1, 0x22345678, 1800, 3, 5) + compact("203.0.113.77", 51413)

ESCAPED = "".join(f"%{b:02x}" for b in INFO_HASH)


def http_get(path, host="tracker.example", agent="Mozilla/5.0"):
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nAccept: */*\r\n\r\n".encode()


ANNOUNCE_PATH = (f"/announce?info_hash={ESCAPED}&peer_id={PEER_ID.decode()}&port=6881&uploaded=0&downloaded=0"
                 "&left=1000&event=started&compact=1")


def utp(kind, conn, seq, ack, stamp=0x01020304, diff=0, wnd=0x00100000, data=b""):
    return struct.pack(">BBHIIIHH", kind << 4 | 1, 0, conn, stamp, diff, wnd, seq, ack) + data


U_DATA, U_FIN, U_STATE, U_RESET, U_SYN = range(5)


def message(kind, body=b""):
    return struct.pack(">IB", 1 + len(body), kind) + body


def lsd(group):
    return (f"BT-SEARCH * HTTP/1.1\r\nHost: {group}\r\nPort: 6881\r\nInfohash: {INFO_HASH.hex()}\r\n"
            "cookie: 1a2b3c4d\r\n\r\n\r\n").encode()


# ---------------------------------------------------------------- look-alikes


def dns_query(name, ident=0x1234):
    q = b"".join(bytes([len(x)]) + x.encode() for x in name.split(".")) + b"\0"
    return struct.pack(">HHHHHH", ident, 0x0100, 1, 0, 0, 0) + q + struct.pack(">HH", 1, 1)


def dns_answer(query):
    return query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:] + b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + b"\xcb\0\x71\5"


def client_hello(name):
    sni = name.encode()
    sni = struct.pack(">HHHBH", 0, len(sni) + 5, len(sni) + 3, 0, len(sni)) + sni
    body = b"\x03\x03" + noise("hello", 32) + b"\x20" + noise("session", 32) + b"\0\x04\x13\x01\x13\x02" + b"\x01\0"
    body += struct.pack(">H", len(sni)) + sni
    body = b"\x01" + struct.pack(">I", len(body))[1:] + body
    return b"\x16\x03\x01" + struct.pack(">H", len(body)) + body


INSIDE, INSIDE2, OUTSIDE = "10.0.0.5", "10.0.0.6", "203.0.113.9"
INSIDE6, OUTSIDE6 = "fd00::5", "2001:db8:1::9"


def conversation(cap, v6=False):
    """What every link type capture holds: a peer handshake both ways and a DNS lookup."""
    src, dst = (INSIDE6, OUTSIDE6) if v6 else (INSIDE, OUTSIDE)
    peer = Tcp(cap, src, 50001, dst, 51413)
    first = peer.send(HANDSHAKE)
    peer.reply(HANDSHAKE)
    cap.bittorrent(peer, "tcp.handshake", first)
    dns = Udp(cap, src, 50002, dst, 53)
    dns.send(dns_query("www.example.org"))
    dns.reply(dns_answer(dns_query("www.example.org")))


def link_captures():
    for name, (number, frame) in LINKS.items():
        cap = Capture(f"link_{name}.pcap")
        conversation(cap)
        if name not in ("ppp_short_protocol",):
            conversation(cap, v6=True)
        cap.data = lambda c=cap, n=number, f=frame: pcap(n, map(f, c.packets))
    for name, v6, number in (("ipv4", False, 228), ("ipv6", True, 229)):
        cap = Capture(f"link_{name}.pcap")
        conversation(cap, v6)
        cap.data = lambda c=cap, n=number: pcap(n, c.packets)


def file_captures():
    for name, make in {
        "file_big_endian.pcap": lambda f: pcap(1, f, ">"),
        "file_nanoseconds.pcap": lambda f: pcap(1, f, "<", True),
        "file_big_endian_nanoseconds.pcap": lambda f: pcap(1, f, ">", True),
        "file_little.pcapng": lambda f: pcapng([1], f),
        "file_big.pcapng": lambda f: pcapng([1], f, ">"),
        "file_nanoseconds.pcapng": lambda f: pcapng([1], f, "<", True),
        "file_two_interfaces.pcapng": lambda f: pcapng([1, 1], f),
    }.items():
        cap = Capture(name)
        conversation(cap)
        cap.data = lambda c=cap, m=make: m(c.frames())

    # only the first 96 bytes of each frame: 42 of the handshake's 68 are there, and the true lengths
    cap = Capture("file_snaplen_96.pcap")
    conversation(cap)
    cap.data = lambda c=cap: pcap(1, c.frames(), snap=96)

    # cut inside the transport header: ports are there, nothing else
    cap = Capture("file_snaplen_40.pcap")
    peer = Tcp(cap, INSIDE, 50001, OUTSIDE, 51413)
    peer.send(HANDSHAKE)
    cap.data = lambda c=cap: pcap(1, c.frames(), snap=40)

    cap = Capture("file_no_packets.pcap")


def ip_captures():
    hop = bytes([60, 0, 1, 4, 0, 0, 0, 0])  # hop-by-hop, then destination options
    dst = bytes([43, 1, 1, 12]) + bytes(12)  # 16 bytes, then routing
    route = bytes([TCP, 2, 3, 0]) + bytes(20)
    ah = bytes([TCP, 4]) + bytes(22)

    def segment(data, src=INSIDE6, sport=50001, dst_=OUTSIDE6, dport=51413):
        return tcp_segment(src, sport, dst_, dport, 1000, 1, PSH | ACK, data)

    for name, ext, first in (("hop_dst_routing", hop + dst + route, 0), ("ah", ah, 51)):
        cap = Capture(f"ip6_{name}.pcap")
        t = Tcp(cap, INSIDE6, 50001, OUTSIDE6, 51413, handshake=False)
        n = cap.add(ip_packet(INSIDE6, OUTSIDE6, TCP, segment(HANDSHAKE), ext=ext, first_next=first), t.key)
        cap.bittorrent(t, "tcp.handshake", n)

    # first fragment with the whole handshake, then two later fragments (counted as skipped, not as a flow)
    cap = Capture("ip6_fragments.pcap")
    t = Tcp(cap, INSIDE6, 50001, OUTSIDE6, 51413, handshake=False)
    body = segment(HANDSHAKE + bytes(12) + noise("rest", 200))
    for at, more in ((0, 1), (104, 1), (208, 0)):
        part = body[at:at + 104] if more else body[at:]
        cap.add(ip_packet(INSIDE6, OUTSIDE6, TCP, part, ext=struct.pack(">BBHI", TCP, 0, at | more, 77), first_next=44),
                t.key if at == 0 else None)
    cap.bittorrent(t, "tcp.handshake", 1)

    cap = Capture("ip4_fragments.pcap")
    u = Udp(cap, INSIDE, 50001, OUTSIDE, 6881)
    body = udp_datagram(INSIDE, 50001, OUTSIDE, 6881, DHT_GET_PEERS + b"")
    cap.add(ip_packet(INSIDE, OUTSIDE, UDP, body[:72], frag=0x2000), u.key)
    cap.add(ip_packet(INSIDE, OUTSIDE, UDP, body[72:], frag=9))
    cap.bittorrent(u, "dht.query", 1)

    cap = Capture("ip4_options.pcap")
    t = Tcp(cap, INSIDE, 50001, OUTSIDE, 51413, handshake=False)
    n = cap.add(ip_packet(INSIDE, OUTSIDE, TCP, segment(HANDSHAKE, INSIDE, 50001, OUTSIDE, 51413),
                          options=b"\x94\x04\0\0" + b"\1" * 4), t.key)
    cap.bittorrent(t, "tcp.handshake", n)

    # total length 0: how large sends look where segmentation is left to the card
    cap = Capture("ip4_length_zero.pcap")
    t = Tcp(cap, INSIDE, 50001, OUTSIDE, 51413, handshake=False)
    n = cap.add(ip_packet(INSIDE, OUTSIDE, TCP, segment(HANDSHAKE, INSIDE, 50001, OUTSIDE, 51413), total=0), t.key)
    cap.bittorrent(t, "tcp.handshake", n)

    # what is not opened or not TCP/UDP: VXLAN, Teredo, GTP-U, ESP, ICMP errors quoting a flow, ARP
    cap = Capture("not_opened.pcap")
    inner = ip_packet(INSIDE, OUTSIDE, TCP, segment(HANDSHAKE, INSIDE, 50001, OUTSIDE, 51413))
    Udp(cap, INSIDE, 40000, OUTSIDE, 4789).send(b"\x08\0\0\0\0\0\x07\0" + ether(inner))
    Udp(cap, INSIDE, 40001, OUTSIDE, 2152).send(b"\x30\xff" + struct.pack(">HI", len(inner), 9) + inner)
    Udp(cap, INSIDE, 40002, OUTSIDE, 3544).send(ip_packet(INSIDE6, OUTSIDE6, TCP, segment(HANDSHAKE)))
    cap.add(ip_packet(INSIDE, OUTSIDE, 50, noise("esp", 120)))
    cap.add(ip_packet(OUTSIDE, INSIDE, 1, b"\x03\x03\0\0" + bytes(4) + inner[:60]))
    cap.frames = lambda c=cap: [ether(p) for p in c.packets] + [MACS + b"\x08\x06" + b"\0\1\x08\0\6\4\0\1" + bytes(38)]

    # damaged headers in a row; none may become a flow or hide the good one at the end
    cap = Capture("damaged.pcap")
    good = Tcp(cap, INSIDE, 50001, OUTSIDE, 51413, handshake=False)
    bad = [b"\x45", b"\x44" + inner[1:], inner[:2] + b"\0\x10" + inner[4:], inner[:19], b"\x4f" + inner[1:40],
           ip_packet(INSIDE6, OUTSIDE6, TCP, b"", ext=bytes([0, 255]) + bytes(6), first_next=0),
           ip_packet(INSIDE6, OUTSIDE6, TCP, b"", ext=bytes([60, 0, 0, 0, 0, 0, 0, 0]) * 40, first_next=60),
           tunnel4(gre(inner, 0x4000, None, bytes(4) + b"\x08\x00\x00\x04" * 3), 47),
           ip_packet(INSIDE, OUTSIDE, 47, b"\x00"), ip_packet(INSIDE, OUTSIDE, 4, b"")]
    nested = inner
    for _ in range(40):  # deeper than any real stack
        nested = tunnel4(nested, 4)
    cap.packets += [MACS + b"\x08\x00" + b for b in bad] + [ether(nested), b"", MACS, MACS + b"\x88\x47" + b"\0\0\0\0" * 60,
                                                           MACS + vlan(0x8100, 1) * 60 + b"\x08\x00" + inner]
    n = cap.add(ether(inner), good.key)
    cap.bittorrent(good, "tcp.handshake", n)
    cap.frames = lambda c=cap: c.packets


def bittorrent_captures():
    def one(name, cls, src, sport, dst, dport, **kw):
        cap = Capture(f"bt_{name}.pcap")
        return cap, cls(cap, src, sport, dst, dport, **kw)

    cap, t = one("handshake_split", Tcp, INSIDE, 50001, OUTSIDE, 51413)
    t.send(HANDSHAKE[:10])
    cap.bittorrent(t, "tcp.handshake", t.send(HANDSHAKE[10:]))

    cap, t = one("handshake_inbound", Tcp, OUTSIDE, 40001, INSIDE, 6881)
    cap.bittorrent(t, "tcp.handshake", t.send(HANDSHAKE))

    cap, t = one("handshake_port_443", Tcp, INSIDE, 50001, OUTSIDE, 443)
    cap.bittorrent(t, "tcp.handshake", t.send(HANDSHAKE))

    cap, u = one("dht", Udp, INSIDE, 6881, OUTSIDE, 51413)
    n = u.send(DHT_PING)
    u.reply(DHT_PONG)
    cap.bittorrent(u, "dht.query", n)

    cap, u = one("dht_ipv6", Udp, INSIDE6, 6881, OUTSIDE6, 51413)
    cap.bittorrent(u, "dht.query", u.send(DHT_GET_PEERS))

    cap, u = one("dht_response_only", Udp, OUTSIDE, 51413, INSIDE, 6881)
    cap.bittorrent(u, "dht.response", u.send(DHT_PONG))

    cap, u = one("dht_response_ip_first", Udp, OUTSIDE, 51413, INSIDE, 6881)
    cap.bittorrent(u, "dht.response", u.send(bencode({"ip": compact(INSIDE, 6881), "r": {"id": NODE_ID}, "t": "aa", "y": "r"})))

    cap, u = one("dht_error", Udp, OUTSIDE, 51413, INSIDE, 6881)
    cap.bittorrent(u, "dht.error", u.send(DHT_ERROR))

    cap, u = one("dht_odd_prefix", Udp, INSIDE, 6881, OUTSIDE, 51413)  # needs the whole bencode
    cap.bittorrent(u, "dht.query", u.send(bencode({"a": {"bs": 1, "id": NODE_ID, "target": INFO_HASH}, "q": "find_node",
                                                   "t": "aa", "v": b"LT\x01\x02", "y": "q"})))

    cap, u = one("udp_tracker", Udp, INSIDE, 6881, OUTSIDE, 6969)
    n = u.send(TRACKER_CONNECT)
    u.reply(TRACKER_CONNECTED)
    u.send(TRACKER_ANNOUNCE)
    u.reply(TRACKER_PEERS)
    cap.bittorrent(u, "tracker.udp.connect", n)

    cap, u = one("udp_tracker_scrape", Udp, INSIDE, 6881, OUTSIDE, 6969)
    n = u.send(TRACKER_CONNECT)
    u.reply(TRACKER_CONNECTED)
    u.send(TRACKER_SCRAPE)
    cap.bittorrent(u, "tracker.udp.connect", n)

    cap, u = one("utp", Udp, INSIDE, 6881, OUTSIDE, 51413)
    u.send(utp(U_SYN, 0x3A01, 0x5511, 0, wnd=0))
    n = u.reply(utp(U_STATE, 0x3A01, 0x9000, 0x5511, diff=0x1000))
    u.send(utp(U_DATA, 0x3A02, 0x5512, 0x8FFF, diff=0x900, data=noise("mse in utp", 150)))
    cap.bittorrent(u, "utp.pair", n)

    cap, u = one("utp_transmission", Udp, INSIDE, 6881, OUTSIDE, 51413)  # SYN with extension bits
    syn = struct.pack(">BBHIIIHH", 0x41, 2, 0x7C01, 5, 0, 262144, 1, 0) + b"\x00\x08" + bytes(8)
    u.send(syn)
    cap.bittorrent(u, "utp.pair", u.reply(utp(U_STATE, 0x7C01, 0x9000, 1, diff=0x1000)))

    for name, src, group, port in (("lsd", INSIDE, "239.192.152.143", 6771), ("lsd_ipv6", "fe80::5", "ff15::efc0:988f", 6771)):
        cap, u = one(name, Udp, src, 6771, group, port)
        host = f"{group}:{port}" if ":" not in group else f"[{group}]:{port}"
        cap.bittorrent(u, "lsd.announce", u.send(lsd(host)))

    cap, t = one("http_announce", Tcp, INSIDE, 50001, OUTSIDE, 80)
    n = t.send(http_get(ANNOUNCE_PATH))
    t.reply(b"HTTP/1.1 200 OK\r\nContent-Length: 36\r\n\r\n" + bencode({"interval": 1800, "peers": compact(OUTSIDE, 51413)}))
    cap.bittorrent(t, "tracker.http", n)

    cap, t = one("http_announce_split", Tcp, INSIDE, 50001, OUTSIDE, 8080)
    request = http_get(ANNOUNCE_PATH)
    t.send(request[:40])
    cap.bittorrent(t, "tracker.http", t.send(request[40:]))

    cap, t = one("http_announce_second_request", Tcp, INSIDE, 50001, OUTSIDE, 80)
    t.send(http_get("/index.html"))
    t.reply(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    cap.bittorrent(t, "tracker.http", t.send(http_get(ANNOUNCE_PATH)))

    cap, t = one("http_scrape", Tcp, INSIDE, 50001, OUTSIDE, 80)
    cap.bittorrent(t, "tracker.http", t.send(http_get(f"/scrape?info_hash={ESCAPED}")))

    cap, t = one("webseed", Tcp, INSIDE, 50001, OUTSIDE, 80)
    cap.bittorrent(t, "webseed.http", t.send(http_get(f"/seed?info_hash={ESCAPED}&piece=3&ranges=0-16383")))

    for name, negotiation in {
        "socks5": [(0, b"\5\1\0"), (1, b"\5\0"), (0, b"\5\1\0\1" + compact(OUTSIDE, 51413)), (1, b"\5\0\0\1" + bytes(6))],
        "socks4": [(0, b"\4\1" + struct.pack(">H", 51413) + ipaddress.ip_address(OUTSIDE).packed + b"\0"), (1, b"\0\x5a" + bytes(6))],
        "http_connect": [(0, b"CONNECT 203.0.113.9:51413 HTTP/1.1\r\nHost: 203.0.113.9:51413\r\n\r\n"),
                         (1, b"HTTP/1.1 200 Connection established\r\n\r\n")],
    }.items():
        cap, t = one(f"handshake_in_{name}", Tcp, INSIDE, 50001, "198.51.100.2", 1080)
        for side, data in negotiation:
            t.emit(side, PSH | ACK, data)
        cap.bittorrent(t, "tcp.handshake", t.send(HANDSHAKE))

    cap, u = one("dht_in_socks_udp", Udp, INSIDE, 50001, "198.51.100.2", 1080)
    cap.bittorrent(u, "dht.query", u.send(b"\0\0\0\1" + compact(OUTSIDE, 6881) + DHT_PING))

    # a connection that began before the capture: have, request, piece
    cap, t = one("midstream", Tcp, INSIDE, 50001, OUTSIDE, 51413, handshake=False)
    t.send(message(4, struct.pack(">I", 17)) + b"".join(message(6, struct.pack(">III", 17, i * 16384, 16384)) for i in range(6)))
    piece = message(7, struct.pack(">II", 17, 0) + noise("piece", 16384))
    for at in range(0, 4200, 1400):
        t.reply(piece[at:at + 1400])
    t.send(b"".join(message(6, struct.pack(">III", 18, i * 16384, 16384)) for i in range(6)))
    cap.bittorrent(t, "tcp.message")

    # one DHT query condemns the client's UDP socket: what follows from it is BitTorrent, whatever it looks like
    cap, u = one("condemned_socket", Udp, INSIDE, 6881, OUTSIDE, 51413)
    n = u.send(DHT_PING)
    cap.bittorrent(u, "dht.query", n)
    v = Udp(cap, INSIDE, 6881, "198.51.100.44", 40404)
    cap.bittorrent(v, "socket.condemned", v.send(noise("encrypted datagram", 120)))

    # a datagram of a condemned socket names a peer: the same client's TCP connection to that endpoint is BitTorrent
    # from its SYN on; another client's, and the same client's to another port there, are not
    cap, u = one("learned_peer", Udp, INSIDE, 6881, OUTSIDE, 51413)
    cap.bittorrent(u, "dht.query", u.send(DHT_GET_PEERS))
    v = Udp(cap, INSIDE, 6881, "198.51.100.44", 40404)
    cap.bittorrent(v, "socket.condemned", v.send(noise("encrypted datagram", 120)))
    t = Tcp(cap, INSIDE, 50001, "198.51.100.44", 40404)
    cap.bittorrent(t, "peer.learned", 3)
    t.send(noise("T1", 900))
    for src, port in ((INSIDE2, 40404), (INSIDE, 40405)):
        other = Tcp(cap, src, 50002, "198.51.100.44", port)
        other.send(noise("X1", 900))
        other.reply(noise("X2", 1200))

    # the encrypted handshake of a client that has shown itself by DHT
    cap, u = one("mse_active_client", Udp, INSIDE, 6881, OUTSIDE, 51413)
    cap.bittorrent(u, "dht.query", u.send(DHT_PING))
    t = Tcp(cap, INSIDE, 50001, "198.51.100.45", 40405)
    for side, n in ((0, 96 + 211), (1, 96 + 93), (0, 56 + 68), (1, 14 + 68), (0, 300)):
        t.emit(side, PSH | ACK, noise(f"mse {side} {n}", n))
    cap.bittorrent(t, "mse.handshake")


def lookalike_captures():
    def one(name, cls, src, sport, dst, dport, **kw):
        cap = Capture(f"ok_{name}.pcap")
        return cap, cls(cap, src, sport, dst, dport, **kw)

    cap, t = one("tls", Tcp, INSIDE, 50001, OUTSIDE, 443)
    t.send(client_hello("www.example.org"))
    t.reply(b"\x16\x03\x03\0\x7a\x02\0\0\x76\x03\x03" + noise("server hello", 116))

    cap, t = one("ssh_port_2222", Tcp, INSIDE, 50001, OUTSIDE, 2222)
    t.send(b"SSH-2.0-OpenSSH_9.2\r\n")
    t.reply(b"SSH-2.0-OpenSSH_9.2\r\n")
    for i in range(6):  # etm: clear length, then random: one in a few has an id below 21
        t.send(struct.pack(">I", 48 + 16 * i) + bytes([i + 3]) + noise(f"etm{i}", 63 + 16 * i))

    cap, t = one("ldap_sasl", Tcp, INSIDE, 50001, OUTSIDE, 389)
    t.send(b"\x30\x0c\x02\1\1\x60\7\2\1\3\4\0\x80\0")
    t.reply(b"\x30\x0c\2\1\1\x61\7\x0a\1\0\4\0\4\0")
    t.send(b"\0\0\0\xaa\5\4\6\xff" + noise("sasl", 166))
    t.reply(b"\0\0\0\xaa\5\4\7\xff" + noise("sasl2", 166))

    cap, t = one("vnc", Tcp, OUTSIDE, 40001, INSIDE, 5900)
    t.reply(b"RFB 003.008\n")
    t.send(b"RFB 003.008\n")
    t.reply(b"\1\1")
    t.send(b"\1")
    t.reply(b"\0\0\0\0")
    t.send(b"\1")
    t.send(b"\0\0\0\1\0")

    cap, t = one("length_prefixed", Tcp, INSIDE, 50001, OUTSIDE, 61616, handshake=False)  # four bytes of length, a type
    for i in range(8):
        t.emit(i & 1, PSH | ACK, struct.pack(">IB", 60 + i, 4 + i) + noise(f"lp{i}", 59 + i))

    cap, t = one("text_about_bittorrent", Tcp, INSIDE, 50001, OUTSIDE, 25)
    t.reply(b"220 mail.example ESMTP\r\n")
    t.send(b"EHLO client.example\r\n")
    t.reply(b"250 mail.example\r\n")
    t.send(b"Subject: notes\r\n\r\nThe string \x13BitTorrent protocol opens a peer connection;\r\nd1:ad2:id20: a query.\r\n.\r\n")

    cap, t = one("http_page_about_trackers", Tcp, INSIDE, 50001, OUTSIDE, 80)
    t.send(http_get("/wiki/announce?topic=info_hash&lang=en"))
    t.reply(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>GET /announce?info_hash=...&amp;peer_id=-UT1234-</p>")
    t.send(http_get("/search?q=info_hash%3Dabc&port=80"))

    cap, t = one("http_get", Tcp, INSIDE, 50001, OUTSIDE, 80)
    t.send(http_get("/index.html"))
    t.reply(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

    cap, t = one("gnutella", Tcp, INSIDE, 50001, OUTSIDE, 6346)
    t.send(b"GNUTELLA CONNECT/0.6\r\nUser-Agent: Shareaza 2.7\r\n\r\n")
    t.reply(b"GNUTELLA/0.6 200 OK\r\n\r\n")

    cap, t = one("almost_handshake", Tcp, INSIDE, 50001, OUTSIDE, 51413)
    t.send(b"\x13BitTorrent protokoll" + bytes(48))

    cap, t = one("handshake_late", Tcp, INSIDE, 50001, OUTSIDE, 8000)  # not at the start of the stream
    t.send(b"POST /upload HTTP/1.1\r\nHost: files.example\r\nContent-Length: 1068\r\n\r\n" + noise("file", 400))
    t.send(noise("file2", 600))
    t.send(HANDSHAKE)

    cap, t = one("shadowsocks_like", Tcp, INSIDE, 50001, OUTSIDE, 8388)
    t.send(noise("ss1", 380))
    t.reply(noise("ss2", 1400))
    t.send(noise("ss3", 700))

    cap, t = one("random_messages", Tcp, INSIDE, 50001, OUTSIDE, 9000)  # MSE-sized, of a client with nothing else
    for i, n in enumerate((250, 300, 180, 240, 400)):
        t.emit(i & 1, PSH | ACK, noise(f"rm{i}", n))

    cap, u = one("dns", Udp, INSIDE, 50001, OUTSIDE, 53)
    u.send(dns_query("tracker.example.org"))
    u.reply(dns_answer(dns_query("tracker.example.org")))

    cap, u = one("dns_id_4100", Udp, INSIDE, 50001, OUTSIDE, 53)  # the id makes it look like a uTP SYN
    u.send(dns_query("ab.cd", 0x4100))
    u.reply(dns_answer(dns_query("ab.cd", 0x4100)))

    cap, u = one("quic", Udp, INSIDE, 50001, OUTSIDE, 443)
    u.send(b"\xc3\0\0\0\1\x08" + noise("dcid", 8) + b"\0\0\x44\x9e" + noise("quic", 1178))
    u.reply(b"\xc3\0\0\0\1\0\x08" + noise("scid", 8) + b"\0\x44\x9e" + noise("quic2", 1178))
    u.send(b"\x41\0" + noise("short", 60))

    cap, u = one("stun", Udp, INSIDE, 50001, OUTSIDE, 3478)
    u.send(b"\0\1\0\0\x21\x12\xa4\x42" + noise("txn", 12))
    u.reply(b"\1\1\0\x0c\x21\x12\xa4\x42" + noise("txn", 12) + b"\0\x20\0\x08\0\1" + noise("mapped", 6))

    cap, u = one("stun_classic", Udp, INSIDE, 50001, OUTSIDE, 3478)  # RFC 3489: no cookie
    u.send(b"\0\1\0\0" + noise("txn16", 16))
    u.reply(b"\1\1\0\x0c" + noise("txn16", 16) + b"\0\1\0\x08\0\1" + noise("mapped", 6))

    cap, u = one("rtp_ssrc_1", Udp, INSIDE, 50001, OUTSIDE, 50003)
    for i in range(5):
        u.emit(i & 1, struct.pack(">BBHII", 0x80, 8, 100 + i, 160 * i, 1) + noise(f"rtp{i}", 160))

    cap, u = one("ntp_dispersion_1", Udp, INSIDE, 123, OUTSIDE, 123)
    u.send(struct.pack(">BBbbII", 0x23, 0, 6, -20, 0, 1) + bytes(36))
    u.reply(struct.pack(">BBbbII", 0x24, 2, 6, -20, 100, 2) + noise("ntp", 36))

    cap, u = one("iperf3", Udp, INSIDE, 50001, OUTSIDE, 5201)
    for i in range(1, 5):
        u.send(struct.pack(">III", T0, i * 1000, i) + noise("iperf", 1400))

    cap, u = one("wireguard", Udp, INSIDE, 51820, OUTSIDE, 51820)
    u.send(b"\1\0\0\0" + noise("wg1", 144))
    u.reply(b"\2\0\0\0" + noise("wg2", 88))
    for i in range(4):
        u.emit(i & 1, b"\4\0\0\0" + noise("idx", 4) + struct.pack("<Q", i) + noise(f"wg{i}", 96))

    cap, u = one("openvpn", Udp, INSIDE, 50001, OUTSIDE, 1194)
    u.send(b"\x38" + noise("ovpn1", 41))
    u.reply(b"\x40" + noise("ovpn2", 53))
    u.send(b"\x28" + noise("ovpn3", 49))

    cap, u = one("bencode_not_dht", Udp, INSIDE, 50001, OUTSIDE, 7777)
    u.send(bencode({"command": "ping", "id": 1}))
    u.reply(b"d3:foo3:bar")
    u.send(b"date: today, the end")

    cap, u = one("ssdp", Udp, INSIDE, 50001, "239.255.255.250", 1900)
    u.send(b'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 1\r\nST: ssdp:all\r\n\r\n')

    cap, u = one("lsd_text_elsewhere", Udp, INSIDE, 50001, OUTSIDE, 9999)
    u.send(b"NOTIFY * HTTP/1.1\r\nInfohash: " + INFO_HASH.hex().encode() + b"\r\n\r\n")

    cap, u = one("game_counters", Udp, INSIDE, 50001, OUTSIDE, 27015)
    for i in range(8):
        u.emit(i & 1, struct.pack(">BBHIIIHH", 1, 0, i, i * 50, 50, 0, i, i) + noise(f"game{i}", 30))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    directory = sys.argv[1]
    os.makedirs(directory, exist_ok=True)
    link_captures()
    file_captures()
    ip_captures()
    bittorrent_captures()
    lookalike_captures()
    with open(os.path.join(directory, "expected.csv"), "w", newline="") as f:
        table = csv.writer(f, lineterminator="\n")
        table.writerow("capture,proto,src,sport,dst,dport,packets,verdict,evidence,first_packet".split(","))
        for cap in sorted(Capture.all, key=lambda c: c.name):
            for (proto, src, sport, dst, dport), row in cap.rows.items():
                table.writerow([cap.name, proto, src, sport, dst, dport, row["packets"], row["verdict"],
                                row["evidence"], row["first"]])
    for cap in Capture.all:
        with open(os.path.join(directory, cap.name), "wb") as f:
            f.write(cap.data())


if __name__ == "__main__":
    main()
