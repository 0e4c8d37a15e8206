//! What fuzzing found, replayed: each file in `fuzz/regressions/TARGET/` passes through the function that the fuzz target
//! calls, and so does every frame of the replay cases, cut short at each place of its headers.

// The fuzz package calls this crate `forwarder`, and its files are used here as they are.
#![allow(unreachable_pub)]
extern crate baton_forwarder as forwarder;

use std::fs;
use std::path::Path;

use pcaps::{Case, frames};

#[path = "../../fuzz/src/codec.rs"]
mod codec;
#[path = "../../fuzz/src/control_socket.rs"]
mod control_socket;
#[path = "../../fuzz/src/crt_file.rs"]
mod crt_file;
#[path = "../../fuzz/src/headers.rs"]
mod headers;
#[path = "../../fuzz/src/packet_path.rs"]
mod packet_path;
#[path = "../../fuzz/src/tunnel.rs"]
mod tunnel;

/// Runs each file of a target. A panic is preceded by the file's name.
fn replay(target: &str, run: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/regressions").join(target);
    // A target that found nothing has no directory.
    let Ok(entries) = fs::read_dir(&directory) else { return };
    let mut files: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
    files.sort();
    for file in files {
        println!("{}", file.display());
        run(&fs::read(&file).unwrap());
    }
}

#[test]
fn what_fuzzing_the_packet_path_found_stays_mended() {
    replay("packet_path", packet_path::run);
}

#[test]
fn what_fuzzing_the_headers_found_stays_mended() {
    replay("headers", headers::run);
}

#[test]
fn what_fuzzing_the_tunnels_found_stays_mended() {
    replay("tunnel", tunnel::run);
}

#[test]
fn what_fuzzing_the_messages_found_stays_mended() {
    replay("codec", codec::run);
}

#[test]
fn what_fuzzing_the_control_sockets_found_stays_mended() {
    replay("control_socket", control_socket::run);
}

#[test]
fn a_frame_cut_short_anywhere_or_with_any_octet_changed_is_taken_and_counted() {
    const HEADERS: usize = 120;
    let cases = Case::read_all().unwrap();
    for case in &cases {
        let frames = frames::read(&case.directory.join("in.pcap")).unwrap();
        let Some(frame) = frames.last().map(|f| &f.bytes) else { continue };
        let mut records = Vec::new();
        for at in 0..frame.len().min(HEADERS) {
            let mut changed = frame.clone();
            changed[at] = changed[at].wrapping_add(1 + (at % 255) as u8);
            records.extend(packet_path::record(&frame[..at]));
            records.extend(packet_path::record(&changed));
            headers::run(&frame[at..]);
        }
        println!("{}", case.name);
        packet_path::run(&records);
    }
}

#[test]
fn what_fuzzing_the_files_of_tables_found_stays_mended() {
    replay("crt_file", crt_file::run);
    crt_file::run(&[]);
    let noise: Vec<u8> = (0..2600_u32).map(|n| (n.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect();
    crt_file::run(&noise);
}
