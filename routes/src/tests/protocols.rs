//! The readers of the other protocols, on real first messages.

use model::route::{ClientProtocol, Match, Slots};

use super::{compiled, exact, of, prefix, regex, route, taken};
use crate::{Framing, Pin, Read, Refusal, Routes};

/// A ClientHello of this server name and these application protocols, in records of so many bytes.
fn hello(server_name: Option<&str>, alpn: &[&str], record: usize) -> Vec<u8> {
    let sized = |bytes: Vec<u8>| [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat();
    let extension = |kind: u16, bytes: Vec<u8>| [kind.to_be_bytes().to_vec(), sized(bytes)].concat();
    let mut extensions = extension(43, vec![2, 3, 4]);
    if let Some(name) = server_name {
        let entry = [vec![0], sized(name.as_bytes().to_vec())].concat();
        extensions.extend(extension(0, sized(entry)));
    }
    if !alpn.is_empty() {
        let names = alpn.iter().flat_map(|name| [&[name.len() as u8], name.as_bytes()].concat()).collect();
        extensions.extend(extension(16, sized(names)));
    }
    let session = [vec![32], vec![7; 32]].concat();
    let body =
        [vec![3, 3], vec![9; 32], session, sized(vec![0x13, 1, 0x13, 2]), vec![1, 0], sized(extensions)]
            .concat();
    let message = [&[1, 0][..], &sized(body)].concat();
    message.chunks(record).flat_map(|piece| [vec![22, 3, 1], sized(piece.to_vec())].concat()).collect()
}

fn tls() -> Routes {
    compiled(
        ClientProtocol::Tls,
        &[
            route("acme", &[], &[Match { alpn: Some("acme-tls/1".into()), ..Match::default() }]),
            route("shop", &["shop.example"], &[]),
            route("h2", &["*.example"], &[Match { alpn: Some("h2".into()), ..Match::default() }]),
            route("wide", &["*.example"], &[]),
        ],
    )
}

#[test]
fn a_client_hello_goes_by_server_name_and_application_protocol() {
    for (name, alpn, wanted) in [
        (Some("shop.example"), &["h2", "http/1.1"][..], "shop"),
        (Some("SHOP.Example"), &[], "shop"),
        (Some("a.example"), &["http/1.1", "h2"], "h2"),
        (Some("a.example"), &["http/1.1"], "wide"),
        (Some("a.other"), &["h2"], "Refused(NotFound)"),
        (None, &["acme-tls/1"], "acme"),
        (None, &[], "Refused(NotFound)"),
    ] {
        assert_eq!(taken(&tls(), &hello(name, alpn, 9999)), wanted, "{name:?} {alpn:?}");
    }
}

#[test]
fn a_client_hello_may_lie_in_any_records_and_comes_in_any_pieces() {
    for record in [1, 2, 3, 7, 40, 9999] {
        let bytes = hello(Some("a.example"), &["x", "h2"], record);
        assert_eq!(taken(&tls(), &bytes), "h2", "records of {record}");
        for end in 0..bytes.len() {
            assert_eq!(tls().read(&bytes[..end]), Read::NeedsMore, "{end} bytes, records of {record}");
        }
    }
}

#[test]
fn what_is_no_client_hello_is_refused() {
    let good = hello(Some("a.example"), &["h2"], 9999);
    for (at, byte) in [(0, 23), (1, 2), (5, 2), (9, 9), (43, 33)] {
        let mut bad = good.clone();
        bad[at] ^= byte;
        let read = tls().read(&bad);
        assert!(read == Read::Refused(Refusal::BadRequest) || at == 9, "byte {at}: {read:?}");
    }
    for name in ["", "a b", "a\0.example"] {
        assert_eq!(tls().read(&hello(Some(name), &[], 99)), Read::Refused(Refusal::BadRequest), "{name:?}");
    }
    let only_hosts = compiled(ClientProtocol::Tls, &[route("shop", &["shop.example"], &[])]);
    assert_eq!(only_hosts.read(&hello(Some("b.example"), &[], 99)), Read::Refused(Refusal::Misdirected));
}

fn startup(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut body = 0x0003_0000_u32.to_be_bytes().to_vec();
    for (name, value) in pairs {
        body.extend([name.as_bytes(), &[0], value.as_bytes(), &[0]].concat());
    }
    body.push(0);
    [&(body.len() as u32 + 4).to_be_bytes()[..], &body].concat()
}

#[test]
fn postgresql_goes_by_database_and_user() {
    let users = |database, user| Match { user, ..of(database) };
    let routes = compiled(
        ClientProtocol::Postgresql,
        &[
            route("rest", &[], &[]),
            route("reports", &[], &[of(exact("reports"))]),
            route("batch", &[], &[users(exact("reports"), prefix("batch_"))]),
            route("admin", &[], &[users(None, exact("postgres"))]),
            route("tenants", &[], &[of(prefix("tenant_")), of(regex("t[0-9]+"))]),
        ],
    );
    for (pairs, wanted) in [
        (&[("user", "a"), ("database", "reports")][..], "reports"),
        (&[("user", "batch_1"), ("database", "reports")], "batch"),
        (&[("user", "reports"), ("application_name", "x")], "reports"),
        (&[("user", "postgres"), ("database", "x")], "admin"),
        (&[("database", "tenant_9"), ("user", "a")], "tenants"),
        (&[("database", "t99"), ("user", "a")], "tenants"),
        (&[("database", "t9x"), ("user", "a")], "rest"),
        (&[("database", "x")], "Refused(BadRequest)"),
        (&[("database", "x"), ("user", "a"), ("user", "b")], "Refused(BadRequest)"),
    ] {
        assert_eq!(taken(&routes, &startup(pairs)), wanted, "{pairs:?}");
    }
    let bytes = startup(&[("user", "a")]);
    assert!((0..bytes.len()).all(|end| routes.read(&bytes[..end]) == Read::NeedsMore));
    assert_eq!(taken(&routes, &[0, 0, 0, 8, 0, 2, 0, 0]), "Refused(Version)");
    assert_eq!(taken(&routes, &[0, 1, 0, 8]), "Refused(TooLarge)");
    assert_eq!(taken(&routes, b"GET / HTTP/1.1\r\n"), "Refused(TooLarge)");
}

#[test]
fn postgresql_that_can_t_be_read_is_for_the_route_without_conditions() {
    let ssl = [0, 0, 0, 8, 4, 210, 22, 47];
    let with =
        compiled(ClientProtocol::Postgresql, &[route("a", &[], &[of(exact("a"))]), route("rest", &[], &[])]);
    let Read::Whole(decision) = with.read(&ssl) else { panic!("{:?}", with.read(&ssl)) };
    assert_eq!((with.name(decision.route), decision.framing), ("rest", Framing::Pinned(Pin::Unreadable)));
    let without = compiled(ClientProtocol::Postgresql, &[route("a", &[], &[of(exact("a"))])]);
    assert_eq!(without.read(&ssl), Read::Refused(Refusal::Unreadable));
}

fn connect(level: u8, properties: &[u8], client: &str, user: Option<&str>) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat();
    let flags = if user.is_some() { 0x80 } else { 0 } | 0x04;
    let will = [properties, &text("will/topic"), &text("gone")].concat();
    let body = [
        text(if level == 3 { "MQIsdp" } else { "MQTT" }),
        vec![level, flags, 0, 60],
        properties.to_vec(),
        text(client),
        will,
        user.map(text).unwrap_or_default(),
    ]
    .concat();
    [&[0x10, body.len() as u8 | 0x80, (body.len() >> 7) as u8][..], &body].concat()
}

