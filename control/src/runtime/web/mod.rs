//! The web page: what this node and its cluster do, live, and orders for those who have the token.
//!
//! A thread of its own serves it, so that browsers, however many and however slow, cost the control thread nothing but [`WatchAnswer`],
//! once a second while somebody looks.
//!
//! In reading order: `watched` (what the control thread tells), `tables` (rows with keys, of that), `feed` (their differences, to all who look), `guard` (what a browser
//! may ask for), `page/` (what the browser gets). `docs/web.md` is for operators.

mod feed;
mod guard;
mod tables;
mod watched;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn_with_state;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::get;
use futures_util::stream::{Stream, unfold};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use transport::bounded::Bounded;

use self::feed::Feed;
use self::guard::Guard;
pub use self::watched::{MovingRow, WatchAnswer};
use super::admin::{self, Desk};
use crate::config::Web;

/// How long a browser may listen before it has to ask again, which it does by itself.
const LIFE: Duration = Duration::from_secs(600);

/// What comes before this thread when both have work (nice(2)).
const NICE: i32 = 10;

const HTML: &str = include_str!("page/page.html");
const CSS: &str = include_str!("page/page.css");
const JS: &str = include_str!("page/page.js");

/// The thread that serves the page; it ends when this is dropped.
pub(super) struct WebThread {
    _ends: oneshot::Sender<()>,
}

/// Opens the socket and starts the thread.
pub(super) fn start(web: &Web, desk: Desk) -> io::Result<WebThread> {
    let listener = std::net::TcpListener::bind(web.address)?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let guard = Arc::new(Guard::new(web));
    let (ends, ended) = oneshot::channel();
    let serve = async move {
        let listener = Bounded::lasting(TcpListener::from_std(listener)?, LIFE);
        let feed = Feed::default();
        let router = router(guard, desk.clone(), feed.clone());
        tokio::select! {
            served = async { axum::serve(listener, router).await } => served,
            () = feed.run(&desk) => Ok(()),
            _ = ended => Ok(()),
        }
    };
    let work = move || {
        // It has the control thread's core. Fails only for a limit that nobody sets.
        let _ = rustix::process::nice(NICE);
        if let Err(error) = runtime.block_on(serve) {
            tracing::error!(%error, "the web page is not served any more");
        }
    };
    thread::Builder::new().name("web".into()).spawn(work)?;
    Ok(WebThread { _ends: ends })
}

/// The page and what it listens to, for all who are let in, and the admin API for those who have the token.
fn router(guard: Arc<Guard>, desk: Desk, feed: Feed) -> Router {
    let file =
        |kind: &'static str, text: &'static str| get(move || async move { ([(CONTENT_TYPE, kind)], text) });
    let orders = admin::router(desk).layer(from_fn_with_state(Arc::clone(&guard), guard::token));
    Router::new()
        .route("/", file("text/html; charset=utf-8", HTML))
        .route("/page.css", file("text/css; charset=utf-8", CSS))
        .route("/page.js", file("text/javascript; charset=utf-8", JS))
        .route("/live", get(live))
        .with_state(feed)
        .merge(orders)
        .layer(from_fn_with_state(guard, guard::browser))
}

/// Everything, and then what changes.
async fn live(State(feed): State<Feed>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let events = unfold(feed.look(), |mut viewer| async move {
        let text = viewer.next().await?;
        Some((Ok(Event::default().data(&*text)), viewer))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}
