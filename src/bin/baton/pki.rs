//! `baton pki`: the cluster's certificates.

use std::io::IsTerminal;
use std::path::Path;

use serde_json::json;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;
use transport::join::book::{Book, Record, State};
use transport::join::{clock, server};
use transport::pki::{self, Authority, Issued};

use crate::arguments::{Pki, Serve, TokenCommand};
use crate::failure::Failure;
use crate::show::Rows;

/// Makes certificates, or tokens for them; returns what was made.
pub(crate) fn run(command: Pki, json: bool) -> Result<String, Failure> {
    match command {
        Pki::Init { dir } => {
            let made = pki::init(&dir).map_err(failed)?;
            Ok(format!(
                "{}Next: `baton pki issue {} NAME…` for each stack. Every stack gets ca.pem; ca.key stays here.\n",
                lines(&made),
                dir.display()
            ))
        }
        Pki::Issue { dir, names, days } => {
            let mut out = String::new();
            for name in &names {
                match pki::issue(&dir, name, days) {
                    Ok(made) => out.push_str(&lines(&made)),
                    // What was made before stays; say so.
                    Err(e) => return Err(Failure::Text(format!("{out}error: {e}"))),
                }
            }
            Ok(out)
        }
        Pki::Token(TokenCommand::Create { dir, name, minutes, again }) => {
            let authority = Authority::open(&dir).map_err(failed)?;
            let token =
                Book::of(&dir).order(&authority, &name, minutes * 60, again, now()).map_err(failed)?;
            let (dir, port) = (dir.display(), transport::join::PORT);
            Ok(format!(
                "{token}\n  for one certificate of {name}, within {minutes} minutes. Whoever has it can get that: hand it on in secret.\n\
                 Here, while hosts join: baton pki serve {dir} --listen ADDRESS:{port} --routing-stack NAME=ADDRESS:PORT\n\
                 On the host:            baton-agent join ADDRESS TOKEN\n",
            ))
        }
        Pki::Token(TokenCommand::List { dir }) => list(&dir, json),
        Pki::Token(TokenCommand::Revoke { dir, name }) => {
            Book::of(&dir).revoke(&name).map_err(failed)?;
            Ok(format!("the token for {name} is revoked\n"))
        }
        Pki::Serve(words) => serve(words),
    }
}

fn failed(cause: impl std::fmt::Display) -> Failure {
    Failure::Text(format!("error: {cause}"))
}

fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

fn list(dir: &Path, json: bool) -> Result<String, Failure> {
    let tokens = Book::of(dir).tokens(now()).map_err(failed)?;
    if json {
        let row = |(record, state): &(Record, State)| {
            let used = match state {
                State::Used(used) => used.as_ref(),
                State::Open | State::Expired => None,
            };
            let Record { stack, ordered_unix_s, until_unix_s, .. } = record;
            json!({ "stack": stack, "state": word(state), "ordered_unix_s": ordered_unix_s, "until_unix_s": until_unix_s, "used": used })
        };
        let rows: Vec<_> = tokens.iter().map(row).collect();
        return Ok(format!("{:#}\n", json!(rows)));
    }
    if tokens.is_empty() {
        return Ok("no token was ordered\n".to_owned());
    }
    let mut rows = Rows::new(&["STACK", "STATE", "ORDERED", "UNTIL", "USED", "BY"], &[]);
    for (record, state) in &tokens {
        let (at, by) = match state {
            State::Used(Some(used)) => (clock(used.unix_s), used.by.to_string()),
            _ => ("-".into(), "-".into()),
        };
        let Record { stack, ordered_unix_s, until_unix_s, .. } = record;
        rows.add([
            stack.to_string(),
            word(state).into(),
            clock(*ordered_unix_s),
            clock(*until_unix_s),
            at,
            by,
        ]);
    }
    Ok(rows.text())
}

fn word(state: &State) -> &'static str {
    match state {
        State::Open => "open",
        State::Expired => "expired",
        State::Used(_) => "used",
    }
}

/// Lets hosts join, with a log on standard error.
fn serve(Serve { dir, listen, routing_stacks, days }: Serve) -> Result<String, Failure> {
    let filter = EnvFilter::try_from_env("BATON_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(ansi).with_env_filter(filter).init();
    let authority = Authority::open(&dir).map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let fix = "--listen needs an address of this host, and a TCP port of it that is free";
        let listener = TcpListener::bind(listen).await;
        let listener = listener.map_err(|e| failed(format!("cannot listen at {listen}: {e}; {fix}")))?;
        let given = server::Given { days, routing_stacks };
        let joined = server::serve(authority, listener, given).await.map_err(failed)?;
        Ok(format!("{joined} joined; no token is open any more\n"))
    })
}

fn lines(made: &Issued) -> String {
    let Issued { certificate, key, from, until } = made;
    format!("{}  valid {from} to {until}\n{}  private key, mode 0600\n", certificate.display(), key.display())
}
