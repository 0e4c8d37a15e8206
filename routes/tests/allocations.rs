//! Reading and matching allocate nothing: the allocator is not called once, whatever the request is.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use baton_routes::spell::{Spoken, spell};
use baton_routes::{ClientProtocol, Read, Routes};
use model::route::{Match, Named, Pattern, Route, RouteSet, Slots};

/// Counts the calls of the thread that asks for it.
struct Counting;

thread_local! {
    static CALLS: Cell<Option<u64>> = const { Cell::new(None) };
}

fn count() {
    // A thread that ends allocates too; nobody counts that.
    let _ = CALLS.try_with(|calls| calls.set(calls.get().map(|n| n + 1)));
}

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What is read, and how often the allocator was called for it.
fn read(routes: &Routes, bytes: &[u8]) -> (Read, u64) {
    CALLS.set(Some(0));
    let read = routes.read(bytes);
    (read, CALLS.take().unwrap_or_default())
}

/// A route with everything that the protocol has, and a thousand hosts if it has some.
fn routes(protocol: ClientProtocol) -> Routes {
    let regex = Pattern::RegularExpression("/?[a-z]+/?[0-9]*".into());
    let named = |name: &str| vec![Named { name: name.into(), value: regex.clone() }];
    let mut one = Match::default();
    match protocol {
        ClientProtocol::Http => {
            one.subject = Some(regex.clone());
            (one.headers, one.query_params) = (named("x-a"), named("q"));
        }
        ClientProtocol::Tls => one.alpn = Some("h2".into()),
        ClientProtocol::Postgresql | ClientProtocol::Mqtt => {
            (one.subject, one.user) = (Some(regex.clone()), Some(regex.clone()));
        }
        ClientProtocol::Redis => one.slots = Some(Slots { first: 0, last: Slots::MAX }),
        ClientProtocol::Raw => one.bytes = Some(b"AB".to_vec()),
    }
    let has_hosts = matches!(protocol, ClientProtocol::Http | ClientProtocol::Tls);
    let names = (0..1000).filter(|_| has_hosts).map(|n| format!("h{n}.example"));
    let hostnames = names.chain(has_hosts.then(|| "*.example".to_owned())).collect();
    let route = Route { name: "a".into(), hostnames, matches: vec![one], ..Route::default() };
    Routes::compile(&RouteSet { protocol, routes: vec![route] }).expect("good routes")
}

#[test]
fn reading_and_matching_never_call_the_allocator() {
    let alpn = ["h2".to_owned()];
    for (protocol, request) in [
        (ClientProtocol::Http, "POST http://h77.example/abc/7?q=abc"),
        (ClientProtocol::Http, "GET http://x.y.example/abc/7?q=%61bc"),
        (ClientProtocol::Tls, "tls://h77.example"),
        (ClientProtocol::Postgresql, "postgresql://user@host/base"),
        (ClientProtocol::Mqtt, "mqtt://user@host/client"),
        (ClientProtocol::Redis, "GET abc"),
        (ClientProtocol::Raw, "ABCD"),
    ] {
        let routes = routes(protocol);
        let spoken = Spoken { request, headers: &["X-A: ab".to_owned()], alpn: &alpn };
        let bytes = spell(protocol, &spoken).expect("a request");
        let (whole, calls) = read(&routes, &bytes);
        assert!(matches!(whole, Read::Whole(_)) && calls == 0, "{request}: {whole:?}, {calls} calls");
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x20;
            assert_eq!(
                (read(&routes, &bytes[..at]).1, read(&routes, &changed).1),
                (0, 0),
                "{request} at {at}"
            );
        }
    }
}
