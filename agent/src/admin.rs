//! What operators ask an agent: HTTP over a Unix socket.
//!
//! `GET /v1/status` answers in JSON ([`Status`]), `GET /metrics` in the text format of OpenMetrics. The socket is the
//! owner's only (mode 0600).

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use model::environment::Subject as _;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;

use crate::environment::Subject;
use crate::runtime::{Questions, Status};

/// Why the admin socket can't be had.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Another process answers there.
    #[error("another agent uses the admin socket {}: stop it, or set another `socket` in [admin]", .0.display())]
    InUse(PathBuf),
    /// The system does not let us.
    #[error("cannot use the admin socket {}: {cause}", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
}

/// Opens the socket, in place of one that a former run has left.
///
/// # Errors
/// [`AdminError`] if somebody answers there, or the system does not let us.
pub async fn open(path: &Path) -> Result<UnixListener, AdminError> {
    if UnixStream::connect(path).await.is_ok() {
        return Err(AdminError::InUse(path.to_path_buf()));
    }
    let bind = || {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    bind().map_err(|cause| AdminError::Socket { path: path.to_path_buf(), cause })
}

/// Answers until the agent is gone.
///
/// # Errors
/// What the system says.
pub async fn serve(listener: UnixListener, agent: Questions) -> io::Result<()> {
    let routes =
        Router::new().route("/v1/status", get(status)).route("/metrics", get(metrics)).with_state(agent);
    axum::serve(listener, routes).await
}

async fn ask(agent: &Questions) -> Result<Status, StatusCode> {
    let (answer, answered) = oneshot::channel();
    agent.send(answer).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    answered.await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}

async fn status(State(agent): State<Questions>) -> Result<Json<Status>, StatusCode> {
    ask(&agent).await.map(Json)
}

async fn metrics(State(agent): State<Questions>) -> Result<Response, StatusCode> {
    let text = encode(&ask(&agent).await?).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

type Labels = Vec<(&'static str, String)>;

fn encode(status: &Status) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("baton_agent");
    let mut gauge = |name: &str, help: &str, value: usize| {
        let metric: Gauge = Gauge::default();
        metric.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, metric);
    };
    gauge("dvipas", "DVIPAs of this host", status.dvipas.len());
    gauge("listeners", "Listening sockets of this host", status.listeners);
    gauge("connections", "Connections with a DVIPA", status.connections);
    gauge("cpu_permille", "Use of all processors in thousandths", status.cpu_permille.into());
    let pressure = status.memory_pressure_permille.into();
    gauge(
        "memory_pressure_permille",
        "Share of time in which a task waited for memory, in thousandths",
        pressure,
    );

    let reporting = Family::<Labels, Gauge>::default();
    for (name, stack) in &status.routing_stacks {
        let labels = vec![("routing_stack", name.to_string())];
        reporting.get_or_create(&labels).set((stack.session == "reporting").into());
    }
    registry.register("reporting", "1 if the routing stack is told of changes", reporting);

    let (put_right, standing) = (Family::<Labels, Counter>::default(), Family::<Labels, Gauge>::default());
    for subject in Subject::ALL {
        let labels = vec![("subject", subject.as_str().to_owned())];
        let times = status.environment.put_right.get(&subject).copied().unwrap_or_default();
        put_right.get_or_create(&labels).inc_by(times);
        let findings = status.environment.standing.iter().filter(|f| f.subject == subject).count();
        standing.get_or_create(&labels).set(i64::try_from(findings).unwrap_or(i64::MAX));
    }
    let help = "How often somebody changed something on this host and the agent put it right";
    registry.register("environment_put_right", help, put_right);
    let help = "What somebody changed on this host and only the operator can put right, now";
    registry.register("environment_standing", help, standing);

    let events = Family::<Labels, Counter>::default();
    for counter in &status.counters {
        let labels = vec![("event", counter.name.to_owned())];
        events.get_or_create(&labels).inc_by(counter.value);
    }
    registry.register("events", "What the BPF programs counted; see docs", events);

    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}
