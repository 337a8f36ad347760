#!/usr/bin/env python3
"""Whether it costs more the longer it runs: load of all kinds, and a reload with another configuration every ten seconds.

usage: benches/soak.py [--minutes 20] [--backstop target/release/backstop]

Each minute has the same: 1 KB and 100 KB proxied, 1 KB and 100 KB from the cache, new connections, and many URLs that are stored
once. Printed are, for each minute, resident memory at its end, CPU time for each request of the first kind, and errors. Fails if
memory at the end is more than 1.05 times that after the second minute, or if a request failed. Needs nginx and wrk (Debian's
packages) and the release build. Starts its own processes, ends them by their ids, listens on loopback only.
"""
import argparse
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cache_hits import Proxy, cpu, free_port, rss  # noqa: E402
from peers import origin, wrk, write  # noqa: E402

MOST = 1.05
RELOAD = 10
# Paths that nobody asked for before.
MANY = 'n = 0\nfunction request() n = n + 1 return wrk.format("GET", "/cached/1k?" .. n .. "." .. %s) end\n'


def routes(o, weight):
    return (
        f"upstreams: {{ pool: {{ backends: [{{ address: 127.0.0.1:{o}, weight: {weight} }}] }} }}\n"
        "routes:\n  - { match: { path: /cached }, upstream: pool, strip_prefix: /cached, cache: { ttl: 5m } }\n"
        "  - { upstream: pool, retry: { tries: 3 } }\n"
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=int, default=20)
    parser.add_argument("--backstop", default="target/release/backstop")
    args = parser.parse_args()
    if args.minutes < 3:
        parser.error("memory after two minutes is what the rest is compared with")
    program = os.path.abspath(args.backstop)
    with tempfile.TemporaryDirectory(prefix="soak.") as d:
        os.chmod(d, 0o755)
        os.mkdir(os.path.join(d, "origin"))
        behind = origin(os.path.join(d, "origin"))
        port, admin = free_port(), free_port()
        upstreams = os.path.join(d, "upstreams.yaml")
        write(upstreams, routes(behind.port, 1))
        conf = write(
            os.path.join(d, "backstop.yaml"),
            f"listeners: [{{ address: 127.0.0.1:{port} }}]\nworkers: 2\nupstreams_file: {upstreams}\ncache: {{ memory: 64MiB }}\n"
            f"access_log: {{ path: {d}/access.log, rotate: {{ size: 64MiB, keep: 1 }} }}\nadmin: {{ address: 127.0.0.1:{admin} }}\n",
        )
        proxy = Proxy("backstop", [program, "-c", conf], port)
        over = threading.Event()
        reloads = [0]

        def reload():
            while not over.wait(RELOAD):
                reloads[0] += 1
                write(upstreams + ".new", routes(behind.port, 1 + reloads[0] % 5))
                os.rename(upstreams + ".new", upstreams)
                proxy.process.send_signal(signal.SIGHUP)

        thread = threading.Thread(target=reload)
        thread.start()
        url = f"http://127.0.0.1:{port}"
        memory, failed = [], 0
        try:
            for minute in range(1, args.minutes + 1):
                began = time.time()
                script = write(os.path.join(d, "many.lua"), MANY % minute)
                spent, broken = [], 0
                for path, seconds, extra in (
                    ("/1k", 20, []),
                    ("/100k", 8, []),
                    ("/cached/1k", 8, []),
                    ("/cached/100k", 8, []),
                    ("/1k", 8, ["-H", "Connection: close"]),
                    ("/", 6, ["-s", script]),
                ):
                    before = cpu(proxy.process.pid)
                    done, errors, _ = wrk(url + path, seconds, extra)
                    broken += errors
                    spent.append((cpu(proxy.process.pid) - before) / max(done, 1) * 1e6)
                time.sleep(max(0.0, 60 - (time.time() - began)))
                memory.append(rss(proxy.process.pid))
                failed += broken
                print(f"minute {minute:2}: {memory[-1] / 2**20:6.1f} MiB, {spent[0]:5.1f} us for 1 KB proxied, {broken} errors", flush=True)
            with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        finally:
            over.set()
            thread.join()
            proxy.stop()
            behind.stop()
    loads = next(line for line in text.splitlines() if line.startswith("backstop_config_loads_total"))
    # That of the start is one too.
    done = float(loads.rsplit(" ", 1)[1]) - 1
    ratio = memory[-1] / memory[1]
    print(f"{done:.0f} of {reloads[0]} reloads; {failed} requests failed")
    print(f"memory at the end is {ratio:.3f} of that after two minutes, median {statistics.median(memory) / 2**20:.1f} MiB")
    return 1 if failed or ratio > MOST or done < reloads[0] - 1 else 0


if __name__ == "__main__":
    sys.exit(main())
