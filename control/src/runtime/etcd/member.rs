//! One member of etcd: its keys, and how it is asked.
//!
//! Below the prefix, `owner/ADDRESS` is `EPOCH NODE` under the lease of the ownership, `epoch/ADDRESS` the highest epoch.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, Error, EventType, Identity, KeyValue,
    LeaseKeepAliveStream, LeaseKeeper, PutOptions, ResponseHeader, TlsOptions, Txn, TxnOp, TxnOpResponse,
    WatchOptions,
};
use model::{Dvipa, Epoch, StackName};
use ownership::etcd::{Answer, LeaseId, News, Owner, Question, Revision, Term};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::config;

/// A connection without a word for so long is asked for a sign of life. More often etcd would take it for an attack
/// (`--grpc-keepalive-min-time`, 5 s).
const PING: Duration = Duration::from_secs(10);
/// For so long that sign is waited for.
const PING_ANSWER: Duration = Duration::from_secs(5);

/// Why etcd can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// A file of `[cluster.etcd]`.
    #[error("cannot read {}: {cause}; change it in `[cluster.etcd]`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The client library refuses it.
    #[error("cannot use {endpoint} of `cluster.etcd.endpoints`: {cause}")]
    Endpoint {
        /// Which.
        endpoint: String,
        /// What the library says.
        cause: Error,
    },
}

pub(super) struct Member {
    pub(super) endpoint: String,
    client: Client,
    node: StackName,
    owners: String,
    epochs: String,
    /// Streams on which leases were renewed here, and on which nothing is unanswered.
    streams: Mutex<BTreeMap<LeaseId, Renewing>>,
}

type Renewing = (LeaseKeeper, LeaseKeepAliveStream);

/// What became of one lease.
struct Renewed {
    term: Term,
    alive: bool,
}

