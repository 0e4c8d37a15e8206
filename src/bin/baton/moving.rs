//! `baton move` and `baton drain --move`: orders whose outcome takes a while. batond follows them by itself; this asks it how far
//! it is until the end, and says so.

use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use control::machine::{EvacuationState, EvacuationView, ReasonCount, Role, VipaView};
use control::runtime::api::{
    DrainAnswer, DrainQuery, MoveAnswer, MoveOrder, MoveOrdered, MoveState, ScopeQuery,
};
use hyper::Method;
use model::Dvipa;
use tokio::time::sleep;

use crate::arguments::{DrainArguments, Follow, MoveArguments, MoveTarget, Node};
use crate::client;
use crate::failure::Failure;
use crate::orders::{done, parse, pretty, with_query};

/// How often batond is asked about a single connection: twice as long each time, between these.
const ASKED: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(200));
/// How often it is asked how far a drain is.
const LOOKS: Duration = Duration::from_millis(250);

/// What is said while an order is followed, on standard error: one line that changes on a terminal, nothing elsewhere.
struct Progress {
    is_terminal: bool,
}

impl Progress {
    fn begin(json: bool) -> Self {
        Self { is_terminal: !json && std::io::stderr().is_terminal() }
    }

    fn say(&self, line: &str) {
        if self.is_terminal {
            eprint!("\r\x1b[K{line}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.say("");
    }
}

/// Follows an order and returns what became of it.
///
/// # Errors
/// [`Failure::Shown`] if it was not done wholly.
pub(crate) fn run(socket: &Path, json: bool, follow: &Follow) -> Result<String, Failure> {
    match follow {
        Follow::Node(order) => node(socket, json, order),
        Follow::Move(arguments) => one(socket, json, arguments),
        Follow::Drain(arguments) if arguments.moving.moves || arguments.moving.stop_moving => {
            all(socket, json, arguments)
        }
        Follow::Drain(DrainArguments { scope, .. }) => {
            let query = ScopeQuery { dvipa: scope.dvipa, port: scope.port, protocol: scope.protocol };
            let path = with_query(&format!("/v1/drain/{}", scope.stack), &query)?;
            let answer = client::run(socket, client::ask(socket, Method::POST, &path, Vec::new()))?;
            if json {
                return pretty(socket, &answer);
            }
            Ok(done(parse(socket, &answer)?, &format!("{} drains", scope.stack)))
        }
    }
}

/// Has others own what this node owns, or takes that back.
fn node(socket: &Path, json: bool, order: &Node) -> Result<String, Failure> {
    let wait = match order {
        Node::Stay => {
            let answer = client::run(socket, client::ask(socket, Method::POST, "/v1/stay", Vec::new()))?;
            let text = "this node stays, and takes back what it is the primary of";
            return if json { pretty(socket, &answer) } else { Ok(done(parse(socket, &answer)?, text)) };
        }
        Node::Leave { wait } => Duration::from_secs(*wait),
    };
    client::run(socket, async {
        client::ask(socket, Method::POST, "/v1/leave", Vec::new()).await?;
        let (begun, progress) = (Instant::now(), Progress::begin(json));
        loop {
            let answer = client::ask(socket, Method::GET, "/v1/vipa", Vec::new()).await?;
            let view: VipaView = parse(socket, &answer)?;
            let owned: Vec<String> =
                view.dvipas.iter().filter(|d| d.role == Role::Owner).map(|d| d.dvipa.to_string()).collect();
            match (owned.is_empty(), begun.elapsed() >= wait, json) {
                (true, _, true) => return pretty(socket, &answer),
                (true, _, false) => return Ok("this node owns nothing any more\n".to_owned()),
                (false, true, true) => return Err(Failure::Shown(pretty(socket, &answer)?)),
                (false, true, false) => {
                    let text = format!(
                        "no other routing node has taken {}; `baton vipa` shows who could\n",
                        owned.join(", ")
                    );
                    return Err(Failure::Shown(text));
                }
                (false, false, _) => progress.say(&format!("{} to be taken by others", owned.len())),
            }
            sleep(LOOKS).await;
        }
    })
}

/// Moves a connection.
fn one(socket: &Path, json: bool, arguments: &MoveArguments) -> Result<String, Failure> {
    client::run(socket, async {
        let MoveArguments { client, dvipa, target, quiet, wait } = arguments;
        let MoveTarget { stack, job } = target.clone();
        let order = MoveOrder { client: *client, dvipa: *dvipa, target: stack, job, quiet_ms: *quiet };
        let body = serde_json::to_vec(&order).map_err(|e| Failure::Text(e.to_string()))?;
        let answer = client::ask(socket, Method::POST, "/v1/move", body).await?;
        let MoveOrdered { order, source, .. } = parse(socket, &answer)?;
        let (path, progress) = (format!("/v1/move/{}", order.0), Progress::begin(json));
        let (until, mut pause) = (Instant::now() + Duration::from_secs(*wait), ASKED.0);
        loop {
            let answer = client::ask(socket, Method::GET, &path, Vec::new()).await?;
            let moved: MoveAnswer = parse(socket, &answer)?;
            let is_over = !matches!(moved.state, MoveState::Told | MoveState::Moving);
            if is_over || Instant::now() >= until {
                drop(progress);
                let text = if json { pretty(socket, &answer)? } else { outcome(&moved, *wait) };
                return if moved.state == MoveState::Moved { Ok(text) } else { Err(Failure::Shown(text)) };
            }
            let word = if moved.state == MoveState::Told { "is told to transfer it" } else { "transfers it" };
            progress.say(&format!("{source} {word}…"));
            sleep(pause).await;
            pause = (pause * 2).min(ASKED.1);
        }
    })
}

fn outcome(moved: &MoveAnswer, wait: u64) -> String {
    let MoveAnswer { client, dvipa, source, target, .. } = moved;
    let which = format!("{client} → {dvipa}");
    let said = moved.said.as_ref().map(|said| format!(" ({said})")).unwrap_or_default();
    let sentence = moved.sentence.as_deref().unwrap_or_default();
    match moved.state {
        MoveState::Moved => {
            let way = match moved.way.as_deref() {
                Some("inject") => "put into the server by its kernel (inject)",
                _ => "given to the application (restore)",
            };
            let pause =
                moved.pause_us.map(|us| format!("; its packets waited for {}", time(us))).unwrap_or_default();
            format!("{which} has moved from {source} to {target}: {way}{pause}\n")
        }
        MoveState::Stayed => format!("{which} stays at {source}: {sentence}{said}\n{}", next(moved)),
        MoveState::Lost => format!("{which} is lost: {sentence}\n"),
        MoveState::Told | MoveState::Moving => format!(
            "{which}: no outcome within {wait} s\n  `baton crt --client {client}` shows which stack has it; a longer --wait waits \
             for it.\n"
        ),
    }
}

/// What to do about a connection that stays.
fn next(moved: &MoveAnswer) -> String {
    let MoveAnswer { source, target, .. } = moved;
    match moved.reason.as_deref() {
        Some("not_idle") => {
            format!("  `baton drain {source} --move` moves connections as they become idle.\n")
        }
        Some("no_way" | "not_a_target") => format!("  `baton dpt` shows what {target} takes.\n"),
        Some("unanswered" | "timed_out") => {
            format!("  `baton status` shows whether {source} and {target} are up.\n")
        }
        _ => String::new(),
    }
}

fn time(us: u64) -> String {
    if us < 10_000 { format!("{us} µs") } else { format!("{} ms", us / 1000) }
}

/// Drains a stack and moves its connections, until it has none, or the time is over.
fn all(socket: &Path, json: bool, arguments: &DrainArguments) -> Result<String, Failure> {
    let DrainArguments { scope, moving } = arguments;
    let path = format!("/v1/drain/{}", scope.stack);
    let mut query = DrainQuery {
        dvipa: scope.dvipa,
        port: scope.port,
        protocol: scope.protocol,
        moves: Some(!moving.stop_moving),
        for_s: moving.seconds,
        quiet_ms: moving.quiet,
        at_once: moving.at_once,
    };
    client::run(socket, async {
        client::ask(socket, Method::POST, &with_query(&path, &query)?, Vec::new()).await?;
        let progress = Progress::begin(json);
        let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
        loop {
            let answer = client::ask(socket, Method::GET, "/v1/drain", Vec::new()).await?;
            let view = parse::<DrainAnswer>(socket, &answer)?.evacuations.into_iter().find(|view| {
                let of = (view.dvipa.map(Dvipa::address), view.port);
                view.stack == scope.stack && of == (scope.dvipa, scope.port)
            });
            let Some(view) = view else {
                return Err(Failure::Text(format!(
                    "error: the drain of {} was ended meanwhile",
                    scope.stack
                )));
            };
            if view.state != EvacuationState::Moving || only_immovable_ones_remain(&view) {
                drop(progress);
                let text = if json { to_json(&view)? } else { summary(&view) };
                return if view.state == EvacuationState::Empty {
                    Ok(text)
                } else {
                    Err(Failure::Shown(text))
                };
            }
            progress.say(&line(&view));
            tokio::select! {
                () = sleep(LOOKS) => {}
                _ = &mut interrupted => {
                    query = DrainQuery { moves: Some(false), for_s: None, quiet_ms: None, at_once: None, ..query };
                    client::ask(socket, Method::POST, &with_query(&path, &query)?, Vec::new()).await?;
                    interrupted.set(tokio::signal::ctrl_c());
                }
            }
        }
    })
}

/// There is nothing to wait for, but that they end by themselves.
fn only_immovable_ones_remain(view: &EvacuationView) -> bool {
    view.under_way == 0 && view.waiting.is_empty() && !view.refused.is_empty()
}

fn to_json(view: &EvacuationView) -> Result<String, Failure> {
    serde_json::to_string_pretty(view).map(|text| text + "\n").map_err(|e| Failure::Text(e.to_string()))
}

/// `t1: 412 connections, 380 moved, 2 busy`
fn line(view: &EvacuationView) -> String {
    let EvacuationView { stack, connections, moved, under_way, .. } = view;
    let mut parts = vec![match connections {
        Some(connections) => format!("{connections} connections"),
        None => "looking for its connections".to_owned(),
    }];
    parts.push(format!("{moved} moved"));
    if *under_way > 0 {
        parts.push(format!("{under_way} moving"));
    }
    let busy: u64 = view.waiting.iter().filter(|w| w.reason.is_some()).map(|w| w.connections).sum();
    if busy > 0 {
        parts.push(format!("{busy} busy"));
    }
    let refused: u64 = view.refused.iter().map(|r| r.connections).sum();
    if refused > 0 {
        parts.push(format!("{refused} can't move"));
    }
    format!("{stack}: {}", parts.join(", "))
}

fn summary(view: &EvacuationView) -> String {
    let EvacuationView { stack, moved, elapsed_ms, .. } = view;
    // The table does not list those that are moving.
    let left = view.connections.unwrap_or_default().max(view.under_way);
    let seconds = format!("{}.{} s", elapsed_ms / 1000, elapsed_ms / 100 % 10);
    let end = match view.state {
        EvacuationState::Empty => format!("{stack} is empty: {moved} connections moved in {seconds}\n"),
        EvacuationState::TimeOver => {
            format!("{left} connections remain at {stack} after {seconds}; {moved} moved\n")
        }
        EvacuationState::Moving => {
            format!("{left} connections remain at {stack} that can't move; {moved} moved in {seconds}\n")
        }
        EvacuationState::Stopped => {
            format!("stopped after {seconds}: {left} connections remain at {stack}; {moved} moved\n")
        }
    };
    let why = |count: &ReasonCount| {
        let sentence = count.sentence.as_ref()?;
        Some(format!("  {} of them: {sentence}\n", count.connections))
    };
    let lost = if view.lost > 0 {
        format!("  {} are lost with the stacks that took them over\n", view.lost)
    } else {
        String::new()
    };
    let drains = format!("  {stack} still drains: `baton resume {stack}` ends that\n");
    let whys: String = view.refused.iter().chain(&view.waiting).filter_map(why).collect();
    end + &whys + &lost + &drains
}
