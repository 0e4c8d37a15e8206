//! What operators ask an agent: HTTP over a Unix socket.
//!
//! `GET /v1/status` answers in JSON ([`Status`]), `GET /metrics` in the text format of OpenMetrics. The socket is the
//! owner's only (mode 0600). Another one, with a mode and group as configured, and a TCP listener have the metrics alone.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use axum::{Json, Router};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::oneshot;
use transport::bounded::Bounded;
use transport::private::{self, Access};

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
    /// It does not let us have the TCP listener of the metrics.
    #[error("cannot listen on {address} for metrics: {cause}; change or remove `metrics` in [admin]")]
    Metrics {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        cause: io::Error,
    },
}

/// Opens the socket, in place of one that a former run has left.
///
/// # Errors
/// [`AdminError`] if a process answers there, or the system does not let us.
pub async fn open(path: &Path) -> Result<UnixListener, AdminError> {
    open_to(path, Access { mode: 0o600, group: None })
}

/// The same for others than the owner.
///
/// # Errors
/// As [`open`].
pub fn open_to(path: &Path, access: Access) -> Result<UnixListener, AdminError> {
    let listener = private::listen(path, access).and_then(|listener| {
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    });
    listener.map_err(|cause| match cause.kind() {
        io::ErrorKind::AddrInUse => AdminError::InUse(path.to_path_buf()),
        _ => AdminError::Socket { path: path.to_path_buf(), cause },
    })
}

/// Answers until the agent is gone.
///
/// # Errors
/// What the system says.
pub async fn serve(listener: UnixListener, agent: Questions) -> io::Result<()> {
    let routes =
        Router::new().route("/v1/status", get(status)).route("/metrics", get(metrics)).with_state(agent);
    axum::serve(Bounded::new(listener), routes).await
}

/// Opens the TCP listener of the metrics.
///
/// # Errors
/// [`AdminError::Metrics`].
pub async fn open_tcp(address: SocketAddr) -> Result<TcpListener, AdminError> {
    TcpListener::bind(address).await.map_err(|cause| AdminError::Metrics { address, cause })
}

/// Answers for the metrics alone until the agent is gone.
///
/// # Errors
/// What the system says.
pub async fn serve_metrics<L: Listener>(listener: L, agent: Questions) -> io::Result<()>
where
    L::Addr: std::fmt::Debug,
{
    axum::serve(Bounded::new(listener), Router::new().route("/metrics", get(metrics)).with_state(agent)).await
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
    let status = ask(&agent).await?;
    // The agent's own thread has better things to do.
    let text = tokio::task::spawn_blocking(move || encode(&status)).await;
    let text = text.map_err(|_| std::fmt::Error).and_then(|text| text);
    let text = text.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
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
    let failing = status.checks.iter().filter(|check| check.state == "failing").count();
    gauge("checks_failing", "Listeners of this host that fail a check", failing);
    let expires = usize::try_from(status.certificate.unix_s).unwrap_or_default();
    gauge(
        "certificate_expires_seconds",
        "When the certificate ends that new sessions use, in seconds since 1970",
        expires,
    );
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

    status.environment.register(&mut registry);

    let refused = Family::<Labels, Counter>::default();
    for of in &status.refused {
        let labels =
            vec![("routing_stack", of.routing_stack.to_string()), ("reason", of.reason.word().to_owned())];
        refused.get_or_create(&labels).inc_by(of.count);
    }
    registry.register("refused", "What routing stacks said that was not theirs to say", refused);

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
