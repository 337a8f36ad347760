#!/usr/bin/env python3
"""What a cache hit costs, beside nginx, HAProxy and Varnish: one interleaved run on loopback.

usage: benches/cache_hits.py [--rounds 5] [--seconds 4] [--backstop target/release/backstop]

Needs wrk, nginx, haproxy and varnishd (Debian's packages) and the release build. Each proxy has one row for each of: 1 KB and
100 KB answers from memory, and from files where it has files. Printed are medians over the rounds: CPU time of the proxy's own
processes for each answer (from /proc), answers per second, latency at p50 and p99 with 64 connections; and what a further
stored answer of 1 KB takes of resident memory. Starts its own processes, ends them by their ids, listens on loopback only.
"""
import argparse
import http.server
import os
import re
import shutil
import socket
import socketserver
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request

CONNECTIONS = 64
TICKS = os.sysconf("SC_CLK_TCK")
SIZES = {"1k": 1024, "100k": 100 * 1024}
# So many that a small memory tier cannot hold them: those hits come from files.
SPREAD = {"1k": 4000, "100k": 200}


class Origin(http.server.BaseHTTPRequestHandler):
    """/1k/7 is an answer of 1 KB."""

    protocol_version = "HTTP/1.1"
    # Else the body, a second write, would wait for the head to be acknowledged.
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self):
        size = SIZES.get(self.path.split("/")[1], 1024)
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(size))
        self.send_header("Cache-Control", "max-age=3600")
        self.end_headers()
        self.wfile.write(b"x" * size)
        self.wfile.flush()

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, request, client_address):
        """Proxies close kept connections as they like."""


def place(root, name):
    """A directory in which processes of any user may write."""
    d = os.path.join(root, name)
    os.mkdir(d)
    os.chmod(d, 0o777)
    return d


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def tree(pid):
    """The process and all that come from it."""
    pids, new = [pid], [pid]
    while new:
        found = []
        for p in new:
            try:
                with open(f"/proc/{p}/task/{p}/children") as f:
                    found += [int(c) for c in f.read().split()]
            except OSError:
                pass
        pids += found
        new = found
    return pids


