#!/usr/bin/env python3
"""Whether a request costs more the more there is of anything: routes, backends, stored answers, connections.

usage: benches/scale.py [--rounds 5] [--seconds 2] [--backstop target/release/backstop] [--only WORD]

Each size has a process of its own, or for connections a load of its own; all sizes of a kind take turns. Requests are for any of the
routes or stored answers, at random; with connections, for one stored answer, and what it costs to open them is in their figures.
Printed are medians over the rounds: CPU time of the process for each request (from /proc), how much that is beside the smallest size,
requests per second, resident memory at the end. Needs nginx and wrk (Debian's packages) and the release build. Starts its own
processes, ends them by their ids, listens on loopback only.
"""
import argparse
import os
import resource
import shutil
import statistics
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cache_hits import Proxy, cpu, free_port, rss  # noqa: E402
from peers import CONNECTIONS, write, wrk  # noqa: E402

SIZES = {
    "routes": [10, 1_000, 10_000],
    "backends": [10, 1_000, 10_000],
    "stored answers": [1, 1_000, 100_000, 1_000_000],
    "connections": [10, 100, 1_000, 10_000],
}
# Backends of one upstream.
POOL = 1_000


def origin(d):
    """nginx, on every address of the loopback network: each of those is another backend."""
    port = free_port()
    conf = write(
        os.path.join(d, "origin.conf"),
        f"user root; daemon off; worker_processes 1; worker_rlimit_nofile 65536; pid {d}/o.pid; error_log {d}/o.err;\n"
        "events { worker_connections 32768; }\n"
        f"http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 1h;\n"
        f" server {{ listen 0.0.0.0:{port} backlog=4096; location / {{ default_type text/plain; return 200 '{'x' * 100}'; }} }} }}\n",
    )
    return Proxy("origin", ["/usr/sbin/nginx", "-c", conf, "-p", d], port)


def configured(d, behind, kind, size):
    """A configuration with so many of that kind."""
    port = free_port()
    pools = [[f"127.0.0.1:{behind}"]]
    routes = ["  - { upstream: pool, retry: { tries: 3 } }\n"]
    if kind == "routes":
        routes = [f"  - {{ match: {{ path: /{n} }}, upstream: pool, retry: {{ tries: 3 }} }}\n" for n in range(size)]
    if kind == "backends":
        # From 127.1.0.0 on.
        backends = [f"127.{1 + n // 65536}.{n // 256 % 256}.{n % 256}:{behind}" for n in range(size)]
        # One upstream takes 5,000 in turn at most.
        pools = [backends[n : n + POOL] for n in range(0, size, POOL)]
        routes = [f"  - {{ match: {{ path: /{n} }}, upstream: pool{n or ''}, retry: {{ tries: 3 }} }}\n" for n in range(len(pools))]
    if kind in ("stored answers", "connections"):
        routes = ["  - { upstream: pool, cache: { ttl: 1d } }\n"]
    path = write(
        os.path.join(d, f"{kind.replace(' ', '-')}-{size}.yaml"),
        f"listeners: [{{ address: 127.0.0.1:{port} }}]\nworkers: 2\ncache: {{ memory: 4GiB }}\n"
        f"access_log: {{ path: {d}/{kind.replace(' ', '-')}-{size}.log, rotate: {{ size: 64MiB, keep: 1 }} }}\n"
        f"admin: {{ address: 127.0.0.1:{free_port()} }}\n---\n"
        "upstreams:\n" + "".join(f"  pool{n or ''}: {{ backends: [{', '.join(pool)}] }}\n" for n, pool in enumerate(pools)) + "routes:\n" + "".join(routes),
    )
    return port, path


def ask_all(url, size, d):
    """Asks for each of so many paths: has answers stored, and what is counted of each route begun."""
    asked = 0
    while asked < size:
        # What was on its way when the time was over is asked for again.
        begin = max(0, asked - 2 * CONNECTIONS)
        text = f"n = {begin - 1}\nfunction request() n = n + 1; return wrk.format('GET', '/' .. math.floor(n % {size})) end\n"
        before, asked = asked, begin + wrk(url, 2, ["-s", write(os.path.join(d, "all.lua"), text)])[0]
        if asked <= before:
            raise SystemExit(f"{url}: it does not get any farther than {before}")


def main():
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--backstop", default="target/release/backstop")
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    program = os.path.abspath(args.backstop)
    d = tempfile.mkdtemp(prefix="scale.")
    os.chmod(d, 0o755)
    started = []
    try:
        behind = origin(d)
        started.append(behind)
        print("| | how many | CPU µs | / the fewest | per s | MiB | errors | CPU µs, all rounds |\n|---|---|---|---|---|---|---|---|")
        for kind, sizes in SIZES.items():
            if args.only not in kind:
                continue
            proxies, rows = {}, {size: [] for size in sizes}
            for size in sizes:
                if kind == "connections" and proxies:
                    proxies[size] = proxies[sizes[0]]
                    continue
                port, path = configured(d, behind.port, kind, size)
                proxies[size] = Proxy(f"scale {kind} {size}", [program, "-c", path], port)
                started.append(proxies[size])
                if kind in ("routes", "stored answers"):
                    ask_all(f"http://127.0.0.1:{port}/", size, d)
            for _ in range(args.rounds):
                for size, proxy in proxies.items():
                    spread = {"connections": 1, "backends": -(-size // POOL)}.get(kind, size)
                    script = write(
                        os.path.join(d, "any.lua"), f"function request() return wrk.format('GET', '/' .. math.random(0, {spread - 1})) end\n"
                    )
                    connections = size if kind == "connections" else CONNECTIONS
                    # To open very many takes a while.
                    seconds = args.seconds + connections // 1_000
                    before = cpu(proxy.process.pid)
                    done, errors, _ = wrk(f"http://127.0.0.1:{proxy.port}/", seconds, ["-s", script], connections)
                    rows[size].append(((cpu(proxy.process.pid) - before) / done * 1e6, done / seconds, rss(proxy.process.pid), errors))
            fewest = statistics.median(row[0] for row in rows[sizes[0]])
            for size, found in rows.items():
                spent, rate, memory, _ = (statistics.median(column) for column in zip(*found))
                every = " ".join(f"{row[0]:.1f}" for row in found)
                errors = sum(row[3] for row in found)
                held = "–" if kind == "connections" else f"{memory / 2**20:.0f}"
                print(f"| {kind} | {size:,} | {spent:.1f} | {spent / fewest:.2f} | {rate:.0f} | {held} | {errors} | {every} |", flush=True)
            for proxy in set(proxies.values()):
                proxy.stop()
                started.remove(proxy)
    finally:
        for process in reversed(started):
            process.stop()
        shutil.rmtree(d, ignore_errors=True)


if __name__ == "__main__":
    main()
