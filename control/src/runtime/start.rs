//! From files to a running control thread.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use model::Epoch;
use model::codec::Address;
use model::message::{Hello, ToStack};
use model::peer::ToPeer;
use ownership::etcd::News;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use transport::bounded::Bounded;
use transport::private::Access;
use transport::{Endpoint, Events, Listen, Renewal, Settings};

use super::admin::{self, AdminSocket, Desk, WAITING_REQUESTS};
use super::api::OrderedBy;
use super::census::Census;
use super::driver::Driver;
use super::epochs::Epochs;
use super::etcd::{Etcd, Unusable};
use super::events::Recent;
use super::forwarding::Forwarding;
use super::history::History;
use super::listings::Listings;
use super::timings::Timings;
use super::web::{self, WebThread};
use super::{notes, reload};
use crate::config::{Config, MetricsSocket, RoutingStack as RoutingStackAt, Source, Truth};
use crate::machine::{self, RoutingStack};

/// Why the control thread can't run.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// This stack's certificate, key or CA.
    #[error(transparent)]
    Identity(#[from] transport::IdentityError),
    /// The cluster's socket.
    #[error(transparent)]
    Endpoint(#[from] transport::BindError),
    /// The machine refuses the configuration.
    #[error(transparent)]
    Machine(#[from] machine::OrderRefusal),
    /// The etcd that decides.
    #[error(transparent)]
    Etcd(#[from] Unusable),
    /// The admin socket.
    #[error(
        "cannot open the admin socket {}: {cause}; set `admin.socket` to a place that batond may write to",
        path.display()
    )]
    AdminSocket {
        /// Where.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The metrics listener.
    #[error("cannot listen on {address} for metrics: {cause}; change or remove `admin.metrics`")]
    Metrics {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        cause: io::Error,
    },
    /// The same on a Unix socket.
    #[error("cannot open the socket {} for metrics: {cause}; change or remove `admin.metrics_socket`", path.display())]
    MetricsSocket {
        /// Where.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The web page.
    #[error("cannot serve the web page at {address}: {cause}; change or remove `admin.web`")]
    Web {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        cause: io::Error,
    },
    /// Signals.
    #[error("cannot watch for SIGHUP: {0}")]
    Signal(io::Error),
}

/// A control thread that is ready to run: sockets are bound, nothing is answered yet.
pub struct Runtime<F> {
    driver: Driver<F>,
    events: Events<ToStack>,
    peers: Option<Events<ToPeer>>,
    news: Option<mpsc::Receiver<News>>,
    asked: mpsc::Receiver<admin::Asked>,
    hangups: mpsc::Receiver<()>,
    _sockets: Vec<AdminSocket>,
    _tasks: Vec<AbortOnDropHandle<()>>,
    _web: Option<WebThread>,
}

impl<F: Forwarding> Runtime<F> {
    /// Opens all sockets. Must be called inside a tokio runtime; one of the current-thread flavour is enough.
    ///
    /// `source` is the text of `config`, and the file where a reload reads again; `version` is what peers and operators
    /// see.
    ///
    /// # Errors
    /// [`RuntimeError`] says what could not be opened and what to do.
    pub async fn bind(
        source: Source,
        config: Config,
        mut forwarding: F,
        version: &str,
    ) -> Result<Self, RuntimeError> {
        let files = reload::identity_files(&config.cluster);
        let renewal = Renewal::new(files.clone(), config.node.name.clone());
        let identity = transport::Identity::load(&files, &config.node.name)?;
        let expires = identity.expires();
        let (incarnation, clock) = beginning();
        let epochs = Epochs::open(&config);
        let first_epoch = epochs.first(clock);
        let hello = Hello {
            stack: config.node.name.to_string(),
            cluster_addresses: config.node.cluster_address.iter().map(Address).collect(),
            incarnation,
            version: version.to_owned(),
            heartbeat_ms: None,
            fabric_mtu: Some(config.forwarder.fabric_mtu),
        };
        let cluster = &config.cluster;
        let (heartbeat, quiet_after) = (cluster.heartbeat, Some(cluster.quiet_after));
        let settings =
            Settings { hello, heartbeat, quiet_after, lost_after: cluster.lost_after, beside: true };
        let (peers, peer_events) = peers(&config, &identity, settings.clone())?.unzip();
        let (endpoint, events) = Endpoint::bind(Listen::At(cluster.listen), &identity, settings.clone())?;

        let (etcd, news) = match &cluster.etcd {
            None => (None, None),
            Some(etcd) => {
                let (etcd, news) = Etcd::new(etcd, &config.node.name, cluster.lease).await?;
                (Some(etcd), Some(news))
            }
        };

        let (desk, asked) = mpsc::channel(WAITING_REQUESTS);
        let desk = Desk::new(desk);
        let path = config.admin.socket.clone();
        let (listener, admin_socket) =
            admin::bind(&path).map_err(|cause| RuntimeError::AdminSocket { path, cause })?;
        let router = admin::router(desk.clone()).into_make_service_with_connect_info::<OrderedBy>();
        let mut tasks = vec![spawn(async { axum::serve(Bounded::new(listener), router).await })];
        if let Some(address) = config.admin.metrics {
            let listener = TcpListener::bind(address).await;
            let listener = listener.map_err(|cause| RuntimeError::Metrics { address, cause })?;
            let router = admin::metrics_router(desk.clone());
            tasks.push(spawn(async { axum::serve(Bounded::new(listener), router).await }));
        }
        let mut sockets = vec![admin_socket];
        if let Some(MetricsSocket { path, mode, group }) = config.admin.metrics_socket.clone() {
            let (listener, socket) = admin::bind_as(&path, Access { mode, group })
                .map_err(|cause| RuntimeError::MetricsSocket { path, cause })?;
            let router = admin::metrics_router(desk.clone());
            tasks.push(spawn(async { axum::serve(Bounded::new(listener), router).await }));
            sockets.push(socket);
        }
        let web = match &config.admin.web {
            None => None,
            Some(web) => {
                let address = web.address;
                Some(web::start(web, desk).map_err(|cause| RuntimeError::Web { address, cause })?)
            }
        };
        let (hangups, watcher) = hangups()?;
        tasks.push(watcher);

        let now = Instant::now();
        let Source { path: file, text } = source;
        let mut history = History::open(&config);
        if config.admin.truth == Truth::Api && history.newest_text().is_some_and(|last| last != text) {
            let file = file.display();
            tracing::warn!(%file, "the file is in force: what was in force last was not ordered, or has mistakes now");
        }
        // A node that can't write goes on, and the log says so.
        let _ = history.keep(&text, OrderedBy::Start, "start", Vec::new());
        if std::fs::read_to_string(&file).is_ok_and(|written| written != text) {
            let file = file.display();
            tracing::warn!(%file, "the file is not what is in force: `baton config diff` shows what differs");
        }
        let identity = machine::Identity { incarnation, version: version.to_owned(), first_epoch };
        let numbering = forwarding.remembered();
        let machine = RoutingStack::resumed(identity, config, numbering.as_ref(), now)?;
        let driver = Driver {
            machine,
            endpoint,
            peers,
            etcd,
            epochs,
            new_peers: None,
            settings,
            renewal,
            expires,
            forwarding,
            file,
            text,
            history,
            started: now,
            configured: now,
            events: Recent::default(),
            failures: notes::Failures::default(),
            listings: Listings::default(),
            census: Census::default(),
            sessions_since_s: BTreeMap::new(),
            timings: Timings::default(),
            replaced: BTreeMap::new(),
        };
        Ok(Self {
            driver,
            events,
            peers: peer_events,
            news,
            asked,
            hangups,
            _sockets: sockets,
            _tasks: tasks,
            _web: web,
        })
    }

    /// Where sessions are accepted.
    ///
    /// # Errors
    /// What the system says.
    pub fn cluster_address(&self) -> io::Result<SocketAddr> {
        self.driver.endpoint.local_addr()
    }

    /// Runs until `stop` is ready, then says goodbye to all peers and removes the admin socket.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { driver, events, peers, news, asked, hangups, _sockets, _tasks, _web } = self;
        driver.run(events, peers, news, asked, hangups, stop).await;
    }
}

/// The sessions with other routing stacks.
pub(super) type WithPeers = (Endpoint<ToPeer>, Events<ToPeer>);

/// Sessions with the other routing stacks, if there are some. Of two, the one whose name comes first dials.
pub(super) fn peers(
    config: &Config,
    identity: &transport::Identity,
    settings: Settings,
) -> Result<Option<WithPeers>, transport::BindError> {
    if config.routing_stacks.is_empty() {
        return Ok(None);
    }
    let lost_after = config.cluster.takeover_after;
    let settings = Settings { quiet_after: None, lost_after, beside: false, ..settings };
    let (endpoint, events) = Endpoint::bind(Listen::At(config.cluster.peers_listen), identity, settings)?;
    for other in config.routing_stacks.iter().filter(|other| dials(config, other)) {
        endpoint.dial(other.name.clone(), other.address);
    }
    Ok(Some((endpoint, events)))
}

/// Whether this stack dials another one.
pub(super) fn dials(config: &Config, other: &RoutingStackAt) -> bool {
    config.node.name < other.name
}

/// An incarnation that differs each time the process starts, and an epoch above all that a former process gave
/// out, if the clock was not set back: both are the milliseconds since 1970. Epochs grow by one.
fn beginning() -> (u64, Epoch) {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ms = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
    (ms, Epoch(ms))
}

fn spawn(serving: impl Future<Output = io::Result<()>> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async {
        if let Err(error) = serving.await {
            tracing::error!(%error, "the admin API stopped");
        }
    }))
}

/// SIGHUP asks for a reload; several at once are one.
fn hangups() -> Result<(mpsc::Receiver<()>, AbortOnDropHandle<()>), RuntimeError> {
    let (sender, receiver) = mpsc::channel(1);
    let mut hangups = signal(SignalKind::hangup()).map_err(RuntimeError::Signal)?;
    let watcher = tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            // Full: a reload is coming already.
            let _ = sender.try_send(());
        }
    });
    Ok((receiver, AbortOnDropHandle::new(watcher)))
}
