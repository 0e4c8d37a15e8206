//! The admin API: HTTP and JSON over a Unix socket. Handlers parse; the driver answers, one request after the
//! other.

use std::convert::Infallible;
use std::io;
use std::path::{Path as FilePath, PathBuf};

use axum::Router;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, FromRequestParts, Json, Path, Query};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use model::message::OrderId;
use model::{Dvipa, Protocol, Service, StackName};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use transport::bounded::Bounded;
use transport::private::{self, Access};

use super::api::{
    ActiveOrder, ConfigQuery, CrtQuery, DrainQuery, DvipaOrder, EventsQuery, HistoryQuery, MoveOrder,
    OrderedBy, Problem, RollbackOrder, ScopeQuery, SetOrder, WatchAnswer, WeightsOrder,
};
use super::configuring::ConfigRequest;
use super::looking::TraceOrder;
use super::metrics::Snapshot;
use super::why::WhyQuestion;
use crate::explain::Question;
use crate::machine::{EvacuationTerms, Scope};

/// Requests that may wait for the control thread.
pub(super) const WAITING_REQUESTS: usize = 64;
/// The longest body of a request.
const BODY_BYTES: usize = 256 << 10;

/// What is asked of the control thread.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Status,
    Vipa,
    Dpt,
    Crt(CrtQuery),
    Stats,
    Events(EventsQuery),
    Metrics,
    /// What the web page shows, with the events after this number.
    Watch(u64),
    Drain(StackName, Scope),
    Evacuate(StackName, Scope, EvacuationTerms),
    StopEvacuation(StackName, Scope),
    Evacuations,
    Resume(StackName, Scope),
    Weights(WeightsOrder),
    Move(MoveOrder),
    Moved(OrderId),
    MoveDvipa(DvipaOrder),
    Activate(Dvipa, StackName),
    Deactivate(Dvipa),
    Leave(bool),
    Reload,
    Explain(Question),
    Why(Box<WhyQuestion>),
    Config(ConfigRequest),
    BeginTrace(TraceOrder),
    Traced(u64),
    EndTrace(u64),
}

/// What is answered.
pub(super) enum Answer {
    Json(Vec<u8>),
    /// What is true now: the task that asked makes the text of it.
    Metrics(Box<Snapshot>),
    /// The same for the web page.
    Watch(Box<WatchAnswer>),
    Refused(StatusCode, Problem),
}

/// A request, and where its answer is awaited.
pub(super) struct Asked {
    pub(super) request: Request,
    /// Who asks.
    pub(super) by: OrderedBy,
    pub(super) reply: oneshot::Sender<Answer>,
}

/// The way to the control thread.
#[derive(Clone)]
pub(super) struct Desk {
    asks: mpsc::Sender<Asked>,
    /// Who asks.
    by: OrderedBy,
}

/// The desk of one request. The kernel knows the users of the admin socket; the others have the page's token.
impl FromRequestParts<Desk> for Desk {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, desk: &Desk) -> Result<Self, Infallible> {
        let connected = parts.extensions.get::<ConnectInfo<OrderedBy>>();
        Ok(Self { by: connected.map_or(OrderedBy::Web, |ConnectInfo(by)| *by), ..desk.clone() })
    }
}

impl Connected<IncomingStream<'_, Bounded<UnixListener>>> for OrderedBy {
    fn connect_info(stream: IncomingStream<'_, Bounded<UnixListener>>) -> Self {
        // No process has this number (credentials(7)): the kernel says it of nobody who is connected.
        const NOBODY: u32 = u32::MAX;
        let Ok(peer) = stream.io().inner().peer_cred() else {
            return OrderedBy::User { uid: NOBODY, login_uid: None };
        };
        let login = peer.pid().and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/loginuid")).ok());
        let login_uid = login.and_then(|uid| uid.trim().parse().ok()).filter(|uid| *uid != NOBODY);
        OrderedBy::User { uid: peer.uid(), login_uid }
    }
}

impl Desk {
    pub(super) fn new(asks: mpsc::Sender<Asked>) -> Self {
        Self { asks, by: OrderedBy::Web }
    }

