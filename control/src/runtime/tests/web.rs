//! The web page as a browser, or what is no browser, asks for it.

use std::os::unix::fs::PermissionsExt;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;

use super::*;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Status, head and body of an answer; `more` are lines of the request's head.
async fn web(node: &Node, request: &str, more: &[&str]) -> (u16, String, String) {
    let mut stream = TcpStream::connect(node.files.listen).await.unwrap();
    let head = format!("{request} HTTP/1.1\r\nconnection: close\r\n{}\r\n\r\n", more.join("\r\n"));
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
    (head[9..12].parse().unwrap(), head.to_lowercase(), body.to_owned())
}

fn put_token(node: &Node) {
    std::fs::write(node.files.web_token(), TOKEN).unwrap();
    std::fs::set_permissions(node.files.web_token(), std::fs::Permissions::from_mode(0o640)).unwrap();
}

#[tokio::test]
async fn browsers_get_the_page_by_this_hosts_names_alone() {
    let node = Node::start(WEB).await;
    let host = format!("host: {}", node.files.listen);
    for path in ["/", "/page.js", "/page.css"] {
        let (status, head, body) = web(&node, &format!("GET {path}"), &[&host]).await;
        assert!(status == 200 && body.len() > 1000, "{path}: {status}");
        assert!(head.contains("content-security-policy: default-src 'none'; script-src 'self'"), "{head}");
        assert!(
            head.contains("frame-ancestors 'none'") && head.contains("cache-control: no-store"),
            "{head}"
        );
    }
    assert_eq!(web(&node, "GET /", &["host: rt1.example:9480"]).await.0, 200);
    for path in ["/", "/live", "/v1/status"] {
        let (status, _, body) = web(&node, &format!("GET {path}"), &["host: evil.example"]).await;
        assert!(status == 421 && body.contains("admin.web_hosts"), "{path}: {status} {body}");
    }
    let (status, ..) = web(&node, "GET /live", &[&host, "origin: http://evil.example"]).await;
    assert_eq!(status, 403);
    node.stop().await;
}

#[tokio::test]
async fn orders_need_the_token_and_come_from_this_page() {
    let node = Node::start(WEB).await;
    let _target = Target::greet(&node, "t1", [198, 18, 0, 21]).await;
    let host = format!("host: {}", node.files.listen);
    let origin = format!("origin: http://{}", node.files.listen);
    let bearer = format!("authorization: Bearer {TOKEN}");
    let json = "content-type: application/json";
    let order = "POST /v1/drain/t1";
    let (status, _, body) = web(&node, order, &[&host, &origin, json, &bearer]).await;
    assert!(status == 403 && body.contains("web.token"), "there is no such file yet: {status} {body}");
    put_token(&node);
    let wrong = "authorization: Bearer 0123456789abcdef0123456789abcdeF";
    let refused: [(&[&str], u16); 5] = [
        (&[&host, &origin, json], 401),
        (&[&host, &origin, json, wrong], 401),
        (&[&host, &origin, &bearer], 415),
        (&[&host, "origin: http://evil.example", json, &bearer], 403),
        (&["host: evil.example", "origin: http://evil.example", json, &bearer], 421),
    ];
    for (head, wanted) in refused {
        assert_eq!(web(&node, order, head).await.0, wanted, "{head:?}");
    }
    for path in ["/v1/status", "/v1/crt", "/v1/drain", "/metrics", "/nothing"] {
        assert_eq!(web(&node, &format!("GET {path}"), &[&host]).await.0, 401, "{path}");
    }
    let is_draining = |status: &Value| status["stacks"][0]["draining"] == true;
    assert!(!is_draining(&node.get("/v1/status").await));
    assert_eq!(web(&node, order, &[&host, &origin, json, &bearer]).await.0, 200);
    assert!(is_draining(&node.get("/v1/status").await));
    node.stop().await;
}

/// The next message of the feed.
async fn message(lines: &mut tokio::io::Lines<BufReader<TcpStream>>) -> Value {
    loop {
        let line = lines.next_line().await.unwrap().expect("the feed goes on");
        if let Some(data) = line.strip_prefix("data: ") {
            return serde_json::from_str(data).unwrap();
        }
    }
}

#[tokio::test]
async fn who_looks_gets_everything_and_then_what_changes() {
    let node = Node::start(WEB).await;
    let _target = Target::greet(&node, "t1", [198, 18, 0, 21]).await;
    let mut stream = TcpStream::connect(node.files.listen).await.unwrap();
    let head = format!("GET /live HTTP/1.1\r\nhost: {}\r\n\r\n", node.files.listen);
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    assert!(message(&mut lines).await["all"].is_object());
    let first = message(&mut lines).await;
    assert_eq!(first["changed"]["node"][""]["stack"], "rt1", "{first:#}");
    assert_eq!(first["changed"]["targets"]["198.18.9.1:80/tcp t1"]["weight"], 1, "{first:#}");
    assert!(first["changed"]["stacks"]["t1"]["since_s"].is_u64(), "{first:#}");
    node.http("POST /v1/drain/t1", "").await;
    loop {
        let next = message(&mut lines).await;
        assert!(next["changed"]["meanings"].is_null(), "what does not change is not told again: {next:#}");
        if next["changed"]["stacks"]["t1"]["draining"] == true {
            break;
        }
    }
    node.stop().await;
}
