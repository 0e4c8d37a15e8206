//! HAProxy and nginx as proxies that route by path, each set up to do so with as little work as it can.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use lab::Lab;

use super::Failure;

/// Where they listen.
pub(super) const HAPROXY: u16 = 8081;
pub(super) const NGINX: u16 = 8082;

/// One thread; connections to the targets are kept and reused; the kernel moves long bodies.
fn haproxy([a, b]: [SocketAddr; 2]) -> String {
    format!(
        "global\n    nbthread 1\n    maxconn 4096\n    tune.bufsize 65536\n\
         defaults\n    mode http\n    option splice-auto\n    http-reuse always\n    timeout connect 5s\n    timeout client 30s\n    timeout server 30s\n\
         frontend web\n    bind :{HAPROXY}\n    use_backend b if {{ path_beg /b/ }}\n    default_backend a\n\
         backend a\n    server a {a} pool-max-conn 64\n\
         backend b\n    server b {b} pool-max-conn 64\n"
    )
}

/// The same; answers are passed on as they come, never through a file.
fn nginx([a, b]: [SocketAddr; 2], at: &str) -> String {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("    {kind}_temp_path {at}/tmp;\n"))
        .concat();
    format!(
        "daemon off;\nmaster_process off;\nuser root;\npid {at}/pid;\nerror_log {at}/error.log;\n\
         events {{ worker_connections 4096; multi_accept on; }}\n\
         http {{\n    access_log off;\n{temporary}\
         \x20   proxy_http_version 1.1;\n    proxy_set_header Connection \"\";\n    proxy_max_temp_file_size 0;\n    proxy_buffers 16 64k;\n    proxy_buffer_size 64k;\n    tcp_nodelay on;\n\
         \x20   upstream a {{ server {a}; keepalive 64; }}\n    upstream b {{ server {b}; keepalive 64; }}\n\
         \x20   server {{\n        listen {NGINX};\n        location /a/ {{ proxy_pass http://a; }}\n        location /b/ {{ proxy_pass http://b; }}\n    }}\n}}\n"
    )
}

/// Starts both on a host of the lab, in front of these servers for `/a/` and `/b/`, as programs `haproxy` and `nginx`.
pub(super) fn start(lab: &Lab, host: &str, servers: [SocketAddr; 2]) -> Result<(), Failure> {
    let at = lab.files().join("proxies");
    fs::create_dir_all(&at)?;
    let (of_haproxy, of_nginx) = (at.join("haproxy.cfg"), at.join("nginx.conf"));
    fs::write(&of_haproxy, haproxy(servers))?;
    fs::write(&of_nginx, nginx(servers, &at.to_string_lossy()))?;
    lab.start_on(host, "haproxy", &["haproxy", "-db", "-f", &of_haproxy.to_string_lossy()])?;
    lab.start_on(host, "nginx", &["nginx", "-c", &of_nginx.to_string_lossy()])?;
    for port in [HAPROXY, NGINX] {
        lab.wait_for(&format!("a proxy on port {port}"), Duration::from_secs(10), || {
            let listens =
                lab.host(host).sh(&format!("ss -Hltn sport = :{port}")).map_err(|e| e.to_string())?;
            if listens.is_empty() { Err("nobody listens".to_owned()) } else { Ok(()) }
        })?;
    }
    Ok(())
}
