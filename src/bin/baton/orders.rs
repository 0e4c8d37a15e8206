//! Which request a command is, and how its answer is shown.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use control::machine::{DptView, ServiceView, VipaView};
use control::runtime::api::DptAnswer;
use control::runtime::api::{
    ActiveOrder, CrtAnswer, CrtQuery, Done, DvipaOrder, ScopeQuery, StatsAnswer, WeightsOrder,
};
use hyper::Method;
use model::dpt::Method as Select;
use model::{Dvipa, StackName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::arguments::{Ask, VipaOrder, WeightArguments};
use crate::client;
use crate::failure::Failure;
use crate::show;

/// Asks batond and returns what is to be printed.
pub(crate) fn run(socket: &Path, json: bool, ask: &Ask) -> Result<String, Failure> {
    let (method, path, body) = request(ask)?;
    let answer = client::run(socket, client::ask(socket, method, &path, body))?;
    if json {
        return pretty(socket, &answer);
    }
    Ok(match ask {
        Ask::Status => show::status(parse(socket, &answer)?),
        Ask::Vipa { order: Some(VipaOrder::Move { dvipa, node }) } => {
            parse::<Done>(socket, &answer)?;
            format!(
                "{dvipa} moves to {node} as soon as that knows its connections; `baton vipa` shows the owner\n"
            )
        }
        Ask::Vipa { order: Some(VipaOrder::Activate { address, stack }) } => {
            parse::<Done>(socket, &answer)?;
            format!("{stack} is told to have {address}; `baton vipa` shows where it is active\n")
        }
        Ask::Vipa { order: Some(VipaOrder::Deactivate { address }) } => {
            parse::<Done>(socket, &answer)?;
            format!("{address} is not active by order any more; `baton vipa` shows where it is active\n")
        }
        Ask::Vipa { order: None } => show::vipa(&parse::<VipaView>(socket, &answer)?),
        Ask::Dpt => show::dpt(&parse::<DptAnswer>(socket, &answer)?),
        Ask::Crt(_) => show::crt(&parse::<CrtAnswer>(socket, &answer)?),
        Ask::Stats { all } => show::stats(&parse::<StatsAnswer>(socket, &answer)?, *all),
        Ask::Resume(scope) => {
            done(parse(socket, &answer)?, &format!("{} takes new connections again", scope.stack))
        }
        Ask::Weights(weights) if weights.clear => done(parse(socket, &answer)?, "weights taken back"),
        Ask::Weights(weights) => {
            let set = done(parse(socket, &answer)?, &format!("weights set for {} s", weights.seconds));
            let dpt = client::run(socket, client::ask(socket, Method::GET, "/v1/dpt", Vec::new()))?;
            set + unused(weights, &parse(socket, &dpt)?)
        }
        Ask::Reload => done(parse(socket, &answer)?, "configuration reloaded"),
    })
}

/// The HTTP request of a command.
fn request(ask: &Ask) -> Result<(Method, String, Vec<u8>), Failure> {
    let get = |path: &str| Ok((Method::GET, path.to_owned(), Vec::new()));
    match ask {
        Ask::Status => get("/v1/status"),
        Ask::Vipa { order: None } => get("/v1/vipa"),
        Ask::Vipa { order: Some(VipaOrder::Move { dvipa, node }) } => {
            let order = DvipaOrder { dvipa: Dvipa::new(*dvipa), to: node.clone() };
            let body = serde_json::to_vec(&order).map_err(|e| Failure::Text(e.to_string()))?;
            Ok((Method::POST, "/v1/vipa/move".to_owned(), body))
        }
        Ask::Vipa { order: Some(VipaOrder::Activate { address, stack }) } => {
            activate(*address, Some(stack.clone()))
        }
        Ask::Vipa { order: Some(VipaOrder::Deactivate { address }) } => activate(*address, None),
        Ask::Dpt => get("/v1/dpt"),
        Ask::Stats { .. } => get("/v1/stats"),
        Ask::Crt(a) => get(&with_query(
            "/v1/crt",
            &CrtQuery {
                client: a.client,
                dvipa: a.dvipa,
                port: a.port,
                stack: a.stack.clone(),
                state: a.state,
                limit: Some(a.limit),
            },
        )?),
        Ask::Resume(scope) => {
            let query = ScopeQuery { dvipa: scope.dvipa, port: scope.port, protocol: scope.protocol };
            Ok((Method::POST, with_query(&format!("/v1/resume/{}", scope.stack), &query)?, Vec::new()))
        }
        Ask::Reload => Ok((Method::POST, "/v1/reload".to_owned(), Vec::new())),
        Ask::Weights(a) => {
            let weights: BTreeMap<_, _> = a.weights.iter().cloned().collect();
            if weights.len() < a.weights.len() {
                return Err(Failure::Text("error: a stack is named twice".into()));
            }
            let order = WeightsOrder {
                dvipa: a.dvipa,
                port: a.port,
                protocol: a.protocol,
                weights,
                ttl_s: a.seconds,
            };
            let body = serde_json::to_vec(&order).map_err(|e| Failure::Text(e.to_string()))?;
            Ok((Method::POST, "/v1/weights".to_owned(), body))
        }
    }
}

fn activate(address: IpAddr, stack: Option<StackName>) -> Result<(Method, String, Vec<u8>), Failure> {
    let order = ActiveOrder { dvipa: Dvipa::new(address), stack };
    let body = serde_json::to_vec(&order).map_err(|e| Failure::Text(e.to_string()))?;
    Ok((Method::POST, "/v1/vipa/activate".to_owned(), body))
}

/// Says so if these weights change nothing.
fn unused(weights: &WeightArguments, dpt: &DptView) -> &'static str {
    let is_meant = |s: &&ServiceView| {
        (s.dvipa.address(), s.port, s.protocol) == (weights.dvipa, weights.port, weights.protocol)
    };
    let method = dpt.services.iter().find(is_meant).map(|service| service.method);
    let all_select = weights.weights.iter().all(|(_, weight)| *weight > 0);
    if method == Some(Select::RoundRobin) && all_select {
        "  They change nothing: the service's method is round-robin, which uses no weight but 0. \
         Set method = \"weighted-round-robin\" in batond.toml.\n"
    } else {
        ""
    }
}

