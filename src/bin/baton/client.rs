//! HTTP over the admin socket: one request, one answer.

use std::io;
use std::path::Path;
use std::time::Duration;

use control::runtime::api::Problem;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::failure::Failure;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer that is read.
const ANSWER_BYTES: usize = 64 << 20;

/// Runs what asks.
///
/// # Errors
/// What it says, or why it can't run.
pub(crate) fn run<T>(socket: &Path, asks: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::Talk(socket.to_owned(), e.to_string()))?;
    runtime.block_on(asks)
}

/// Asks and returns the JSON that is answered.
///
/// # Errors
/// [`Failure`] if nobody answers, or the answer is a refusal.
pub(crate) async fn ask(
    socket: &Path,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<Vec<u8>, Failure> {
    let talk = tokio::time::timeout(PATIENCE, talk(socket, method, path, body)).await;
    let (status, answer) = talk.unwrap_or_else(|_| {
        Err(Failure::Talk(socket.to_owned(), format!("nothing within {} s", PATIENCE.as_secs())))
    })?;
    if status.is_success() {
        return Ok(answer);
    }
    let otherwise = || Problem { error: format!("{status} for {path}"), mistakes: Vec::new() };
    Err(Failure::Refused(serde_json::from_slice(&answer).unwrap_or_else(|_| otherwise())))
}

async fn talk(
    socket: &Path,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<(StatusCode, Vec<u8>), Failure> {
    let broken = |e: &dyn std::fmt::Display| Failure::Talk(socket.to_owned(), e.to_string());
    let stream = UnixStream::connect(socket).await.map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Failure::NoSocket(socket.to_owned()),
        _ => Failure::Socket(socket.to_owned(), e),
    })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| broken(&e))?;
    let driver = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "baton")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| broken(&e))?;
    let answer = sender.send_request(request).await.map_err(|e| broken(&e))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await.map_err(|e| broken(&e))?;
    driver.abort();
    Ok((status, body.to_bytes().to_vec()))
}
