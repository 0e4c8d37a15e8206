//! What the machine wants done, done.

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use model::message::Load;
use model::{Connection, Dvipa};
use transport::SendError;

use super::Agent;
use crate::config::Container;
use crate::machine::{Action, Event, FLOW_RECENT, Origin, Picture, Scope, Waiting};
use crate::system::{addresses, allow_nonlocal_binds, containers, diag, translated};

/// A UDP flow is told of until this long after its last datagram, as `forwarder.idle_udp_s` is when nothing is configured.
const FLOW_LIFE: Duration = Duration::from_secs(120);

impl Agent {
    /// Does all that is to be done.
    pub(super) async fn act(&mut self) {
        while let Some(action) = self.machine.poll(Instant::now()) {
            match action {
                Action::SetForwarders(forwarders) => {
                    tracing::info!(?forwarders, "accepting packets of these forwarders");
                    if let Err(cause) = self.programs.maps.set_forwarders(&forwarders) {
                        tracing::error!(%cause, "the programs can't be told of the forwarders");
                    }
                }
                Action::AddDvipa(dvipa, origin) => self.add(dvipa, origin).await,
                Action::RemoveDvipa(dvipa) => self.remove(dvipa).await,
                Action::AllowBinds { v4 } => allow_binds(v4),
                Action::End(connections) => end(connections),
                Action::Look(scope) => self.look(scope),
                Action::SampleLoad => self.sample_load(),
                Action::LookAtSpeeches => self.look_at_speeches(),
                Action::Send(to, message) => match self.endpoint.send(&to, &message) {
                    Ok(()) | Err(SendError::NoSession(_)) => {}
                    Err(cause) => tracing::warn!(routing_stack = %to, %cause, "a message was not sent"),
                },
            }
        }
    }

    /// Sends what this host says as a witness.
    pub(super) fn act_as_witness(&mut self) {
        while let Some((to, message)) = self.witness.poll(Instant::now()) {
            match self.endpoint.send(&to, &message) {
                Ok(()) | Err(SendError::NoSession(_)) => {}
                Err(cause) => tracing::warn!(routing_stack = %to, %cause, "a message was not sent"),
            }
        }
    }

    async fn add(&mut self, dvipa: Dvipa, origin: Option<Origin>) {
        let is_new = self.dvipas.insert(dvipa.address());
        let address = addresses::add(&self.netlink, dvipa).await.map_err(|e| e.to_string());
        let added =
            address.and_then(|()| self.programs.maps.add_dvipa(dvipa, origin).map_err(|e| e.to_string()));
        match added {
            Ok(()) if is_new => tracing::info!(%dvipa, "added to this host"),
            Ok(()) => {}
            Err(cause) => {
                tracing::error!(%dvipa, cause, "can't be made an address of this host, trying again");
                self.dvipas.remove(&dvipa.address());
                self.tell(Event::NotAdded(dvipa));
            }
        }
    }

    async fn remove(&mut self, dvipa: Dvipa) {
        self.dvipas.remove(&dvipa.address());
        if let Err(cause) = self.programs.maps.remove_dvipa(dvipa) {
            tracing::error!(%dvipa, %cause, "the programs can't be told that it is gone");
        }
        if let Ok(pools) = &self.programs.pools {
            pools.forget(dvipa);
        }
        match addresses::remove(&self.netlink, dvipa).await {
            Ok(()) => tracing::info!(%dvipa, "removed from this host"),
            Err(cause) => tracing::error!(%dvipa, %cause, "can't be removed from this host"),
        }
    }

    fn look(&mut self, scope: Scope) {
        let (dvipas, containers) = (self.dvipas.clone(), self.config.containers.clone());
        let datagrams = self.machine.owes_an_account().then(|| self.programs.maps.datagrams.clone());
        self.tasks.spawn_blocking(move || match all(scope, &dvipas, &containers) {
            Ok(picture) => {
                let flows = datagrams.map_or(Ok(Vec::new()), |datagrams| datagrams.recent(FLOW_LIFE));
                let flows = flows.unwrap_or_else(|cause| {
                    tracing::warn!(%cause, "the kernel does not show the UDP flows, telling of none");
                    Vec::new()
                });
                Event::Seen(scope, Picture { flows, ..picture })
            }
            Err(cause) => {
                tracing::warn!(%cause, "the kernel does not show its sockets, trying again");
                Event::NotSeen
            }
        });
    }

    fn look_at_speeches(&mut self) {
        let dvipas = self.dvipas.clone();
        self.tasks.spawn_blocking(move || {
            let speeches = diag::speeches(&dvipas).unwrap_or_else(|cause| {
                tracing::debug!(%cause, "the kernel does not show who waits for an answer");
                Vec::new()
            });
            Event::Speeches(speeches)
        });
    }

    fn sample_load(&mut self) {
        let used = self.meter.measure(Instant::now());
        let served = self.machine.view().dvipas.into_values().flat_map(|by_stack| by_stack.into_values());
        let ports: HashSet<u16> = served.flatten().map(|(_, port)| port).collect();
        self.used = used;
        if self.machine.tells_flows(Instant::now()) {
            let datagrams = self.programs.maps.datagrams.clone();
            let seen = move || Event::FlowsSeen(datagrams.recent(FLOW_RECENT).unwrap_or_default());
            self.tasks.spawn_blocking(seen);
        }
        self.tasks.spawn_blocking(move || {
            let queues = diag::accept_queues(&ports).ok();
            let fullest = queues.iter().flatten().map(|queue| queue.permille).max();
            let load = Load {
                cpu_permille: used.cpu_permille,
                accept_queue_permille: fullest.unwrap_or(0),
                memory_pressure_permille: used.memory_pressure_permille,
                ..Load::default()
            };
            let waiting = queues.map(|queues| {
                let mut waiting = Waiting::new();
                queues.iter().for_each(|q| *waiting.entry(q.port).or_default() += u64::from(q.waiting));
                waiting
            });
            Event::LoadSampled(load, waiting)
        });
    }
}

/// Lets applications of this host bind to addresses of ranges of one family.
fn allow_binds(v4: bool) {
    match allow_nonlocal_binds(v4) {
        Ok(Some(raised)) => {
            tracing::info!("{raised}, so that applications can bind to addresses of ranges: set")
        }
        Ok(None) => {}
        Err(cause) => tracing::error!(%cause, "applications can't bind to addresses of ranges"),
    }
}

/// Ends connections to addresses that are active at another host by now.
fn end(connections: Vec<Connection>) {
    tracing::info!(connections = connections.len(), "ending connections to addresses that have moved on");
    tokio::task::spawn_blocking(move || {
        for connection in connections {
            if let Err(cause) = diag::destroy(&connection) {
                tracing::warn!(%connection, %cause, "the kernel does not end it");
            }
        }
    });
}

/// The sockets of this host and of its containers, and the connections that it translates for these.
fn all(scope: Scope, dvipas: &HashSet<IpAddr>, containers: &[Container]) -> io::Result<Picture> {
    let mut picture = diag::look(scope, dvipas)?;
    picture.listeners.extend(containers::look(containers)?);
    if scope == Scope::All {
        picture.connections.extend(translated::look(dvipas)?);
    }
    picture.connections.sort_unstable_by_key(|(cookie, _)| *cookie);
    Ok(picture)
}
