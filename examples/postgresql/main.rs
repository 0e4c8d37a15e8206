//! PostgreSQL, where each connection moves to the unmodified server that holds its database.
//!
//! ```text
//! postgresql router PORT DVIPA… -- DATABASE=TARGET…
//! ```
//!
//! A target is `JOB@STACK`; a server that knows nothing of baton is `listener@STACK`. The router reads the start-up message,
//! gives it back and hands the connection over, so that the server reads it as if the client had just connected.

mod router;
mod startup;

use std::{env, process};

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn run(words: &[&str]) -> Result<(), Failure> {
    match words {
        ["router", port, words @ ..] => router::run(port.parse()?, words),
        _ => Err("usage: postgresql router PORT DVIPA… -- DATABASE=TARGET…".into()),
    }
}

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    if let Err(e) = run(&words.iter().map(String::as_str).collect::<Vec<_>>()) {
        eprintln!("postgresql: {e}");
        process::exit(1);
    }
}
