//! A client's first bytes, made from what a person would call the request: for tests, and to explain routes.

use model::route::ClientProtocol;

/// What a client says first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spoken<'a> {
    /// HTTP: `[METHOD] URL`. TLS: `tls://SERVER-NAME`. PostgreSQL: `postgresql://USER@HOST/DATABASE`. MQTT:
    /// `mqtt://USER@HOST/CLIENT-IDENTIFIER`. Redis: the command. Raw: the text.
    pub request: &'a str,
    /// Lines of an HTTP request, such as `x-version: 2`.
    pub headers: &'a [String],
    /// What a TLS client offers.
    pub alpn: &'a [String],
}

/// The bytes. `None`: the text is no request of this protocol.
pub fn spell(protocol: ClientProtocol, spoken: &Spoken<'_>) -> Option<Vec<u8>> {
    let text = spoken.request.trim();
    match protocol {
        ClientProtocol::Http => http(text, spoken.headers),
        ClientProtocol::Tls => {
            let name =
                ["tls://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
            let name = name.split(['/', ':']).next().filter(|name| !name.is_empty());
            client_hello(name, spoken.alpn)
        }
        ClientProtocol::Postgresql => {
            let (user, database) = user_and_path(text, "postgresql://")?;
            Some(startup(user?, database))
        }
        ClientProtocol::Mqtt => {
            let (user, client) = user_and_path(text, "mqtt://")?;
            connect(user, client)
        }
        ClientProtocol::Redis => Some(format!("{text}\r\n").into_bytes()),
        ClientProtocol::Raw => Some(spoken.request.as_bytes().to_vec()),
    }
}

fn http(text: &str, headers: &[String]) -> Option<Vec<u8>> {
    let (method, url) = text.split_once(' ').unwrap_or(("GET", text));
    let (host, target) = match url.split_once("://") {
        Some((_, rest)) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (host, target) = rest.split_at_checked(end)?;
            (Some(host), if target.starts_with('/') { target.to_owned() } else { format!("/{target}") })
        }
        None => (None, url.to_owned()),
    };
    let has_host = headers.iter().any(|line| line.to_ascii_lowercase().starts_with("host:"));
    let host = host.filter(|_| !has_host).or((!has_host).then_some(""));
    let host = host.map(|host| format!("Host: {host}\r\n")).unwrap_or_default();
    let lines: String = headers.iter().map(|line| format!("{}\r\n", line.trim())).collect();
    Some(format!("{method} {target} HTTP/1.1\r\n{host}{lines}\r\n").into_bytes())
}

/// `scheme://[USER@]HOST/PATH`, or `[USER@]HOST/PATH`.
fn user_and_path<'t>(text: &'t str, scheme: &str) -> Option<(Option<&'t str>, &'t str)> {
    let rest = text.strip_prefix(scheme).unwrap_or(text);
    let (authority, path) = rest.split_once('/')?;
    Some((authority.split_once('@').map(|(user, _)| user), path))
}

/// Bytes with their number before them in 16 bits.
fn sized(bytes: &[u8]) -> Option<Vec<u8>> {
    let len = u16::try_from(bytes.len()).ok()?;
    Some([&len.to_be_bytes()[..], bytes].concat())
}

fn client_hello(server_name: Option<&str>, alpn: &[String]) -> Option<Vec<u8>> {
    let extension = |kind: u16, bytes: &[u8]| Some([&kind.to_be_bytes()[..], &sized(bytes)?].concat());
    let mut extensions = extension(43, &[2, 3, 4])?; // supported_versions: TLS 1.3
    if let Some(name) = server_name {
        let entry = [&[0][..], &sized(name.as_bytes())?].concat();
        extensions.extend(extension(0, &sized(&entry)?)?);
    }
    if !alpn.is_empty() {
        let mut names = Vec::new();
        for name in alpn {
            names.push(u8::try_from(name.len()).ok()?);
            names.extend(name.as_bytes());
        }
        extensions.extend(extension(16, &sized(&names)?)?);
    }
    // Version, random, no session, TLS_AES_128_GCM_SHA256, no compression.
    let fixed = [&[3, 3][..], &[0; 32], &[0], &[0, 2, 0x13, 1], &[1, 0]].concat();
    let body = [fixed, sized(&extensions)?].concat();
    let message = [&[1, 0][..], &sized(&body)?].concat();
    Some([&[22, 3, 1][..], &sized(&message)?].concat())
}

fn startup(user: &str, database: &str) -> Vec<u8> {
    let body = format!("user\0{user}\0database\0{database}\0\0");
    let len = (body.len() as u32).saturating_add(8);
    [&len.to_be_bytes()[..], &0x0003_0000_u32.to_be_bytes(), body.as_bytes()].concat()
}

/// A CONNECT packet of MQTT 3.1.1.
fn connect(user: Option<&str>, client: &str) -> Option<Vec<u8>> {
    let flags = if user.is_some() { 0x82 } else { 0x02 };
    let mut body = [&sized(b"MQTT")?[..], &[4, flags, 0, 60], &sized(client.as_bytes())?].concat();
    if let Some(user) = user {
        body.extend(sized(user.as_bytes())?);
    }
    let mut packet = vec![0x10];
    let mut len = body.len();
    while len > 0x7f {
        packet.push((len & 0x7f) as u8 | 0x80);
        len >>= 7;
    }
    packet.push(len as u8);
    packet.extend(body);
    Some(packet)
}
