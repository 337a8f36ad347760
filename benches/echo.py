#!/usr/bin/env python3
"""WebSocket messages that go to and fro (RFC 6455): a server that answers each, and clients that wait for each answer.

usage: benches/echo.py serve PORT
       benches/echo.py load PORT PATH SECONDS

A part of benches/peers.py, in processes of its own. Each client has one message of 125 bytes on its way. `load` prints how many were
answered, how many went wrong, and the times in microseconds that half of them and 99 of 100 took at most.
"""
import base64
import hashlib
import os
import selectors
import socket
import sys
import time

CLIENTS = 64
SIZE = 125
# Final, text, as long as that; a client's are masked, here with zeros.
ASKED = bytes([0x81, 0x80 | SIZE, 0, 0, 0, 0]) + b"x" * SIZE
TOLD = bytes([0x81, SIZE]) + b"x" * SIZE
SECRET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept(key):
    return base64.b64encode(hashlib.sha1(key + SECRET).digest())


def head(connection):
    got = b""
    while b"\r\n\r\n" not in got:
        piece = connection.recv(4096)
        if not piece:
            return None
        got += piece
    return got


def field(got, name):
    for line in got.split(b"\r\n"):
        if line.lower().startswith(name + b":"):
            return line.split(b":", 1)[1].strip()
    return None


def serve(port):
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    waiting = selectors.DefaultSelector()
    waiting.register(listener, selectors.EVENT_READ, None)
    while True:
        for ready, _ in waiting.select():
            if ready.data is None:
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                got = head(connection)
                key = got and field(got, b"sec-websocket-key")
                if not key:
                    connection.close()
                    continue
                connection.sendall(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept(key) + b"\r\n\r\n"
                )
                waiting.register(connection, selectors.EVENT_READ, bytearray())
                continue
            connection, so_far = ready.fileobj, ready.data
            try:
                piece = connection.recv(65536)
                so_far += piece
                whole = len(so_far) // len(ASKED)
                del so_far[: whole * len(ASKED)]
                connection.sendall(TOLD * whole)
            except OSError:
                piece = b""
            if not piece:
                waiting.unregister(connection)
                connection.close()


def load(port, path, seconds):
    waiting = selectors.DefaultSelector()
    key = base64.b64encode(os.urandom(16))
    for _ in range(CLIENTS):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(
            b"GET " + path.encode() + b" HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: " + key + b"\r\n\r\n"
        )
        got = head(connection)
        if got is None or not got.startswith(b"HTTP/1.1 101") or field(got, b"sec-websocket-accept") != accept(key):
            raise SystemExit(f"no WebSocket: {got!r}")
        waiting.register(connection, selectors.EVENT_READ, [0, 0.0])
    times, wrong = [], 0
    for one in list(waiting.get_map().values()):
        one.data[1] = time.perf_counter()
        one.fileobj.sendall(ASKED)
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for ready, _ in waiting.select(1):
            try:
                piece = ready.fileobj.recv(len(TOLD) - ready.data[0])
                ready.data[0] += len(piece)
                if ready.data[0] == len(TOLD):
                    now = time.perf_counter()
                    times.append(now - ready.data[1])
                    ready.data[:] = [0, now]
                    ready.fileobj.sendall(ASKED)
            except OSError:
                piece = b""
            if not piece:
                wrong += 1
                waiting.unregister(ready.fileobj)
    if not times:
        raise SystemExit("no message was answered")
    times.sort()
    half, most = (times[min(len(times) - 1, int(len(times) * share))] * 1e6 for share in (0.5, 0.99))
    print(len(times), wrong, f"{half:.0f}", f"{most:.0f}")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        load(int(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