/// The path with the fields of a flat struct behind it.
pub(crate) fn with_query(path: &str, query: &impl Serialize) -> Result<String, Failure> {
    let fields = match serde_json::to_value(query) {
        Ok(Value::Object(fields)) => fields,
        Ok(other) => return Err(Failure::Text(format!("{other} is no query"))),
        Err(e) => return Err(Failure::Text(e.to_string())),
    };
    let pairs = fields.iter().map(|(key, value)| {
        let word = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{key}={}", escaped(&word))
    });
    let pairs: Vec<String> = pairs.collect();
    Ok(if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) })
}

/// Percent-encoded (RFC 3986 2.1) but for what our words consist of.
fn escaped(word: &str) -> String {
    let byte = |b: u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(b).to_string(),
        _ => format!("%{b:02X}"),
    };
    word.bytes().map(byte).collect()
}

/// What is answered, for `--json`.
pub(crate) fn pretty(socket: &Path, answer: &[u8]) -> Result<String, Failure> {
    let value: Value = parse(socket, answer)?;
    serde_json::to_string_pretty(&value).map(|t| t + "\n").map_err(|e| Failure::Text(e.to_string()))
}

/// What is answered.
pub(crate) fn parse<T: DeserializeOwned>(socket: &Path, answer: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(answer).map_err(|e| {
        Failure::Talk(
            socket.to_owned(),
            format!("the answer is not understood ({e}); are baton and batond of one version?"),
        )
    })
}

/// What an order that was followed has done.
pub(crate) fn done(Done { generation, dpt_changed }: Done, what: &str) -> String {
    let change = if dpt_changed { "changed" } else { "unchanged" };
    format!("{what}; DPT {change}, generation {generation}\n")
}