#[test]
fn mqtt_goes_by_client_identifier_and_user() {
    let routes = compiled(
        ClientProtocol::Mqtt,
        &[
            route("sensors", &[], &[of(prefix("sensor-"))]),
            route("ops", &[], &[Match { user: exact("ops"), ..Match::default() }]),
        ],
    );
    for (level, properties) in [(3, &[][..]), (4, &[]), (5, &[0]), (5, &[5, 0x11, 0, 0, 0, 9])] {
        assert_eq!(taken(&routes, &connect(level, properties, "sensor-1", None)), "sensors", "{level}");
        let bytes = connect(level, properties, "x", Some("ops"));
        assert_eq!(taken(&routes, &bytes), "ops", "{level}");
        assert!((0..bytes.len()).all(|end| routes.read(&bytes[..end]) == Read::NeedsMore), "{level}");
        let nobody = connect(level, properties, "", None);
        assert_eq!(taken(&routes, &nobody), "Refused(NotFound)", "{level}");
        let answer = routes.answer(Refusal::NotFound, &nobody);
        let wanted = if level == 5 { &b"\x20\x03\x00\x87\x00"[..] } else { b"\x20\x02\x00\x05" };
        assert_eq!(answer, wanted, "{level}");
    }
    assert_eq!(taken(&routes, &connect(6, &[0], "x", None)), "Refused(Version)");
    assert_eq!(taken(&routes, &[0x20, 0]), "Refused(BadRequest)");
    assert_eq!(taken(&routes, &[0x10, 0xff, 0xff, 0xff, 0xff]), "Refused(BadRequest)");
    assert_eq!(taken(&routes, &[0x10, 0xff, 0xff, 0x7f]), "Refused(TooLarge)");
}

