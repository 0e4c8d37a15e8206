//! What a browser may ask for. The page authenticates nobody who only looks; it is for those who reach its address. But a browser reaches
//! it too for pages of others that its user has open, so those get nothing:
//!
//! - a request must name this host by an address, `localhost` or a name of `admin.web_hosts`: a page whose name was bound to this
//!   address afterwards (DNS rebinding) names itself;
//! - an order must come from this page (`Origin`), and must have the token, in a header that a page of another origin can't
//!   add without being asked first (CORS), and it is always refused then;
//! - what is answered is in no frame, runs no script but its own, and is kept nowhere.

use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::config::Web;
use crate::runtime::admin::refuse;

/// The shortest token: 32 hexadecimal digits are 128 bits.
const SHORTEST: usize = 32;

const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
];

/// What is let through.
pub(super) struct Guard {
    hosts: Vec<String>,
    token: Option<PathBuf>,
}

impl Guard {
    pub(super) fn new(web: &Web) -> Self {
        Self { hosts: web.hosts.clone(), token: web.token.clone() }
    }

    /// Whether a request is for this host.
    fn is_ours(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else { return false };
        let name = authority.host().trim_start_matches('[').trim_end_matches(']');
        let is_named = |known: &String| known.eq_ignore_ascii_case(name);
        name.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(is_named)
    }

    /// Why a request is refused that is no page's: the token is read anew, so that another one needs no restart.
    fn checks_token(&self, headers: &HeaderMap) -> Result<(), (StatusCode, String)> {
        let Some(file) = &self.token else {
            let text =
                "this page only shows: orders need a token, and `admin.web_token` names no file with one";
            return Err((StatusCode::FORBIDDEN, text.to_owned()));
        };
        let token = read_token(file).map_err(|error| {
            tracing::warn!(%error, file = %file.display(), "the token for orders from the web page can't be used");
            (StatusCode::FORBIDDEN, format!("orders are refused: {}: {error}", file.display()))
        })?;
        let given = text_of(headers, &header::AUTHORIZATION).and_then(|text| text.strip_prefix("Bearer "));
        if given.is_some_and(|given| is_same(given.trim().as_bytes(), token.as_bytes())) {
            return Ok(());
        }
        Err((StatusCode::UNAUTHORIZED, format!("this needs the token that is in {}", file.display())))
    }
}

/// Every request: it must be for this host, and from its own page.
pub(super) async fn browser(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = text_of(headers, &header::HOST).unwrap_or_default();
    let origin = text_of(headers, &header::ORIGIN);
    let is_own = |origin: &str| origin.split_once("://").is_some_and(|(_, of)| of.eq_ignore_ascii_case(host));
    let mut response = if !guard.is_ours(host) {
        let text = format!("`{host}` is no name of this host that `admin.web_hosts` lists");
        refuse(StatusCode::MISDIRECTED_REQUEST, text)
    } else if !origin.is_none_or(is_own) {
        refuse(StatusCode::FORBIDDEN, "the request comes from a page of another origin")
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    HEADERS.iter().for_each(|(name, value)| drop(headers.insert(name, HeaderValue::from_static(value))));
    response
}

/// The admin API: with the token, and orders only in JSON, which no form of another page can send.
pub(super) async fn token(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let is_json = text_of(request.headers(), &header::CONTENT_TYPE) == Some("application/json");
    if request.method() != Method::GET && !is_json {
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "orders have content-type application/json");
    }
    match guard.checks_token(request.headers()) {
        Ok(()) => next.run(request).await,
        Err((status, error)) => refuse(status, error),
    }
}

fn text_of<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// The token, if it is good, and only its owner and group can read it.
fn read_token(file: &Path) -> io::Result<String> {
    let text = std::fs::read_to_string(file)?;
    let token = text.trim();
    if token.len() < SHORTEST || token.contains(char::is_whitespace) {
        let why = format!("it is not one line of at least {SHORTEST} characters");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    if std::fs::metadata(file)?.mode() & 0o007 != 0 {
        let why = "other users can read it: chmod 0640";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(token.to_owned())
}

/// Takes the same time wherever the two differ.
fn is_same(given: &[u8], token: &[u8]) -> bool {
    let difference = given.iter().zip(token).fold(0, |difference, (a, b)| difference | (a ^ b));
    given.len() == token.len() && std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(hosts: &[&str]) -> Guard {
        Guard { hosts: hosts.iter().map(|host| (*host).to_owned()).collect(), token: None }
    }

    #[test]
    fn addresses_and_known_names_are_this_host() {
        let guard = guard(&["rt1.example"]);
        for host in [
            "127.0.0.1:9480",
            "[::1]:9480",
            "[2001:db8::10]",
            "localhost:9480",
            "RT1.example:9480",
            "rt1.example",
        ] {
            assert!(guard.is_ours(host), "{host}");
        }
        for host in [
            "",
            "evil.example:9480",
            "rt1.example.evil:9480",
            "127.0.0.1.evil:9480",
            "a@b@c",
            "127.0.0.1.nip.io",
        ] {
            assert!(!guard.is_ours(host), "{host}");
        }
    }

    #[test]
    fn tokens_are_compared_whole() {
        assert!(is_same(b"abc", b"abc"));
        assert!(
            !is_same(b"ab", b"abc")
                && !is_same(b"abcd", b"abc")
                && !is_same(b"", b"abc")
                && !is_same(b"abd", b"abc")
        );
    }

    #[test]
    fn a_token_that_is_short_or_others_can_read_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("web.token");
        let read = |text: &str, mode: u32| {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            read_token(&file).map_err(|error| error.to_string())
        };
        let token = "0123456789abcdef0123456789abcdef";
        assert_eq!(read(&format!("{token}\n"), 0o640), Ok(token.to_owned()));
        assert!(read("short\n", 0o600).unwrap_err().contains("at least 32"));
        assert!(read(&format!("{token}\n{token}\n"), 0o600).unwrap_err().contains("one line"));
        assert!(read(token, 0o644).unwrap_err().contains("chmod"));
    }
}
