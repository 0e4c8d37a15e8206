//! `baton why`: what would become of a client's packet, and why.

use std::path::Path;

use control::runtime::why::{Outcome, WhyAnswer, WhyQuestion};
use hyper::Method;
use model::Protocol;

use crate::arguments::WhyArguments;
use crate::failure::Failure;
use crate::{client, orders};

/// Asks, and returns what is to be printed.
pub(crate) fn run(socket: &Path, json: bool, asked: &WhyArguments) -> Result<String, Failure> {
    let question = WhyQuestion {
        client: asked.client,
        dvipa: asked.dvipa,
        protocol: if asked.udp { Protocol::Udp } else { Protocol::Tcp },
        segment: asked.segment.map(Into::into),
        bytes: asked.length,
        ttl: asked.ttl,
        request: asked.request.clone(),
        headers: asked.headers.clone(),
        alpn: asked.alpn.clone(),
    };
    let body = serde_json::to_vec(&question).map_err(|e| Failure::Text(e.to_string()))?;
    let answer = client::run(socket, client::ask(socket, Method::POST, "/v1/why", body))?;
    let told: WhyAnswer = orders::parse(socket, &answer)?;
    let shown = if json { orders::pretty(socket, &answer)? } else { lines(&told) };
    match told.outcome {
        Outcome::Forwarded | Outcome::Answered | Outcome::Asked => Ok(shown),
        Outcome::Refused | Outcome::Dropped | Outcome::Waits | Outcome::NotOurs => Err(Failure::Shown(shown)),
    }
}

/// The verdict, and a line for each thing that leads to it.
pub(crate) fn lines(told: &WhyAnswer) -> String {
    let word = match told.outcome {
        Outcome::Forwarded => "forwarded",
        Outcome::Answered => "answered",
        Outcome::Refused => "refused",
        Outcome::Dropped => "dropped",
        Outcome::Asked => "asked for",
        Outcome::Waits => "waits",
        Outcome::NotOurs => "not ours",
    };
    let mut verdict = told.verdict.clone();
    if let Some(first) = verdict.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let steps = told.steps.iter().map(|step| format!("{:<10}  {}\n", step.about, step.text));
    format!("{word:<10}  {verdict}\n\n{}", steps.collect::<String>())
}
