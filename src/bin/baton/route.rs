//! `baton route explain`: which route takes a request, asked of a file or of the running batond.

use std::path::Path;

use control::config::{Config, ConfigError};
use control::explain::{self, Explanation, Question};
use control::runtime::api::Problem;
use hyper::Method;

use crate::arguments::ExplainArguments;
use crate::failure::Failure;
use crate::{client, orders};

/// Asks, and returns what is to be printed.
pub(crate) fn explain(socket: &Path, json: bool, asked: &ExplainArguments) -> Result<String, Failure> {
    let text = |e: &dyn std::fmt::Display| Failure::Text(format!("error: {e}\n"));
    let bytes = match &asked.bytes {
        Some(file) => {
            std::fs::read(file).map_err(|e| text(&format!("cannot read {}: {e}", file.display())))?
        }
        None => Vec::new(),
    };
    let question = Question {
        dvipa: asked.dvipa,
        port: asked.port,
        bytes,
        request: asked.request.clone(),
        headers: asked.headers.clone(),
        alpn: asked.alpn.clone(),
    };
    let explanation = match &asked.file {
        Some(file) => {
            let config = Config::load_alone(file).map_err(|e| match e {
                ConfigError::Mistakes(mistakes) => Failure::Text(mistakes.report(false)),
                e @ ConfigError::Unreadable { .. } => text(&e),
            })?;
            let refused = |error| Failure::Refused(Problem { error, mistakes: Vec::new() });
            explain::explain(&config.vipadynamic, &question).map_err(refused)?
        }
        None => {
            let body = serde_json::to_vec(&question).map_err(|e| text(&e))?;
            let asks = client::ask(socket, Method::POST, "/v1/route/explain", body);
            orders::parse(socket, &client::run(socket, asks)?)?
        }
    };
    let shown = match json {
        true => serde_json::to_string_pretty(&explanation).map_err(|e| text(&e))? + "\n",
        false => lines(&explanation),
    };
    if explanation.route.is_some() { Ok(shown) } else { Err(Failure::Shown(shown)) }
}

/// One line for each thing to know.
fn lines(told: &Explanation) -> String {
    let ports: Vec<String> = told.ports.iter().map(u16::to_string).collect();
    let mut rows =
        vec![("asked", format!("{} port {}, {}", told.dvipa, ports.join(", "), told.client_protocol))];
    match &told.route {
        None => {
            rows.push(("route", "none".to_owned()));
            rows.push(("because", told.because.clone()));
            rows.extend(told.answer.clone().map(|answer| ("answer", answer)));
        }
        Some(route) => {
            rows.push(("route", route.clone()));
            rows.extend(told.hostname.clone().map(|name| ("host name", name)));
            rows.push(("match", told.matching.clone().unwrap_or_else(|| "every request".to_owned())));
            rows.push(("because", told.because.clone()));
            let backends = told.backends.iter().map(|(stack, weight)| format!("{stack} (weight {weight})"));
            let backends: Vec<String> = backends.collect();
            let to = if backends.is_empty() {
                "the targets of the distribution".into()
            } else {
                backends.join(", ")
            };
            rows.push(("goes to", to));
        }
    }
    rows.into_iter().map(|(name, value)| format!("{name:<10} {value}\n")).collect()
}
