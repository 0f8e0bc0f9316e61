#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Ordinary servers for the internet side of the lab; each prints "ready" and serves until killed.

  services.py http  ADDRESS PORT DIR             files of DIR; /q?... answers with the request's path
  services.py https ADDRESS PORT DIR CERT KEY
  services.py dns   ADDRESS PORT                 answers every A question with 192.0.2.53
  services.py tcp   ADDRESS PORT                 reads as many bytes as a request announces, answers with as many random ones
  services.py udp   ADDRESS PORT                 answers each datagram with as many random bytes
  services.py websocket ADDRESS PORT             accepts every upgrade, answers each message that is not empty with "ok"
"""
import functools
import os
import signal
import socket
import ssl
import struct
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


class Files(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if not self.path.startswith("/q?"):
            return super().do_GET()
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass  # clients may go away


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def http(address, port, directory, cert=None, key=None):
    Server.address_family = family(address)
    server = Server((address, int(port)), functools.partial(Files, directory=directory))
    if cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    print("ready", flush=True)
    server.serve_forever()


def udp_socket(address, port):
    sock = socket.socket(family(address), socket.SOCK_DGRAM)
    sock.bind((address, int(port)))
    print("ready", flush=True)
    return sock


def dns(address, port):
    sock = udp_socket(address, port)
    while True:
        query, sender = sock.recvfrom(2048)
        if len(query) < 17:
            continue
        answer = struct.pack("!HHHIH4s", 0xC00C, 1, 1, 60, 4, socket.inet_aton("192.0.2.53"))
        sock.sendto(query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:] + answer, sender)


def receive(sock, size):
    data = bytearray()
    while len(data) < size:
        part = sock.recv(min(65536, size - len(data)))
        if not part:
            break
        data += part
    return bytes(data)


def serve_each(serve, address, port):
    server = socket.create_server((address, int(port)), family=family(address), backlog=128)
    print("ready", flush=True)
    while True:
        connection, _ = server.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


def tcp(address, port):
    def serve(connection):
        with connection:
            while len(header := receive(connection, 8)) == 8:
                # The count is masked with a random number, so that no byte of the stream is regular.
                mask, masked = struct.unpack("!II", header)
                count = mask ^ masked
                if len(receive(connection, count)) != count:
                    return
                connection.sendall(os.urandom(count))

    serve_each(serve, address, port)


def websocket(address, port):
    def serve(connection):
        with connection, connection.makefile("rb") as stream:
            while stream.readline().strip():
                pass
            connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
            while len(header := stream.read(2)) == 2:
                length = header[1] & 0x7F
                if length == 126:
                    length, = struct.unpack("!H", stream.read(2))
                if length and len(stream.read(4 + length)) == 4 + length:
                    connection.sendall(b"\x81\x02ok")

    serve_each(serve, address, port)


def udp(address, port):
    sock = udp_socket(address, port)
    while True:
        data, sender = sock.recvfrom(2048)
        sock.sendto(os.urandom(len(data)), sender)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    {"http": http, "https": http, "dns": dns, "tcp": tcp, "udp": udp, "websocket": websocket}[sys.argv[1]](*sys.argv[2:])
