//! How the proxies are configured: each as its own documentation has it for backends that fail now and then, with the same
//! timeouts, the same number of tries and the same choice of the least busy backend for all.

/// Backstop's upstreams.
pub(crate) fn backstop(backends: &[u16]) -> String {
    let backends: Vec<String> = backends.iter().map(|p| format!("127.0.0.1:{p}")).collect();
    format!(
        "\
upstreams:
  pool:
    balance: least_conn
    backends: [{}]
    health_check: {{ path: /health, interval: 250ms, timeout: 250ms, fall: 2, rise: 2 }}
    eject: {{ consecutive: 3, latency: 4x, window: 1s, min_tries: 10, time: 1s, max_time: 4s, slow_start: 1s }}
routes:
  - upstream: pool
    retry: {{ tries: 5, wait: {{ initial: 5ms, max: 100ms }} }}
    hedge: {{ after: p95 }}
    timeouts: {{ connect: 250ms, first_byte: 500ms, total: 3s }}
",
        backends.join(", ")
    )
}

/// `nginx.conf`, for a process that works in `dir`.
pub(crate) fn nginx(dir: &str, port: u16, backends: &[u16]) -> String {
    let servers: String = backends
        .iter()
        .map(|p| format!("        server 127.0.0.1:{p} max_fails=3 fail_timeout=1s;\n"))
        .collect();
    // With a zone, its workers know the same of the servers.
    // With max_fails=0 it would lose no request when all are back, but go on asking the slow one: a p99 of 515 ms.
    format!(
        "\
daemon off;
pid {dir}/pid;
error_log {dir}/error.log;
worker_processes 2;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    upstream pool {{
        zone pool 64k;
        least_conn;
{servers}        keepalive 64;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://pool;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_connect_timeout 250ms;
            proxy_read_timeout 500ms;
            proxy_send_timeout 500ms;
            proxy_next_upstream error timeout http_500 http_502 http_503 http_504;
            proxy_next_upstream_tries 5;
            proxy_next_upstream_timeout 3s;
        }}
    }}
}}
"
    )
}

/// `haproxy.cfg`.
pub(crate) fn haproxy(port: u16, backends: &[u16]) -> String {
    let servers: String = backends
        .iter()
        .enumerate()
        .map(|(i, p)| format!("    server s{i} 127.0.0.1:{p}\n"))
        .collect();
    format!(
        "\
global
    maxconn 4096
    nbthread 2
defaults
    mode http
    timeout connect 250ms
    timeout server 500ms
    timeout check 250ms
    timeout client 10s
    timeout http-request 10s
    timeout queue 3s
    retries 4
    option redispatch 1
    retry-on all-retryable-errors
frontend day
    bind 127.0.0.1:{port}
    default_backend pool
backend pool
    balance leastconn
    option httpchk GET /health
    http-check expect status 200
    default-server check inter 250ms fall 2 rise 2 observe layer7 error-limit 3 on-error mark-down
{servers}"
    )
}
