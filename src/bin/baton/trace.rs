//! `baton trace`: what packets meet while they pass.
//!
//! [`capture`] writes the same into a file.

pub(crate) mod capture;

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use control::runtime::looking::{MetKind, TraceAnswer, TraceOrder, TraceRow};
use control::runtime::trace::TraceBegun;
use hyper::Method;
use tokio::time::sleep;

use crate::arguments::TraceArguments;
use crate::failure::Failure;
use crate::orders::parse;
use crate::{client, events};

/// How often batond is asked for more.
const LOOKS: Duration = Duration::from_millis(100);

/// Prints what packets meet, until it is over.
pub(crate) fn run(socket: &Path, json: bool, arguments: &TraceArguments) -> Result<String, Failure> {
    let missed = follow(socket, arguments, false, &mut |rows| {
        let mut out = io::stdout().lock();
        for row in rows {
            if json {
                writeln!(out, "{}", serde_json::to_string(row)?)?;
            } else {
                out.write_all(lines(row).as_bytes())?;
            }
        }
        out.flush()
    })?;
    say_missed(missed);
    Ok(String::new())
}

/// Says how many packets were not kept, where it is in nobody's way.
fn say_missed(missed: u64) {
    if missed > 0 {
        eprintln!(
            "{missed} more packets passed that were not looked at: they came faster than --rate, or than they were read"
        );
    }
}

/// Has `each` take rows until there are so many, or the time is over, or Ctrl-C is pressed, or nobody reads what `each` writes any more.
/// Returns how many packets were missed.
fn follow(
    socket: &Path,
    arguments: &TraceArguments,
    bytes: bool,
    each: &mut dyn FnMut(&[TraceRow]) -> io::Result<()>,
) -> Result<u64, Failure> {
    let order = TraceOrder {
        client: arguments.client,
        service: arguments.service,
        for_s: Some(arguments.seconds),
        a_second: Some(arguments.rate),
        bytes,
    };
    let mut left = arguments.count.unwrap_or(u64::MAX);
    client::run(socket, async {
        let body = serde_json::to_vec(&order).map_err(|e| Failure::Text(e.to_string()))?;
        let begun = client::ask(socket, Method::POST, "/v1/trace", body).await?;
        let TraceBegun { trace } = parse(socket, &begun)?;
        eprintln!("looking at packets for {} s; Ctrl-C ends it", arguments.seconds);
        let (path, end) = (format!("/v1/trace/{trace}"), format!("/v1/trace/{trace}/end"));
        let interrupted = tokio::signal::ctrl_c();
        tokio::pin!(interrupted);
        let (mut missed, mut is_over) = (0, false);
        while !is_over && left > 0 {
            tokio::select! {
                _ = &mut interrupted => break,
                () = sleep(LOOKS) => {}
            }
            let answer: TraceAnswer =
                parse(socket, &client::ask(socket, Method::GET, &path, Vec::new()).await?)?;
            (missed, is_over) = (answer.missed, answer.over);
            is_over |= take(&answer.packets, &mut left, each)?;
        }
        // What was seen in the meantime belongs to it, too.
        let last = client::ask(socket, Method::POST, &end, Vec::new()).await?;
        let last: TraceAnswer = parse(socket, &last)?;
        missed = missed.max(last.missed);
        take(&last.packets, &mut left, each)?;
        Ok(missed)
    })
}

/// Has `each` take as many as are left. `true`: nobody reads any more (`baton trace | head`).
fn take(
    rows: &[TraceRow],
    left: &mut u64,
    each: &mut dyn FnMut(&[TraceRow]) -> io::Result<()>,
) -> Result<bool, Failure> {
    let most = usize::try_from(*left).unwrap_or(usize::MAX).min(rows.len());
    *left -= most as u64;
    match each(rows.get(..most).unwrap_or(rows)) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
        Err(error) => Err(Failure::Output(error)),
        Ok(()) => Ok(false),
    }
}

/// A packet, what it met, and where it went.
pub(crate) fn lines(row: &TraceRow) -> String {
    let came = match &row.came {
        Some(came) => format!("{:<5}  {}", came.from, came.packet),
        None => "later  a packet that has waited, or a copy of it".to_owned(),
    };
    let mut text = format!("{}  worker {}  {came}\n", events::time_of(row.unix_ms), row.worker);
    for met in &row.met {
        text += &format!("    {}: {}\n", met.name, met.sentence);
    }
    if row.came.is_some() && row.met.iter().all(|met| met.kind == MetKind::Note) {
        text += "    it waits\n";
    }
    for given in row.given.iter().filter(|given| given.to != "dropped") {
        text += &format!("    to {}: {}\n", given.to, given.packet);
    }
    if let Some(entry) = &row.entry {
        text += &format!("    CRT: {} at {}\n", entry.state.name(), entry.stack);
    }
    text
}
