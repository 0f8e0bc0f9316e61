#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A BitTorrent peer on libtorrent (Debian: python3-libtorrent, which needs /usr/bin/python3).

  peer.py make FILE TORRENT [--tracker URL]...      write a torrent of FILE
  peer.py run --torrent T --dir D --listen IP:PORT  download it, or with --seed share it
  peer.py dht --listen IP:PORT [...]                only DHT nodes that know each other

`run` prints one JSON object a line, ten a second: seconds, payload (bytes of the torrent's content
received), verified, total, peers, done.
"""
import argparse
import json
import os
import signal
import sys
import time

import libtorrent as lt

QUIET = {
    "alert_mask": 0,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_lsd": False,
    "enable_dht": False,
    "dht_bootstrap_nodes": "",
    "allow_multiple_connections_per_ip": True,
    # The lab's nodes share one network, which real clients would take for one attacker.
    "dht_restrict_routing_ips": False,
    "dht_restrict_search_ips": False,
    # Clients that start one after the other on one address ask more often than one client would: a node that takes
    # them for an attacker is silent for five minutes.
    "dht_block_ratelimit": 10000,
    "dht_announce_interval": 5,
    "min_announce_interval": 2,
    "tracker_backoff": 1,
    "min_reconnect_time": 1,
    "peer_connect_timeout": 5,
    "connection_speed": 50,
    "torrent_connect_boost": 50,
    "announce_to_all_trackers": True,
    "announce_to_all_tiers": True,
    "ssrf_mitigation": False,
    "validate_https_trackers": False,
    "mixed_mode_algorithm": 0,
}


def endpoint(text):
    address, _, port = text.rpartition(":")
    return address.strip("[]"), int(port)


def make(options):
    files = lt.file_storage()
    lt.add_files(files, options.file)
    torrent = lt.create_torrent(files, 256 << 10, lt.create_torrent.v1_only)
    for tier, url in enumerate(options.tracker):
        torrent.add_tracker(url, tier)
    lt.set_piece_hashes(torrent, os.path.dirname(os.path.abspath(options.file)))
    with open(options.torrent, "wb") as out:
        out.write(lt.bencode(torrent.generate()))


def session(options):
    settings = dict(QUIET, listen_interfaces=options.listen, outgoing_interfaces=endpoint(options.listen)[0])
    for transport in ("tcp", "utp"):
        used = options.transport in (transport, "both")
        settings[f"enable_incoming_{transport}"] = settings[f"enable_outgoing_{transport}"] = used
    # policies: 0 forced, 1 enabled, 2 disabled; levels: 1 plain text, 2 RC4, 3 both
    policy, level = {"plain": (2, 1), "rc4": (0, 2), "any": (1, 3)}[options.encryption]
    settings.update(in_enc_policy=policy, out_enc_policy=policy, allowed_enc_level=level, prefer_rc4=level == 2)
    if options.proxy:
        kind, _, where = options.proxy.partition("://")
        address, port = endpoint(where)
        settings.update(proxy_type={"socks5": 2, "http": 4}[kind], proxy_hostname=address, proxy_port=port,
                        proxy_peer_connections=True, proxy_tracker_connections=True)
    if options.dht:
        settings.update(enable_dht=True, dht_bootstrap_nodes=",".join(options.dht))
    return lt.session(settings)


def run(options):
    ses = session(options)
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(options.torrent)
    params.save_path = options.dir
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    if options.seed:
        params.flags |= lt.torrent_flags.seed_mode
    handle = ses.add_torrent(params)
    for peer in options.connect:
        handle.connect_peer(endpoint(peer))
    start = announced = dialled = time.monotonic()
    while True:
        status, now = handle.status(), time.monotonic()
        print(json.dumps({
            "seconds": round(now - start, 2),
            "payload": status.total_payload_download,
            "verified": status.total_wanted_done,
            "total": status.total_wanted,
            "peers": status.num_peers,
            "done": bool(status.is_seeding),
        }), flush=True)
        if options.dht and now - announced > 2:
            announced = now
            handle.force_dht_announce()
        if not status.num_peers and now - dialled > 2:
            dialled = now
            for peer in options.connect:
                handle.connect_peer(endpoint(peer))
        time.sleep(0.1)


def dht(options):
    sessions = []
    for listen in options.listen:
        sessions.append(lt.session(dict(QUIET, listen_interfaces=listen, enable_dht=True, enable_incoming_tcp=False,
                                        enable_outgoing_tcp=False)))
    for ses in sessions:
        for listen in options.listen:
            ses.add_dht_node(endpoint(listen))
    print("ready", flush=True)
    signal.pause()


def main():
    parser = argparse.ArgumentParser(description="a BitTorrent peer for tests")
    commands = parser.add_subparsers(dest="command", required=True)
    p = commands.add_parser("make")
    p.add_argument("file")
    p.add_argument("torrent")
    p.add_argument("--tracker", action="append", default=[])
    p = commands.add_parser("run")
    p.add_argument("--torrent", required=True)
    p.add_argument("--dir", required=True)
    p.add_argument("--listen", required=True, help="IP:PORT, IPv6 in brackets")
    p.add_argument("--seed", action="store_true")
    p.add_argument("--connect", action="append", default=[], help="IP:PORT of a peer")
    p.add_argument("--transport", choices=["tcp", "utp", "both"], default="both")
    p.add_argument("--encryption", choices=["plain", "rc4", "any"], default="plain")
    p.add_argument("--dht", action="append", default=[], help="IP:PORT of a DHT node")
    p.add_argument("--proxy", help="socks5://IP:PORT or http://IP:PORT for peers and trackers")
    p = commands.add_parser("dht")
    p.add_argument("--listen", required=True, nargs="+")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    {"make": make, "run": run, "dht": dht}[options.command](options)


if __name__ == "__main__":
    sys.exit(main())
