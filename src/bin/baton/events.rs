//! `baton events`: what happened lately, and what happens.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use control::runtime::api::{EventRow, EventsAnswer, EventsQuery};
use hyper::Method;
use time::OffsetDateTime;
use tokio::time::sleep;

use crate::client;
use crate::failure::Failure;
use crate::orders::{parse, with_query};

/// How often batond is asked for more.
const LOOKS: Duration = Duration::from_millis(250);

/// Prints the events that batond has, and with `follow` those that come, until it is ended: a restart of batond does not end it.
pub(crate) fn run(socket: &Path, json: bool, follow: bool) -> Result<String, Failure> {
    client::run(socket, async {
        let (mut query, mut was_there) = (EventsQuery::default(), false);
        loop {
            match ask(socket, query).await {
                Ok(answer) => {
                    was_there = true;
                    if print(&answer, json).is_err() {
                        // Nobody reads any more (`baton events | head`).
                        return Ok(String::new());
                    }
                    let has_more = query.after != answer.next && !answer.events.is_empty();
                    query.after = answer.next;
                    if has_more {
                        continue;
                    }
                }
                Err(Failure::NoSocket(_) | Failure::Socket(..) | Failure::Talk(..))
                    if follow && was_there => {}
                Err(failure) => return Err(failure),
            }
            if !follow {
                return Ok(String::new());
            }
            sleep(LOOKS).await;
        }
    })
}

async fn ask(socket: &Path, query: EventsQuery) -> Result<EventsAnswer, Failure> {
    parse(socket, &client::ask(socket, Method::GET, &with_query("/v1/events", &query)?, Vec::new()).await?)
}

fn print(answer: &EventsAnswer, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if answer.missed > 0 && !json {
        writeln!(out, "({} events before these are not kept any more)", answer.missed)?;
    }
    for row in &answer.events {
        let line = if json { serde_json::to_string(row)? } else { line(row) };
        writeln!(out, "{line}")?;
    }
    out.flush()
}

/// `2026-11-30 18:00:01.250  target-went  t1  takes no new connections of …`, in UTC.
pub(crate) fn line(row: &EventRow) -> String {
    format!("{}  {:<19}  {}  {}", time_of(row.unix_ms), row.event.word(), row.about, row.text)
}

/// `2026-11-30 18:00:01.250`, in UTC.
pub(crate) fn time_of(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or_default();
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let ((hour, minute, second), ms) = (at.to_hms(), unix_ms % 1000);
    format!("{} {hour:02}:{minute:02}:{second:02}.{ms:03}", at.date())
}
