//! What fuzzing found, replayed: each file in `fuzz/regressions/routes/` passes through the function that the fuzz target calls, and
//! so does each request of every protocol, cut short at each place and with any byte changed.

// The fuzz package's file is used here as it is.
#![allow(unreachable_pub)]
extern crate baton_routes as routes;

use std::fs;
use std::path::Path;

use baton_routes::ClientProtocol;
use baton_routes::spell::{Spoken, spell};

#[path = "../../fuzz/src/routes.rs"]
mod fuzzed;

#[test]
fn what_fuzzing_the_routes_found_stays_mended() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/regressions/routes");
    // A target that found nothing has no directory.
    let Ok(entries) = fs::read_dir(&directory) else { return };
    let mut files: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
    files.sort();
    for file in files {
        println!("{}", file.display());
        fuzzed::run(&fs::read(&file).unwrap());
    }
}

#[test]
fn requests_cut_short_anywhere_or_with_any_byte_changed_are_read_or_refused() {
    let alpn = ["h2".to_owned()];
    for (choice, protocol, request) in [
        (0, ClientProtocol::Http, "POST http://a.example/p/x?q=abc"),
        (1, ClientProtocol::Tls, "tls://b.example"),
        (2, ClientProtocol::Postgresql, "postgresql://user@host/base"),
        (3, ClientProtocol::Mqtt, "mqtt://user@host/client"),
        (4, ClientProtocol::Redis, "GET abc"),
        (5, ClientProtocol::Raw, "ABCD"),
    ] {
        let spoken = Spoken { request, headers: &["X-A: ab".to_owned()], alpn: &alpn };
        let bytes = spell(protocol, &spoken).expect("a request");
        let whole = [&[choice][..], &bytes].concat();
        for at in 1..whole.len() {
            fuzzed::run(&whole[..at]);
            for change in [1, 0x20, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] = changed[at].wrapping_add(change);
                fuzzed::run(&changed);
            }
        }
        fuzzed::run(&whole);
    }
}
