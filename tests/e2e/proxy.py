#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A proxy for tests: SOCKS5 (CONNECT only), HTTP CONNECT and plain HTTP requests on one port.

  proxy.py ADDRESS PORT
"""
import os
import signal
import socket
import struct
import sys
import threading
from urllib.parse import urlsplit


def exactly(sock, count):
    data = b""
    while len(data) < count:
        part = sock.recv(count - len(data))
        if not part:
            raise ConnectionError("ended early")
        data += part
    return data


def socks5(client):
    client.recv(1 + 255)  # version was peeked at; the methods
    client.sendall(b"\5\0")
    _, command, _, kind = exactly(client, 4)
    if kind == 3:
        address = exactly(client, exactly(client, 1)[0]).decode()
    else:
        address = socket.inet_ntop(socket.AF_INET6 if kind == 4 else socket.AF_INET, exactly(client, 16 if kind == 4 else 4))
    port, = struct.unpack("!H", exactly(client, 2))
    if command != 1:
        client.sendall(b"\5\7\0\1" + bytes(6))
        raise ConnectionError("only CONNECT")
    server = socket.create_connection((address, port), 10)
    client.sendall(b"\5\0\0\1" + bytes(6))
    return server


def http(client):
    head = b""
    while b"\r\n\r\n" not in head:
        part = client.recv(4096)
        if not part:
            raise ConnectionError("ended early")
        head += part
    line, rest = head.split(b"\r\n", 1)
    method, target, version = line.split(b" ", 2)
    if method == b"CONNECT":
        name, _, port = target.decode().rpartition(":")
        server = socket.create_connection((name.strip("[]"), int(port)), 10)
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        return server
    url = urlsplit(target.decode("latin-1"))
    server = socket.create_connection((url.hostname, url.port or 80), 10)
    path = (url.path or "/") + ("?" + url.query if url.query else "")
    server.sendall(b" ".join((method, path.encode("latin-1"), version)) + b"\r\n" + rest)
    return server


def copy(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for sock in (source, sink):
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve(client):
    try:
        first = client.recv(1, socket.MSG_PEEK)
        server = socks5(client) if first == b"\5" else http(client)
    except (OSError, ValueError):
        client.close()
        return
    server.settimeout(None)
    threading.Thread(target=copy, args=(client, server), daemon=True).start()
    copy(server, client)


def main():
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
    print("ready", flush=True)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client,), daemon=True).start()


if __name__ == "__main__":
    main()