impl Member {
    pub(super) async fn new(
        endpoint: &str,
        config: &config::Etcd,
        node: &StackName,
        lease: Duration,
    ) -> Result<Self, Unusable> {
        let options = ConnectOptions::new()
            .with_connect_timeout(lease / 4)
            .with_keep_alive(PING, PING_ANSWER)
            .with_keep_alive_while_idle(true)
            .with_require_leader(true);
        let options = match &config.ca {
            None => options,
            Some(ca) => {
                let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(read(ca)?));
                if let Some((certificate, key)) = &config.certificate {
                    tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
                }
                options.with_tls(tls)
            }
        };
        let client = Client::connect([endpoint], Some(options)).await;
        let client = client.map_err(|cause| Unusable::Endpoint { endpoint: endpoint.to_owned(), cause })?;
        Ok(Self {
            endpoint: endpoint.to_owned(),
            client,
            node: node.clone(),
            owners: format!("{}owner/", config.prefix),
            epochs: format!("{}epoch/", config.prefix),
            streams: Mutex::default(),
        })
    }

    /// What this member answers.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) async fn ask(&self, question: &Question) -> Result<Answer, String> {
        let answer = match question {
            Question::Grant { ttl_s } => self.grant(*ttl_s).await,
            Question::Claim { dvipa, epoch, lease, after } => {
                self.claim(*dvipa, *epoch, *lease, *after).await
            }
            Question::Renew { leases } => self.renew(leases).await,
            Question::Confirm => self.confirm().await,
            Question::Revoke { lease } => self.revoke(*lease).await,
        };
        answer.map_err(|error| error.to_string())
    }

    async fn grant(&self, ttl_s: u32) -> Result<Answer, Error> {
        let granted = self.client.lease_client().grant(ttl_s.into(), None).await?;
        let ttl_s = u32::try_from(granted.ttl()).unwrap_or(0);
        Ok(Answer::Granted { lease: LeaseId(granted.id()), ttl_s })
    }

    async fn claim(
        &self,
        dvipa: Dvipa,
        epoch: Epoch,
        lease: LeaseId,
        after: Revision,
    ) -> Result<Answer, Error> {
        let (owner_key, epoch_key) = (format!("{}{dvipa}", self.owners), format!("{}{dvipa}", self.epochs));
        let is_free = Compare::create_revision(owner_key.as_str(), CompareOp::Equal, 0);
        let is_known = Compare::mod_revision(epoch_key.as_str(), CompareOp::Equal, after.0);
        let under_lease = PutOptions::new().with_lease(lease.0);
        let owns = format!("{} {}", epoch.0, self.node);
        let claim = Txn::new()
            .when([is_free, is_known])
            .and_then([
                TxnOp::put(owner_key.as_str(), owns, Some(under_lease)),
                TxnOp::put(epoch_key.as_str(), epoch.0.to_string(), None),
            ])
            .or_else([TxnOp::get(owner_key.as_str(), None), TxnOp::get(epoch_key.as_str(), None)]);
        let answer = match self.client.kv_client().txn(claim).await {
            Err(error) if is_unleased(&error) => return Ok(Answer::Unleased),
            answer => answer?,
        };
        if answer.succeeded() {
            return Ok(Answer::Claimed { revision: Revision(header(answer.header())?.revision()) });
        }
        let (mut owner, mut kept) = (None, (Epoch(0), Revision(0)));
        for read in answer.op_responses() {
            let TxnOpResponse::Get(found) = read else { continue };
            for found in found.kvs() {
                let value = epoch_of(found)?;
                if found.key() == owner_key.as_bytes() {
                    owner = Some(Owner { lease: LeaseId(found.lease()), epoch: value });
                } else {
                    kept = (value, Revision(found.mod_revision()));
                }
            }
        }
        Ok(Answer::Taken { owner, epoch: kept.0, revision: kept.1 })
    }

    /// All of them at once. Fails if nothing is known of any.
    async fn renew(&self, leases: &[LeaseId]) -> Result<Answer, Error> {
        let mut asked = JoinSet::new();
        {
            let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            let mut former = std::mem::take(&mut *streams);
            for lease in leases {
                let (lease, stream, client) = (*lease, former.remove(lease), self.client.clone());
                asked.spawn(async move { (lease, renew(lease, stream, client).await) });
            }
        }
        let (mut alive, mut gone, mut lowest, mut failed) = (Vec::new(), Vec::new(), None, None);
        while let Some(one) = asked.join_next().await {
            match one {
                Ok((lease, Ok((Renewed { term, alive: is_alive }, stream)))) => {
                    lowest = Some(lowest.map_or(term, |lowest: Term| lowest.min(term)));
                    if is_alive {
                        alive.push(lease);
                        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
                        streams.insert(lease, stream);
                    } else {
                        gone.push(lease);
                    }
                }
                Ok((_, Err(error))) => failed = Some(error),
                Err(_) => {}
            }
        }
        match lowest {
            Some(term) => Ok(Answer::Renewed { term, leases: alive, gone }),
            None => Err(failed.unwrap_or_else(|| Error::LeaseKeepAliveError("nothing was renewed".into()))),
        }
    }

    /// A read that only a leader of the majority can answer. What is read does not matter, but the term.
    async fn confirm(&self) -> Result<Answer, Error> {
        let read = self.client.kv_client().get(self.epochs.as_str(), None).await?;
        Ok(Answer::Confirmed { term: Term(header(read.header())?.raft_term()) })
    }

    async fn revoke(&self, lease: LeaseId) -> Result<Answer, Error> {
        match self.client.lease_client().revoke(lease.0).await {
            Err(error) if !is_unleased(&error) => Err(error),
            Ok(_) | Err(_) => Ok(Answer::Revoked),
        }
    }

    /// Says which `owner` keys are deleted, as long as the watch lasts.
    pub(super) async fn watch(&self, news: &mpsc::Sender<News>) -> Result<(), Error> {
        let options = WatchOptions::new().with_prefix().with_prev_key();
        let mut watch = self.client.watch_client().watch(self.owners.as_str(), Some(options)).await?;
        while let Some(said) = watch.message().await? {
            if said.canceled() {
                return Err(Error::WatchError(said.cancel_reason().to_owned()));
            }
            let deleted = said.events().iter().filter(|event| event.event_type() == EventType::Delete);
            for former in deleted.filter_map(|event| event.prev_kv()) {
                let address = former.key_str()?.strip_prefix(&self.owners).and_then(|key| key.parse().ok());
                let Some((address, epoch)) = address.zip(epoch_of(former).ok()) else { continue };
                let freed = News::Freed { dvipa: Dvipa::new(address), epoch };
                if news.send(freed).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// On the stream of former times if there is one. An answer that is not waited for to its end takes its stream along: the next renewal
/// must not find it there.
async fn renew(
    lease: LeaseId,
    stream: Option<Renewing>,
    client: Client,
) -> Result<(Renewed, Renewing), Error> {
    let (mut keeper, mut answers) = match stream {
        Some(stream) => stream,
        // The library keeps the first answer, and its term, to itself.
        None => client.lease_client().keep_alive(lease.0).await?,
    };
    keeper.keep_alive().await?;
    let ended = || Error::LeaseKeepAliveError("the stream ended".into());
    let answer = answers.message().await?.ok_or_else(ended)?;
    let renewed = Renewed { term: Term(header(answer.header())?.raft_term()), alive: answer.ttl() > 0 };
    Ok((renewed, (keeper, answers)))
}

/// The answer that a lease is over. The code is the one of many; the words are etcd's since 3.0.
fn is_unleased(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status) if status.message().contains("requested lease not found"))
}

fn header(header: Option<&ResponseHeader>) -> Result<&ResponseHeader, Error> {
    header.ok_or_else(|| Error::Internal("the answer has no header".into()))
}

fn epoch_of(found: &KeyValue) -> Result<Epoch, Error> {
    let value = found.value_str()?;
    let number = value.split(' ').next().and_then(|number| number.parse().ok());
    number.map(Epoch).ok_or_else(|| {
        let key = String::from_utf8_lossy(found.key());
        Error::InvalidArgs(format!("the key {key} has the value `{value}`, which no routing node writes"))
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Unusable> {
    std::fs::read(path).map_err(|cause| Unusable::File { path: path.to_owned(), cause })
}
