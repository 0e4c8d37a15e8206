//! How a server is asked. A question never leaves the host: its socket is bound to `lo`, or goes to a container of this host.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, TE, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::{Asks, Probe, Probed};

const AGENT: &str = concat!("baton-agent/", env!("CARGO_PKG_VERSION"));
/// Where gRPC servers say how they are, in gRPC's own protocol.
const GRPC_PATH: &str = "/grpc.health.v1.Health/Check";
/// The answer SERVING: field 1 of a HealthCheckResponse.
const SERVING: [u8; 2] = [8, 1];
/// An answer of gRPC has a few bytes.
const GRPC_BYTES: usize = 1024;

impl Probe {
    /// Asks, and waits for the answer until the time is over.
    pub async fn ask(self) -> Probed {
        let (at, elsewhere, long) = (self.at, self.elsewhere, self.timeout);
        let outcome = match &self.asks {
            Asks::Tcp => within(long, connect(at, elsewhere)).await.map(drop),
            Asks::Http { path, host, status } => {
                within(long, http(at, elsewhere, path, host.as_deref())).await.and_then(|code| {
                    let is_well = status.as_ref().map_or((200..400).contains(&code), |of| of.contains(&code));
                    if is_well { Ok(()) } else { Err(code.to_string()) }
                })
            }
            Asks::Grpc { service } => within(long, grpc(at, elsewhere, service)).await,
            Asks::Script { command } => script(command, at, long).await,
        };
        self.says(outcome)
    }
}

async fn within<T>(long: Duration, asks: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    timeout(long, asks).await.unwrap_or_else(|_| Err(late(long)))
}

fn late(long: Duration) -> String {
    format!("no answer within {} ms", long.as_millis())
}

async fn connect(at: SocketAddr, elsewhere: bool) -> Result<TcpStream, String> {
    let connect = async {
        let socket = if at.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if !elsewhere {
            socket.bind_device(Some(b"lo"))?;
        }
        socket.connect(at).await
    };
    connect.await.map_err(|cause: io::Error| cause.to_string())
}

/// The status code of a request.
async fn http(at: SocketAddr, elsewhere: bool, path: &str, host: Option<&str>) -> Result<u16, String> {
    let stream = connect(at, elsewhere).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(said)?;
    let host = host.map_or_else(|| at.to_string(), str::to_owned);
    let request = Request::get(path)
        .header(HOST, host)
        .header(USER_AGENT, AGENT)
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(said)?;
    let answer = driven(sender.send_request(request), connection).await?;
    Ok(answer.status().as_u16())
}

/// Whether the server says that the service is well.
async fn grpc(at: SocketAddr, elsewhere: bool, service: &str) -> Result<(), String> {
    let stream = connect(at, elsewhere).await?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(said)?;
    let uri = Uri::builder().scheme("http").authority(at.to_string()).path_and_query(GRPC_PATH).build();
    let request = Request::post(uri.map_err(said)?)
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(USER_AGENT, AGENT)
        .body(Full::new(Bytes::from(health_request(service))))
        .map_err(said)?;
    let asks = async {
        let answer = sender.send_request(request).await.map_err(said)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, GRPC_BYTES).collect().await.map_err(|e| e.to_string())?;
        let of_trailers = body.trailers().and_then(|trailers| trailers.get("grpc-status"));
        let status = of_trailers.or(head.headers.get("grpc-status"));
        let status = status.map(|status| String::from_utf8_lossy(status.as_bytes()).into_owned());
        match status.as_deref() {
            Some("0") if body.to_bytes().get(5..) == Some(&SERVING) => Ok(()),
            Some("0") => Err("not serving".to_owned()),
            Some(status) => Err(format!("status {status}")),
            None => Err(format!("{}, which is no answer of gRPC", head.status)),
        }
    };
    tokio::select! {
        answer = asks => answer,
        ended = connection => Err(ended.map_or_else(said, |()| "the connection has ended".to_owned())),
    }
}

/// A HealthCheckRequest with gRPC's five bytes before it. The configuration limits the name to 100 bytes.
fn health_request(service: &str) -> Vec<u8> {
    let name = service.as_bytes();
    let mut message = Vec::new();
    if !name.is_empty() {
        message.extend([10, u8::try_from(name.len()).unwrap_or(u8::MAX)]);
        message.extend(name);
    }
    let mut frame = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap_or(u8::MAX)];
    frame.extend(message);
    frame
}

/// The answer of a request while its connection is driven.
async fn driven<B, E: std::fmt::Display>(
    asks: impl Future<Output = Result<Response<B>, E>>,
    connection: impl Future<Output = Result<(), E>>,
) -> Result<Response<B>, String> {
    tokio::pin!(asks);
    tokio::select! {
        biased;
        answer = &mut asks => answer.map_err(said),
        // What came before the end of the connection is there by now.
        _ = connection => asks.await.map_err(said),
    }
}

fn said(cause: impl std::fmt::Display) -> String {
    cause.to_string()
}

/// Runs a program; one that does not end in time is killed, with what it has started.
async fn script(command: &[String], at: SocketAddr, long: Duration) -> Result<(), String> {
    let (program, arguments) = command.split_first().ok_or("no command")?;
    let mut command = std::process::Command::new(program);
    command
        .args(arguments)
        .env("BATON_ADDRESS", at.ip().to_string())
        .env("BATON_PORT", at.port().to_string())
        .env("BATON_FAMILY", family(at.ip()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    let mut child = Command::from(command).kill_on_drop(true).spawn().map_err(said)?;
    match timeout(long, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(status.to_string()),
        Ok(Err(cause)) => Err(cause.to_string()),
        Err(_) => {
            end(&mut child).await;
            Err(late(long))
        }
    }
}

fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "4" } else { "6" }
}

async fn end(child: &mut Child) {
    if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()) {
        // It has ended by itself in this moment otherwise.
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    // What has no process any more needs no reaping.
    let _ = child.wait().await;
}