    /// What the web page shows; `None`: the control thread is ending.
    pub(super) async fn watch(&self, after: u64) -> Option<Box<WatchAnswer>> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(Asked { request: Request::Watch(after), by: self.by, reply }).await.ok()?;
        match answer.await {
            Ok(Answer::Watch(watched)) => Some(watched),
            Ok(_) | Err(_) => None,
        }
    }

    async fn ask(&self, request: Request) -> Response {
        let (reply, answer) = oneshot::channel();
        if self.asks.send(Asked { request, by: self.by, reply }).await.is_err() {
            return refuse(StatusCode::SERVICE_UNAVAILABLE, "batond is stopping");
        }
        match answer.await {
            Ok(Answer::Metrics(snapshot)) => {
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                elsewhere(move || snapshot.render().map(String::into_bytes), kind).await
            }
            Ok(Answer::Watch(watched)) => {
                elsewhere(move || serde_json::to_vec(&watched), "application/json").await
            }
            Ok(Answer::Json(body)) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
            Ok(Answer::Refused(status, problem)) => (status, Json(problem)).into_response(),
            Err(_) => refuse(StatusCode::SERVICE_UNAVAILABLE, "batond is stopping"),
        }
    }
}

/// Thousands of lines of text are made in another thread than the control thread, where all of this runs.
async fn elsewhere<E: ToString + Send + 'static>(
    render: impl FnOnce() -> Result<Vec<u8>, E> + Send + 'static,
    kind: &'static str,
) -> Response {
    match tokio::task::spawn_blocking(render).await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        Ok(Err(error)) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

pub(super) fn refuse(status: StatusCode, error: impl ToString) -> Response {
    (status, Json(Problem { error: error.to_string(), mistakes: Vec::new() })).into_response()
}

/// All of the API.
pub(super) fn router(desk: Desk) -> Router {
    Router::new()
        .route("/v1/status", get(|desk: Desk| async move { desk.ask(Request::Status).await }))
        .route("/v1/vipa", get(|desk: Desk| async move { desk.ask(Request::Vipa).await }))
        .route("/v1/dpt", get(|desk: Desk| async move { desk.ask(Request::Dpt).await }))
        .route("/v1/stats", get(|desk: Desk| async move { desk.ask(Request::Stats).await }))
        .route("/v1/reload", post(|desk: Desk| async move { desk.ask(Request::Reload).await }))
        .route("/v1/vipa/move", post(move_dvipa))
        .route("/v1/vipa/activate", post(activate))
        .route("/v1/leave", post(|desk: Desk| async move { desk.ask(Request::Leave(true)).await }))
        .route("/v1/stay", post(|desk: Desk| async move { desk.ask(Request::Leave(false)).await }))
        .route("/v1/crt", get(crt))
        .route("/v1/events", get(events))
        .route("/v1/watch", get(watch))
        .route("/v1/drain", get(|desk: Desk| async move { desk.ask(Request::Evacuations).await }))
        .route("/v1/drain/{stack}", post(drain))
        .route("/v1/resume/{stack}", post(resume))
        .route("/v1/weights", post(weights))
        .route("/v1/move", post(move_connection))
        .route("/v1/route/explain", post(explain))
        .route("/v1/why", post(why))
        .route("/v1/config", get(configuration).post(configure))
        .route(
            "/v1/config/diff",
            get(|desk: Desk| async move { desk.ask(Request::Config(ConfigRequest::Diff)).await }),
        )
        .route("/v1/config/history", get(history))
        .route("/v1/config/rollback", post(roll_back))
        .route("/v1/trace", post(begin_trace))
        .route("/v1/trace/{trace}", get(traced))
        .route("/v1/trace/{trace}/end", post(end_trace))
        .route("/v1/move/{order}", get(moved))
        .route("/metrics", get(metrics))
        .fallback(async || refuse(StatusCode::NOT_FOUND, "no such resource; docs/admin-api.md lists them"))
        .method_not_allowed_fallback(async || {
            refuse(
                StatusCode::METHOD_NOT_ALLOWED,
                "GET reads and POST orders; docs/admin-api.md says which is which",
            )
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(desk)
}

/// Only the metrics, for the TCP listener, which authenticates nobody.
pub(super) fn metrics_router(desk: Desk) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .fallback(async || refuse(StatusCode::NOT_FOUND, "only /metrics is here"))
        .with_state(desk)
}

async fn metrics(desk: Desk) -> Response {
    desk.ask(Request::Metrics).await
}

async fn crt(desk: Desk, query: Result<Query<CrtQuery>, QueryRejection>) -> Response {
    match query {
        Ok(Query(query)) => desk.ask(Request::Crt(query)).await,
        Err(e) => refuse(StatusCode::BAD_REQUEST, e.body_text()),
    }
}

async fn events(desk: Desk, query: Result<Query<EventsQuery>, QueryRejection>) -> Response {
    match query {
        Ok(Query(query)) => desk.ask(Request::Events(query)).await,
        Err(e) => refuse(StatusCode::BAD_REQUEST, e.body_text()),
    }
}

async fn watch(desk: Desk, query: Result<Query<EventsQuery>, QueryRejection>) -> Response {
    match query {
        Ok(Query(query)) => desk.ask(Request::Watch(query.after)).await,
        Err(e) => refuse(StatusCode::BAD_REQUEST, e.body_text()),
    }
}

async fn moved(desk: Desk, Path(order): Path<String>) -> Response {
    match order.parse() {
        Ok(order) => desk.ask(Request::Moved(OrderId(order))).await,
        Err(_) => refuse(StatusCode::BAD_REQUEST, "an order is a number"),
    }
}

type Scoped = Result<Query<ScopeQuery>, QueryRejection>;

async fn drain(
    desk: Desk,
    Path(stack): Path<String>,
    query: Result<Query<DrainQuery>, QueryRejection>,
) -> Response {
    let order = query.map_err(|e| e.body_text()).and_then(|Query(query)| {
        let moves = query.moves == Some(true);
        if !moves && (query.for_s.is_some() || query.quiet_ms.is_some() || query.at_once.is_some()) {
            return Err("`for_s`, `quiet_ms` and `at_once` need `move=true` too".to_owned());
        }
        let (stack, scope) = scope_of(stack, &query.scope())?;
        Ok(match query.moves {
            None => Request::Drain(stack, scope),
            Some(true) => Request::Evacuate(stack, scope, query.terms()),
            Some(false) => Request::StopEvacuation(stack, scope),
        })
    });
    match order {
        Ok(order) => desk.ask(order).await,
        Err(e) => refuse(StatusCode::BAD_REQUEST, e),
    }
}

async fn resume(desk: Desk, Path(stack): Path<String>, query: Scoped) -> Response {
    match scoped(stack, query) {
        Ok((stack, scope)) => desk.ask(Request::Resume(stack, scope)).await,
        Err(e) => refuse(StatusCode::BAD_REQUEST, e),
    }
}

fn scoped(stack: String, query: Scoped) -> Result<(StackName, Scope), String> {
    let Query(query) = query.map_err(|e| e.body_text())?;
    scope_of(stack, &query)
}

fn scope_of(stack: String, query: &ScopeQuery) -> Result<(StackName, Scope), String> {
    let stack = StackName::new(stack).map_err(|e| e.to_string())?;
    let ScopeQuery { dvipa, port, protocol } = *query;
    let scope = match (dvipa.map(Dvipa::new), port, protocol) {
        (None, None, None) => Scope::All,
        (Some(dvipa), None, None) => Scope::Dvipa(dvipa),
        (Some(dvipa), Some(port), protocol) => {
            Scope::Service(Service { dvipa, port, protocol: protocol.unwrap_or(Protocol::Tcp) })
        }
        (None, _, _) => return Err("`port` and `protocol` need `dvipa` too".into()),
        (Some(_), None, Some(_)) => return Err("`protocol` needs `port` too".into()),
    };
    Ok((stack, scope))
}

async fn weights(desk: Desk, body: Result<Json<WeightsOrder>, JsonRejection>) -> Response {
    match body {
        Ok(Json(order)) => desk.ask(Request::Weights(order)).await,
        Err(e) => refuse(e.status(), e.body_text()),
    }
}

async fn explain(desk: Desk, body: Result<Json<Question>, JsonRejection>) -> Response {
    match body {
        Ok(Json(question)) => desk.ask(Request::Explain(question)).await,
        Err(e) => refuse(e.status(), e.body_text()),
    }
}

async fn why(desk: Desk, body: Result<Json<WhyQuestion>, JsonRejection>) -> Response {
    match body {
        Ok(Json(question)) => desk.ask(Request::Why(Box::new(question))).await,
        Err(e) => refuse(e.status(), e.body_text()),
    }
}

async fn configuration(desk: Desk, query: Result<Query<ConfigQuery>, QueryRejection>) -> Response {
    match query {
        Ok(Query(query)) => desk.ask(Request::Config(ConfigRequest::Get(query))).await,
        Err(e) => refuse(StatusCode::BAD_REQUEST, e.body_text()),
    }
}

async fn configure(desk: Desk, body: Result<Json<SetOrder>, JsonRejection>) -> Response {
    match body {
        Ok(Json(order)) => desk.ask(Request::Config(ConfigRequest::Set(order))).await,
        Err(e) => refuse(e.status(), e.body_text()),
    }
}

async fn history(desk: Desk, query: Result<Query<HistoryQuery>, QueryRejection>) -> Response {
    match query {
        Ok(Query(query)) => desk.ask(Request::Config(ConfigRequest::History(query))).await,
        Err(e) => refuse(StatusCode::BAD_REQUEST, e.body_text()),
    }
}

async fn roll_back(desk: Desk, body: Result<Json<RollbackOrder>, JsonRejection>) -> Response {
    match body {
        Ok(Json(order)) => desk.ask(Request::Config(ConfigRequest::Rollback(order))).await,
        Err(e) => refuse(e.status(), e.body_text()),
    }
}

async fn begin_trace(desk: Desk, body: Result<Json<TraceOrder>, JsonRejection>) -> Response {
    match body {
        Ok(Json(order)) => desk.ask(Request::BeginTrace(order)).await,
        Err(e) => refuse(e.status(), e.body_text()),
    }
}

async fn traced(desk: Desk, Path(trace): Path<String>) -> Response {
    match trace.parse() {
        Ok(trace) => desk.ask(Request::Traced(trace)).await,
        Err(_) => refuse(StatusCode::BAD_REQUEST, "a trace is a number"),
    }
}

async fn end_trace(desk: Desk, Path(trace): Path<String>) -> Response {
    match trace.parse() {
        Ok(trace) => desk.ask(Request::EndTrace(trace)).await,
        Err(_) => refuse(StatusCode::BAD_REQUEST, "a trace is a number"),
    }
}

async fn move_dvipa(desk: Desk, body: Result<Json<DvipaOrder>, JsonRejection>) -> Response {
    match body {
        Ok(Json(order)) => desk.ask(Request::MoveDvipa(order)).await,
        Err(e) => refuse(e.status(), e.body_text()),
    }
}

async fn activate(desk: Desk, body: Result<Json<ActiveOrder>, JsonRejection>) -> Response {
    match body {
        Ok(Json(ActiveOrder { dvipa, stack: Some(stack) })) => {
            desk.ask(Request::Activate(dvipa, stack)).await
        }
        Ok(Json(ActiveOrder { dvipa, stack: None })) => desk.ask(Request::Deactivate(dvipa)).await,
        Err(e) => refuse(e.status(), e.body_text()),
    }
}

async fn move_connection(desk: Desk, body: Result<Json<MoveOrder>, JsonRejection>) -> Response {
    match body {
        Ok(Json(order)) => desk.ask(Request::Move(order)).await,
        Err(e) => refuse(e.status(), e.body_text()),
    }
}

/// The admin socket; its file goes when this is dropped.
pub(super) struct AdminSocket {
    path: PathBuf,
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // It may have been removed by hand, which is as well.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Binds the Unix socket, mode 0660. A file that a killed process left is replaced; one that a process listens on
/// is not.
pub(super) fn bind(path: &FilePath) -> io::Result<(UnixListener, AdminSocket)> {
    bind_as(path, Access { mode: 0o660, group: None })
}

/// The same with another mode.
pub(super) fn bind_as(path: &FilePath, access: Access) -> io::Result<(UnixListener, AdminSocket)> {
    let listener = private::listen(path, access)?;
    listener.set_nonblocking(true)?;
    Ok((UnixListener::from_std(listener)?, AdminSocket { path: path.to_owned() }))
}