def cpu(pid):
    total = 0
    for p in tree(pid):
        try:
            with open(f"/proc/{p}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        except OSError:
            pass
    return total / TICKS


def rss(pid):
    total = 0
    for p in tree(pid):
        try:
            with open(f"/proc/{p}/statm") as f:
                total += int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            pass
    return total


class Proxy:
    def __init__(self, name, command, port, cwd=None):
        self.name, self.port = name, port
        self.log = open(os.path.join(tempfile.gettempdir(), f"cache_hits.{name.replace(' ', '_')}.log"), "w")
        self.process = subprocess.Popen(command, cwd=cwd, stdout=self.log, stderr=self.log)
        for _ in range(200):
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", port)) == 0:
                    return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise SystemExit(f"{name} did not start: see {self.log.name}")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def backstop(program, origin, d, disk):
    port = free_port()
    cache = "{ memory: 256MiB }"
    if disk:
        cache = f"{{ memory: 1MiB, path: {d}/files, max_size: 4GiB, min_free: 1MiB }}"
    path = os.path.join(d, "backstop.yaml")
    with open(path, "w") as f:
        f.write(
            f"listeners: [{{ address: 127.0.0.1:{port} }}]\nworkers: 2\ncache: {cache}\naccess_log: {{ path: {d}/access.log }}\n---\n"
            f"upstreams: {{ pool: {{ backends: [127.0.0.1:{origin}] }} }}\n"
            "routes: [{ upstream: pool, cache: { ttl: 1h } }]\n"
        )
    return Proxy("backstop disk" if disk else "backstop", [program, "-c", path], port)


def nginx(origin, d):
    port = free_port()
    path = os.path.join(d, "nginx.conf")
    with open(path, "w") as f:
        f.write(
            f"daemon off; worker_processes 2; pid {d}/nginx.pid; error_log {d}/error.log;\n"
            "events { worker_connections 4096; }\n"
            f"http {{ access_log {d}/access.log combined buffer=64k flush=1s; sendfile on; keepalive_requests 100000000;\n"
            f" open_file_cache max=20000; proxy_cache_path {d}/cache levels=1:2 keys_zone=z:64m max_size=4g inactive=1h use_temp_path=off;\n"
            f" upstream o {{ server 127.0.0.1:{origin}; keepalive 64; }}\n"
            f" server {{ listen 127.0.0.1:{port} reuseport; location / {{ proxy_pass http://o; proxy_http_version 1.1;\n"
            "  proxy_set_header Connection ''; proxy_cache z; proxy_cache_valid 200 1h; proxy_cache_lock on; } } }\n"
        )
    return Proxy("nginx", ["/usr/sbin/nginx", "-c", path, "-p", d], port)


SINK = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def log_sink():
    """Where a syslog daemon would be: HAProxy logs to one. What nobody reads is dropped by the kernel."""
    if SINK.getsockname()[1] == 0:
        SINK.bind(("127.0.0.1", 0))
    return SINK.getsockname()[1]


def haproxy(origin, d):
    port = free_port()
    path = os.path.join(d, "haproxy.cfg")
    with open(path, "w") as f:
        f.write(
            f"global\n nbthread 2\n maxconn 5000\n log 127.0.0.1:{log_sink()} local0\n"
            "defaults\n mode http\n log global\n option httplog\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n"
            "cache c\n total-max-size 512\n max-object-size 1000000\n max-age 3600\n"
            f"frontend f\n bind 127.0.0.1:{port}\n http-request cache-use c\n http-response cache-store c\n default_backend b\n"
            f"backend b\n server s 127.0.0.1:{origin}\n"
        )
    return Proxy("haproxy", ["/usr/sbin/haproxy", "-f", path, "-db"], port)


def varnish(origin, d, storage):
    port = free_port()
    path = os.path.join(d, "default.vcl")
    with open(path, "w") as f:
        f.write(
            f'vcl 4.0; backend o {{ .host = "127.0.0.1"; .port = "{origin}"; }}\n'
            "sub vcl_backend_response { set beresp.ttl = 1h; }\n"
        )
    name = "varnish file" if storage.startswith("file") else "varnish"
    command = ["/usr/sbin/varnishd", "-F", "-a", f"127.0.0.1:{port}", "-f", path, "-s", storage, "-n", d]
    return Proxy(name, command, port)


def warm(port, kind, n, first=0):
    for i in range(first, first + n):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{kind}/{i}") as r:
            r.read()


def measure(proxy, script, seconds):
    before, cpu_before = time.time(), cpu(proxy.process.pid)
    out = subprocess.run(
        ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s", script, f"http://127.0.0.1:{proxy.port}/"],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
    ).stdout
    used = cpu(proxy.process.pid) - cpu_before
    done = int(re.search(r"(\d+) requests in", out).group(1))
    if "Non-2xx" in out or done == 0:
        raise SystemExit(f"{proxy.name}: {out}")
    unit = {"us": 1.0, "ms": 1000.0, "s": 1e6}

    def latency(q):
        m = re.search(rf"\s{q}%\s+([\d.]+)(us|ms|s)", out)
        return float(m.group(1)) * unit[m.group(2)]

    return used / done * 1e6, done / (time.time() - before), latency(50), latency(99)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--backstop", default="target/release/backstop")
    args = parser.parse_args()
    program = os.path.abspath(args.backstop)
    origin = Server(("127.0.0.1", 0), Origin)
    threading.Thread(target=origin.serve_forever, daemon=True).start()
    o = origin.server_address[1]
    root = tempfile.mkdtemp(prefix="cache_hits.")
    os.chmod(root, 0o755)
    started = []

    try:
        for make in (
            lambda: backstop(program, o, place(root, "b"), False),
            lambda: backstop(program, o, place(root, "bd"), True),
            lambda: nginx(o, place(root, "n")),
            lambda: haproxy(o, place(root, "h")),
            lambda: varnish(o, place(root, "v"), "malloc,1g"),
            lambda: varnish(o, place(root, "vf"), f"file,{root}/vf/store,2g"),
        ):
            started.append(make())
        names = {p.name: p for p in started}
        cases = []
        for kind in SIZES:
            script = os.path.join(root, f"{kind}.lua")
            with open(script, "w") as f:
                f.write(f'request = function() return wrk.format("GET", "/{kind}/0") end\n')
            cases.append((f"{kind} memory", script, 1, ["backstop", "nginx", "haproxy", "varnish"], kind))
            script = os.path.join(root, f"{kind}-many.lua")
            with open(script, "w") as f:
                f.write(
                    f'local n = 0\nrequest = function() n = (n + 7919) % {SPREAD[kind]}; return wrk.format("GET", "/{kind}/" .. n) end\n'
                )
            cases.append((f"{kind} files", script, SPREAD[kind], ["backstop disk", "nginx", "varnish file"], kind))
        memory = {}
        for p in started:
            # The first of them bring the process what it keeps whatever is stored.
            warm(p.port, "1k", SPREAD["1k"])
            before = rss(p.process.pid)
            warm(p.port, "1k", SPREAD["1k"], SPREAD["1k"])
            memory[p.name] = (rss(p.process.pid) - before) / SPREAD["1k"]
            warm(p.port, "100k", SPREAD["100k"])
        results = {}
        for _ in range(args.rounds):
            for case, script, _, who, _ in cases:
                for name in who:
                    results.setdefault((case, name), []).append(measure(names[name], script, args.seconds))
        print(f"{'':14} {'':14} {'CPU us':>8} {'per s':>9} {'p50 us':>9} {'p99 us':>9}   CPU, all rounds")
        for case, _, _, who, _ in cases:
            for name in who:
                rows = results[(case, name)]
                med = [statistics.median(column) for column in zip(*rows)]
                spread = " ".join(f"{r[0]:.1f}" for r in rows)
                print(f"{case:14} {name:14} {med[0]:8.1f} {med[1]:9.0f} {med[2]:9.0f} {med[3]:9.0f}   {spread}")
        print("\nresident memory for each stored answer of 1 KB, bytes")
        for name, size in memory.items():
            print(f"{name:14} {size:8.0f}")
    finally:
        for p in started:
            p.stop()
        origin.shutdown()
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
