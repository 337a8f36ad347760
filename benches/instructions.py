#!/usr/bin/env python3
"""How many instructions a request takes, and what is in it: figures that are the same on a busy machine, so that a change shows.

usage: benches/instructions.py [--backstop target/release/backstop] [--requests 1000] [--keep]

Needs valgrind (Debian's package) and the release build. A fixed script of requests goes through one worker, on one kept
connection, under callgrind; system calls count as nothing, and what the processor copies by itself counts a byte as one. Printed are the instructions for each request, those of some of its
parts, and how much that is beside the figures kept in benches/instructions.txt; more than 5 % above is a failure. `--keep`
writes them there. They change with the compiler and the processor, too: compare on one machine.
"""
import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cache_hits import Origin, Server, free_port  # noqa: E402

KEPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "instructions.txt")
MOST = 1.05
# What is asked for in turn; which files' worth of it is warm is up to the configuration.
CASES = {"proxied": "/proxied/1k/", "through the phases": "/phases/1k/", "cached in memory": "/1k/", "cached in a file": "/100k/"}
WHOLE = "Connection::serve::{{closure}}"
# Lines of the log are written some at a time: by a request, or by the log's thread in its turn, which counts too.
LINES = "access_log::write_lines"
# A part, the function that does it, and the case in which it is looked at.
PARTS = [
    ("finding the route", "policy::router::Router<T>::find", "proxied"),
    ("editing the request", "proxy::outgoing::prepare", "through the phases"),
    ("the cache key", "cache::Cache::key", "cached in memory"),
    ("the line of the log", "observe::json::write", "cached in memory"),
]


def configuration(d, port, origin):
    path = os.path.join(d, "backstop.yaml")
    with open(path, "w") as f:
        f.write(
            f"listeners: [{{ address: 127.0.0.1:{port} }}]\nworkers: 1\n"
            f"cache: {{ memory: 64MiB, path: {d}/files, max_size: 1GiB, min_free: 1MiB }}\naccess_log: {{ path: {d}/access.log }}\n---\n"
            f"upstreams: {{ pool: {{ backends: [127.0.0.1:{origin}] }} }}\n"
            "defaults: { upstream: pool, retry: { tries: 3 } }\n"
            "routes:\n"
            "  - { match: { path: /proxied }, strip_prefix: /proxied, headers: { request: { set: { X-From: edge } } } }\n"
            "  - { match: { path: /phases }, strip_prefix: /phases, hedge: { after: 30s }, headers: { request: { set: { X-From: edge } } } }\n"
            "  - { match: { path: /1k }, cache: { ttl: 1h } }\n"
            "  - { match: { path: /100k }, cache: { ttl: 1h } }\n"
        )
    return path


def ask(connection, target):
    connection.sendall(f"GET {target} HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n".encode())
    got = b""
    while b"\r\n\r\n" not in got:
        piece = connection.recv(1 << 18)
        if not piece:
            raise SystemExit(f"{target}: the connection ended")
        got += piece
    head, body = got.split(b"\r\n\r\n", 1)
    if not head.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"{target}: {head.decode()}")
    left = int(re.search(rb"(?i)content-length: (\d+)", head).group(1)) - len(body)
    while left > 0:
        piece = connection.recv(1 << 18)
        if not piece:
            raise SystemExit(f"{target}: the connection ended")
        left -= len(piece)


def profile(program, case, requests):
    """Instructions by function, with what they call, for each request."""
    d = tempfile.mkdtemp(prefix="instructions.")
    origin = Server(("127.0.0.1", 0), Origin)
    threading.Thread(target=origin.serve_forever, daemon=True).start()
    port, out = free_port(), os.path.join(d, "callgrind.out")
    command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]
    with open(os.path.join(d, "log"), "w") as log:
        process = subprocess.Popen(
            [*command, program, "-c", configuration(d, port, origin.server_address[1])], stdout=log, stderr=log
        )
    try:
        for _ in range(600):
            connection = socket.socket()
            if connection.connect_ex(("127.0.0.1", port)) == 0:
                break
            connection.close()
            if process.poll() is not None:
                raise SystemExit(open(os.path.join(d, "log")).read())
            time.sleep(0.1)
        connection.settimeout(60)
        targets = [f"{CASES[case]}{n}" for n in range(20)]
        # Twice: the first time fills the cache, and what a file holds counts as right once it was read.
        for target in targets * 2:
            ask(connection, target)
        # Until a file that was just written is believed.
        time.sleep(1)
        for target in targets:
            ask(connection, target)
        control = lambda how: subprocess.run(["callgrind_control", "-i", how, str(process.pid)], check=True, capture_output=True)  # noqa: E731
        control("on")
        for n in range(requests):
            ask(connection, targets[n % 20])
        control("off")
    finally:
        process.terminate()
        process.wait()
        origin.shutdown()
    shown = subprocess.run(
        ["callgrind_annotate", "--inclusive=yes", "--threshold=100", "--auto=no", out], capture_output=True, text=True, check=True
    ).stdout
    shutil.rmtree(d)
    return [
        (int(found.group(1).replace(",", "")) / requests, found.group(2))
        for found in re.finditer(r"^\s*([\d,]+) \([^)]*\)\s+\S+?:(\S.*?)(?: \[[^\]]*\])?$", shown, re.M)
    ]


def of(functions, name):
    """The most that a function of this name takes: pieces that were put into others come with less."""
    return max((count for count, function in functions if name in function), default=None)


def whole(functions):
    """What a request takes in all; none if it is not found."""
    count = of(functions, WHOLE)
    return count and count + (of(functions, LINES) or 0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--backstop", default="target/release/backstop")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    program = os.path.abspath(args.backstop)
    profiles = {case: profile(program, case, args.requests) for case in CASES}
    found = {case: whole(profiles[case]) for case in CASES}
    found.update({part: of(profiles[case], name) for part, name, case in PARTS})
    kept = {}
    if os.path.exists(KEPT):
        with open(KEPT) as f:
            kept = {name: float(count) for name, count in (line.rsplit(" ", 1) for line in f if line.strip())}
    worse = []
    for name, count in found.items():
        if count is None:
            # The compiler has put it into its caller, or it has another name now.
            print(f"{name:24} {'-':>8}")
            if name in kept:
                worse.append(f"{name}, which is not found")
            continue
        before = kept.get(name)
        print(f"{name:24} {count:8.0f}" + (f"  {100 * (count / before - 1):+.1f} %" if before else ""))
        if before and count > before * MOST:
            worse.append(name)
    if args.keep:
        with open(KEPT, "w") as f:
            f.writelines(f"{name} {count:.0f}\n" for name, count in found.items() if count is not None)
    elif worse:
        raise SystemExit(f"more than {MOST:.0%} of what it was: {', '.join(worse)}")


if __name__ == "__main__":
    main()
