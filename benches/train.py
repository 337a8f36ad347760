#!/usr/bin/env python3
"""Has a Backstop that counts what it does serve the requests of benches/peers.py: see benches/pgo.

usage: benches/train.py PROGRAM [--seconds 2]

Each of its cases, and what those leave out: small answers from files, a route that goes through Pingora's phases, a backend that
fails one time in ten, so that tries are repeated. Starts its own processes, ends them by their ids, listens on loopback only.
"""
import argparse
import os
import resource
import shutil
import tempfile

from cache_hits import Proxy, free_port, place
from peers import CASES, ECHO, SCRIPTS, Ports, backstop, backstop_with_files, certificate, h2load, origin, write, written, wrk


def with_all_else(program, good, d):
    port = free_port()
    bad = free_port()
    failing = write(
        os.path.join(d, "failing.conf"),
        f"user root; daemon off; worker_processes 1; pid {d}/f.pid; error_log {d}/f.err;\nevents {{ worker_connections 4096; }}\n"
        f"http {{ access_log off; keepalive_requests 100000000; server {{ listen 127.0.0.1:{bad}; location / {{ return 503; }} }} }}\n",
    )
    yield Proxy("failing", ["/usr/sbin/nginx", "-c", failing, "-p", d], bad)
    conf = write(
        os.path.join(d, "else.yaml"),
        f"listeners: [{{ address: 127.0.0.1:{port} }}]\nworkers: 2\n"
        f"cache: {{ memory: 1MiB, path: {d}/else, max_size: 1GiB, min_free: 1MiB }}\naccess_log: {{ path: {d}/else.log }}\n---\n"
        f"upstreams:\n  pool: {{ backends: [127.0.0.1:{good}] }}\n"
        f"  flaky: {{ backends: [{{ address: 127.0.0.1:{good}, weight: 9 }}, 127.0.0.1:{bad}], eject: off }}\n"
        "routes:\n  - { match: { path: /flaky }, strip_prefix: /flaky, upstream: flaky, retry: { tries: 3, wait: 1ms } }\n"
        "  - { match: { path: /phases }, strip_prefix: /phases, upstream: pool, compress: true, hedge: { after: 30s } }\n"
        "  - { match: { path: /cached }, strip_prefix: /cached, upstream: pool, cache: { ttl: 1h } }\n",
    )
    yield Proxy("backstop else", [program, "-c", conf], port)


def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--seconds", type=int, default=2)
    args = parser.parse_args()
    program = os.path.abspath(args.program)
    root = tempfile.mkdtemp(prefix="train.")
    os.chmod(root, 0o755)
    started = []

    small = 'n = 0\nfunction request() n = (n + 7919) % 2000; return wrk.format("GET", "/cached/1k?" .. n) end\n'
    try:
        certificate(root)
        scripts = written(root, SCRIPTS | {"SMALL": small})
        behind = origin(place(root, "origin"))
        started.append(behind)
        ports = Ports()
        ports.echo, ports.files = free_port(), free_port()
        started.append(Proxy("echo", [*ECHO, "serve", str(ports.echo)], ports.echo))
        d = place(root, "backstop")
        started.append(backstop(program, behind.port, d, ports))
        started.append(backstop_with_files(program, behind.port, d, ports.files))
        for process in with_all_else(program, behind.port, d):
            started.append(process)
        ports.other = started[-1].port
        more = [
            ("retries", wrk, "other", "/flaky/1k", []),
            ("through the phases", wrk, "other", "/phases/1k", []),
            ("1 KB from files", wrk, "other", "/cached/1k", ["-s", "SMALL"]),
            ("HTTP/2, 1 KB cached", h2load, "tls", "/cached/1k", []),
        ]
        for case, load, kind, path, extra in CASES + more:
            url = f"{'https' if kind == 'tls' else 'http'}://127.0.0.1:{getattr(ports, kind)}{path}"
            done, errors, _ = load(url, args.seconds, [scripts.get(word, word) for word in extra])
            print(f"{case}: {done} requests, {errors} errors", flush=True)
            if errors > done / 100:
                raise SystemExit(f"{case}: what fails teaches nothing")
    finally:
        for process in reversed(started):
            # What was counted is written at the end.
            process.stop()
        shutil.rmtree(root, ignore_errors=True)
    broken = [p.name for p in started if p.name.startswith("backstop") and p.process.returncode != 0]
    if broken:
        raise SystemExit(f"{', '.join(broken)}: ended as it should not")


if __name__ == "__main__":
    main()