#[test]
fn redis_goes_by_the_key_of_the_first_command_or_its_slot() {
    let slots = |first, last| Match { slots: Some(Slots { first, last }), ..Match::default() };
    let routes = compiled(
        ClientProtocol::Redis,
        &[
            route("low", &[], &[slots(0, 8191)]),
            route("high", &[], &[slots(8192, 16383)]),
            route("users", &[], &[of(prefix("user:"))]),
            route("rest", &[], &[]),
        ],
    );
    // Slots as `CLUSTER KEYSLOT` says them: foo 12182, bar 5061, {foo}x 12182, and "" of foo{}{bar} is not empty: 8363.
    for (bytes, wanted) in [
        ("*2\r\n$3\r\nGET\r\n$3\r\nfoo\r\n", "high"),
        ("*2\r\n$3\r\nget\r\n$3\r\nbar\r\n", "low"),
        ("*2\r\n$3\r\nGET\r\n$6\r\n{foo}x\r\n", "high"),
        ("*2\r\n$3\r\nGET\r\n$10\r\nfoo{}{bar}\r\n", "high"),
        ("*3\r\n$3\r\nSET\r\n$6\r\nuser:1\r\n$99999\r\nbeginning", "users"),
        ("*4\r\n$4\r\nEVAL\r\n$1\r\nx\r\n$1\r\n1\r\n$6\r\nuser:1\r\n", "users"),
        ("*4\r\n$5\r\nXREAD\r\n$7\r\nstreams\r\n$6\r\nuser:1\r\n$1\r\n0\r\n", "users"),
        ("*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n", "rest"),
        ("*1\r\n$4\r\nPING\r\n", "rest"),
        ("get user:1\r\n", "users"),
        ("PING\r\n", "rest"),
        ("*x\r\n", "Refused(BadRequest)"),
        ("*1\r\n+GET\r\n", "Refused(BadRequest)"),
        ("*2\r\n$3\r\nGET\r\n$4097\r\n", "Refused(TooLarge)"),
        ("*2\r\n$3\r\nGETx\r\n", "Refused(BadRequest)"),
        ("\u{1}\r\n", "Refused(BadRequest)"),
    ] {
        assert_eq!(taken(&routes, bytes.as_bytes()), wanted, "{bytes:?}");
    }
    let bytes = b"*2\r\n$3\r\nGET\r\n$3\r\nfoo\r\n";
    assert!((0..bytes.len()).all(|end| routes.read(&bytes[..end]) == Read::NeedsMore));
}

#[test]
fn raw_bytes_go_by_their_longest_beginning() {
    let begins = |bytes: &[u8]| Match { bytes: Some(bytes.to_vec()), ..Match::default() };
    let routes = compiled(
        ClientProtocol::Raw,
        &[route("short", &[], &[begins(b"AB")]), route("long", &[], &[begins(b"ABCD"), begins(&[0xff, 0])])],
    );
    for (bytes, wanted) in [
        (&b""[..], "NeedsMore"),
        (b"A", "NeedsMore"),
        (b"ABC", "NeedsMore"),
        (b"ABCDE", "long"),
        (b"ABX", "short"),
        (b"\xff", "NeedsMore"),
        (b"\xff\x00\x01", "long"),
        (b"X", "Refused(NotFound)"),
    ] {
        assert_eq!(taken(&routes, bytes), wanted, "{bytes:?}");
    }
}

#[test]
fn answers_have_the_lengths_that_they_say() {
    for refusal in Refusal::ALL {
        let error = refusal.answer(ClientProtocol::Postgresql);
        assert_eq!(
            u32::from_be_bytes(error[1..5].try_into().unwrap()) as usize,
            error.len() - 1,
            "{refusal:?}"
        );
        let alert = refusal.answer(ClientProtocol::Tls);
        assert_eq!((alert[4] as usize, alert[5]), (alert.len() - 5, 2), "{refusal:?}");
        let status = String::from_utf8(refusal.answer(ClientProtocol::Http).to_vec()).unwrap();
        assert!(status.starts_with("HTTP/1.1 ") && status.ends_with("\r\n\r\n"), "{status}");
        assert!(refusal.answer(ClientProtocol::Redis).ends_with(b"\r\n"), "{refusal:?}");
        for connack in [refusal.answer(ClientProtocol::Mqtt), refusal.mqtt_5()] {
            assert!(connack.is_empty() || usize::from(connack[1]) == connack.len() - 2, "{refusal:?}");
        }
    }
}
