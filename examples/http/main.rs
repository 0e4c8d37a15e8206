//! HTTP, routed by content, over connections that move.
//!
//! ```text
//! http router [--read] PORT DVIPA… -- RULE…   routes each connection by its first request
//! http target JOB PORT DVIPA… [-- RULE…]      serves what is transferred to it
//! http content BYTES                          prints what /download/BYTES answers, to compare with
//! ```
//!
//! A rule is `JOB=host:NAME`, `JOB=path:PREFIX`, `JOB=cookie:NAME=VALUE`, or only `JOB`, which holds always; `JOB@STACK`
//! is the job on one stack only, and `listener` the job of servers that know nothing of baton. The first that holds names the
//! job; the connection moves, with the request unread, to an application of that name. With `--read` the router does not
//! only look at the request but reads it, and gives it back. If nobody takes the connection, the router answers 503.
//!
//! With the same rules a target looks at each further request: one for another job stays unread, and the connection goes back to the
//! router, which decides anew. Without rules it answers all.
//!
//! A target answers `GET /download/BYTES` with so many bytes; with `?via=JOB@STACK,…` each of these targets sends an equal
//! share of them over the same connection. `PUT /upload`, with `?via=` too, is answered with the length and the FNV-1a sum of
//! what has come. Other paths are answered with who answers. The job `reject` rejects everything; to
//! the job `taken` connections are given without asking it. With `--hold-accepts` before the job no new connections go to
//! a server that listens on that port beside it.

mod body;
mod content;
mod request;
mod router;
mod rule;
mod target;

use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use std::{env, process, thread};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A client that has an answer acknowledges it within this time: at once, or after a delay of 40 ms and the way.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(5);

/// Does `work` for each of these DVIPAs, in a thread each, until the first one fails.
fn each(
    dvipas: &[&str],
    work: impl Fn(IpAddr) -> Result<(), Failure> + Send + Sync + 'static,
) -> Result<(), Failure> {
    let (work, (outcome, outcomes)) = (Arc::new(work), mpsc::channel());
    for dvipa in dvipas {
        let (dvipa, work, outcome) = (dvipa.parse()?, Arc::clone(&work), outcome.clone());
        thread::spawn(move || outcome.send(work(dvipa)));
    }
    drop(outcome);
    outcomes.iter().collect()
}

fn run(words: &[&str]) -> Result<(), Failure> {
    match words {
        ["router", words @ ..] => router::run(words),
        ["target", words @ ..] => target::run(words),
        ["content", bytes] => {
            let mut out = BufWriter::new(io::stdout().lock());
            content::write(&mut out, 0, bytes.parse()?)?;
            Ok(out.flush()?)
        }
        _ => Err("usage: http router|target|content …".into()),
    }
}

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    if let Err(e) = run(&words.iter().map(String::as_str).collect::<Vec<_>>()) {
        eprintln!("http: {e}");
        process::exit(1);
    }
}
