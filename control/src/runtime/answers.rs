//! What the admin API answers, made on the control thread out of the machine, the forwarder and the endpoint.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use model::transfer::{Reason, Why};
use model::{StackIndex, StackName};
use serde::Serialize;
use tokio::sync::oneshot;
use transfer::routing::{Outcome, UnderWay};
use transport::Tally;

use super::admin::{Answer, Request};
use super::api::{
    CRT_LIMIT, CRT_LIMIT_MAX, ClientFilter, CounterRow, CrtAnswer, CrtQuery, CrtRow, Done, DrainAnswer,
    EventName, MOST_ROUTES, MoveAnswer, MoveOrder, MoveOrdered, MoveState, OrderedBy, Problem,
    StackConnections, StatsAnswer, StatusAnswer, TransferRow,
};
use super::driver::Driver;
use super::etcd::Etcd;
use super::forwarding::{CrtFilter, CrtPage, Forwarding};
use super::listings::{Asker, Listing, MAX_LISTINGS};
use super::metrics::Snapshot;
use super::{reload, transfers};
use crate::explain;
use crate::machine::{Event, Order, OrderRefusal, Progress, Refusal};

impl<F: Forwarding> Driver<F> {
    /// Answers a request, or takes note of one that is answered later.
    pub(super) fn answer(&mut self, request: Request, by: OrderedBy, reply: oneshot::Sender<Answer>) {
        if matches!(request, Request::Stats | Request::Metrics | Request::Watch(_)) {
            self.take_census();
        }
        let answer = match request {
            Request::Status => json(&self.status()),
            Request::Vipa => json(&self.machine.vipa_view()),
            Request::Dpt => json(&self.dpt_answer()),
            Request::Crt(query) => return self.list_for_operator(&query, reply),
            Request::Stats => json(&self.stats()),
            Request::Events(query) => json(&self.events.after(query.after)),
            Request::Metrics => Answer::Metrics(Box::new(self.snapshot())),
            Request::Watch(after) => Answer::Watch(Box::new(self.watched(after))),
            Request::Drain(stack, scope) => {
                let about = stack.clone();
                self.ordered(Event::Drain { stack, scope }, EventName::Drained, &about, by)
            }
            Request::Evacuate(stack, scope, terms) => {
                let about = stack.clone();
                self.ordered(Event::Evacuate { stack, scope, terms }, EventName::Drained, &about, by)
            }
            Request::StopEvacuation(stack, scope) => self.done(Event::StopEvacuation { stack, scope }),
            Request::Evacuations => {
                json(&DrainAnswer { evacuations: self.machine.evacuation_views(Instant::now()) })
            }
            Request::Resume(stack, scope) => {
                let about = stack.clone();
                self.ordered(Event::Resume { stack, scope }, EventName::Resumed, &about, by)
            }
            Request::Weights(order) => self.done(Event::SetWeights {
                service: order.service(),
                ttl: Duration::from_secs(order.ttl_s),
                weights: order.weights.into_iter().collect(),
            }),
            Request::Move(order) => self.move_connection(order),
            Request::Moved(order) => match self.machine.order(order) {
                Some(order) => json(&moved(order)),
                None => refused(StatusCode::NOT_FOUND, OrderRefusal::NoSuchOrder(order)),
            },
            Request::MoveDvipa(order) => self.done(Event::MoveDvipa { dvipa: order.dvipa, to: order.to }),
            Request::Activate(dvipa, stack) => self.done(Event::Activate { dvipa, stack }),
            Request::Deactivate(dvipa) => self.done(Event::Deactivate { dvipa }),
            Request::Leave(leaving) => self.done(Event::Leave(leaving)),
            Request::Explain(question) => {
                match explain::explain(&self.machine.config().vipadynamic, &question) {
                    Ok(explanation) => json(&explanation),
                    Err(error) => refused(StatusCode::UNPROCESSABLE_ENTITY, error),
                }
            }
            Request::Why(question) => self.why(&question),
            Request::Config(request) => self.configuration(&request, by),
            Request::BeginTrace(order) => self.begin_trace(&order),
            Request::Traced(trace) => self.traced(trace),
            Request::EndTrace(trace) => self.end_trace(trace),
            Request::Reload => {
                let before = self.generation();
                match reload::reload(self, by) {
                    Ok(()) => self.done_since(before),
                    Err(refused) => Answer::Refused(StatusCode::UNPROCESSABLE_ENTITY, refused.problem()),
                }
            }
        };
        // Fails only if the client has gone away.
        let _ = reply.send(answer);
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            stats: self.stats(),
            status: self.machine.status_view(),
            vipa: self.machine.vipa_view(),
            expires: self.expires.unix_s,
            etcd: self.etcd.as_ref().map(Etcd::view),
            dpt: self.machine.dpt().clone(),
            unfit: self.machine.unfit(),
            measured: self.timings.measured.clone(),
        }
    }

    fn done(&mut self, event: Event) -> Answer {
        let before = self.generation();
        match self.order(event) {
            Ok(()) => self.done_since(before),
            Err(refusal) => refused(status_of(&refusal), refusal),
        }
    }

    /// As [`Self::done`]; an order that is followed is an event.
    fn ordered(&mut self, order: Event, event: EventName, stack: &StackName, by: OrderedBy) -> Answer {
        let answer = self.done(order);
        if matches!(answer, Answer::Json(_)) {
            tracing::info!(event = event.word(), %stack, %by, "by order");
            self.events.add(event, stack, format!("by an operator's order ({by})"));
        }
        answer
    }

    fn done_since(&self, before: u64) -> Answer {
        let generation = self.generation();
        json(&Done { generation, dpt_changed: generation != before })
    }

    pub(super) fn generation(&self) -> u64 {
        self.machine.dpt().generation
    }

    pub(super) fn status(&self) -> StatusAnswer {
        let config = self.machine.config();
        StatusAnswer {
            program: "batond".into(),
            machine: self.machine.status_view(),
            uptime_s: self.started.elapsed().as_secs(),
            listen: self.endpoint.local_addr().unwrap_or(config.cluster.listen),
            config: self.file.clone(),
            config_age_s: self.configured.elapsed().as_secs(),
            crt: self.forwarding.crt_stats(),
            ports: self.forwarding.ports(),
            environment: self.forwarding.environment(),
            certificate: self.expires.clone(),
            sessions_since_s: self.sessions_since_s.clone(),
            decided_by: config.cluster.decided_by(),
            etcd: self.etcd.as_ref().map(Etcd::view),
        }
    }

    /// Has the CRT looked through; the answer comes when that is done.
    fn list_for_operator(&mut self, query: &CrtQuery, reply: oneshot::Sender<Answer>) {
        let filter = match self.filter(query) {
            Ok(filter) => filter,
            Err(unknown) => {
                let _ = reply.send(refused(StatusCode::NOT_FOUND, OrderRefusal::NoSuchStack(unknown)));
                return;
            }
        };
        let limit = query.limit.unwrap_or(CRT_LIMIT).min(CRT_LIMIT_MAX);
        let listing = Listing::new(Asker::Operator(reply), filter, limit);
        if let Err(Asker::Operator(reply)) = self.listings.put(listing) {
            let why = format!("{MAX_LISTINGS} others look into the CRT: try again in a moment");
            let _ = reply.send(refused(StatusCode::SERVICE_UNAVAILABLE, why));
        }
    }

    /// What a look into the CRT has found.
    pub(super) fn crt(&self, page: CrtPage) -> Answer {
        let row = |entry: super::CrtEntry| CrtRow {
            protocol: entry.connection.protocol,
            client: entry.connection.client,
            dvipa: entry.connection.dvipa,
            stack: self.name(entry.stack),
            state: entry.state,
            idle_ms: entry.idle_ms,
            transfer: self.machine.under_way(&entry.connection).map(transfer_row),
        };
        let mut connections: Vec<CrtRow> = page.entries.into_iter().map(row).collect();
        connections.sort_by_key(|c| (c.dvipa, c.protocol, c.client));
        json(&CrtAnswer { connections, more: page.more, crt: self.forwarding.crt_stats() })
    }

    fn move_connection(&mut self, order: MoveOrder) -> Answer {
        let Some(connection) = order.connection() else {
            return refused(StatusCode::UNPROCESSABLE_ENTITY, "`client` and `dvipa` are of two families");
        };
        let Some(entry) = self.forwarding.crt_entry(&connection) else {
            return refused(StatusCode::NOT_FOUND, OrderRefusal::NoSuchConnection(connection));
        };
        let MoveOrder { target, job, quiet_ms, .. } = order;
        let event = Event::Move { connection, source: entry.stack, target: target.clone(), job, quiet_ms };
        if let Err(refusal) = self.order(event) {
            return refused(status_of(&refusal), refusal);
        }
        match self.machine.open_order(&connection) {
            Some(order) => json(&MoveOrdered { order: order.id, source: self.name(entry.stack), target }),
            None => refused(StatusCode::INTERNAL_SERVER_ERROR, "the order is over before it began"),
        }
    }

    /// The query in numbers, or the stack that it names and nobody knows.
    fn filter(&self, query: &CrtQuery) -> Result<CrtFilter, StackName> {
        let CrtQuery { client, dvipa, port, stack, state, limit: _ } = query;
        let index_of = |name: &StackName| self.machine.stack_index(name).ok_or_else(|| name.clone());
        let (client, client_port) = match client {
            None => (None, None),
            Some(ClientFilter::Address(address)) => (Some(*address), None),
            Some(ClientFilter::Socket(socket)) => (Some(socket.ip()), Some(socket.port())),
        };
        Ok(CrtFilter {
            client: client.map(|a| a.to_canonical()),
            client_port,
            dvipa: dvipa.map(|a| a.to_canonical()),
            port: *port,
            stack: stack.as_ref().map(index_of).transpose()?,
            state: *state,
        })
    }

    pub(super) fn stats(&self) -> StatsAnswer {
        let packets = self.forwarding.counters().into_iter().map(|c| CounterRow {
            name: c.name.to_owned(),
            value: c.value,
            fault: c.fault,
            sentence: c.sentence.to_owned(),
        });
        let cluster = Tally::ALL.iter().map(|tally| CounterRow {
            name: tally.name().to_owned(),
            value: self.endpoint.counters().get(*tally),
            fault: tally.blame(),
            sentence: tally.sentence().to_owned(),
        });
        let of = |(stack, connections)| StackConnections { stack: self.name(stack), connections };
        let mut connections: Vec<_> = self.forwarding.connections().into_iter().map(of).collect();
        connections.sort_by(|a, b| a.stack.cmp(&b.stack));
        let (shares, turned_away) = self.shares();
        StatsAnswer {
            uptime_s: self.started.elapsed().as_secs(),
            packets: packets.collect(),
            cluster: cluster.collect(),
            transfers: transfers::rows(&self.machine.transfer_counts()),
            refused: self.machine.status_view().refused,
            connections,
            routes: self.forwarding.routes(MOST_ROUTES),
            shares,
            turned_away,
            crt: self.forwarding.crt_stats(),
            ports: self.forwarding.ports(),
            environment: self.forwarding.environment(),
        }
    }

    /// A stack's name; its number if the CRT names one that the machine does not know.
    pub(super) fn name(&self, stack: StackIndex) -> String {
        self.machine.stack_name(stack).map_or_else(|| format!("#{}", stack.0), StackName::to_string)
    }
}

fn moved(order: &Order) -> MoveAnswer {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let (state, way, pause, took, why) = match &order.progress {
        Progress::Told => (MoveState::Told, None, None, None, None),
        Progress::Moving { way, pause, .. } => (MoveState::Moving, Some(*way), *pause, None, None),
        Progress::Over { outcome, way, pause, took } => {
            let (state, why) = match outcome {
                Outcome::Moved => (MoveState::Moved, None),
                Outcome::Stayed(why) => (MoveState::Stayed, Some(why.clone())),
                Outcome::Lost => (MoveState::Lost, Some(Why::from(Reason::OutcomeLost))),
            };
            (state, *way, *pause, Some(*took), why)
        }
    };
    MoveAnswer {
        order: order.id,
        client: order.connection.client,
        dvipa: order.connection.dvipa,
        source: order.source.clone(),
        target: order.target.clone(),
        state,
        way: way.map(|way| way.word().to_owned()),
        pause_us: pause.map(micros),
        took_us: took.map(micros),
        reason: why.as_ref().map(|why| why.reason.name().to_owned()),
        sentence: why.as_ref().map(|why| why.reason.sentence().to_owned()),
        said: why.and_then(|why| why.said),
    }
}

pub(super) fn transfer_row(under_way: UnderWay<'_>) -> TransferRow {
    TransferRow {
        id: under_way.transfer.to_string(),
        source: under_way.source.clone(),
        target: under_way.target.clone(),
        way: under_way.way.word().to_owned(),
        step: under_way.step.word().to_owned(),
    }
}

/// Whose fault a refusal is, in HTTP's numbers.
fn status_of(refusal: &Refusal) -> StatusCode {
    let Refusal::Order(refusal) = refusal else { return StatusCode::UNPROCESSABLE_ENTITY };
    match refusal {
        OrderRefusal::NoSuchStack(_)
        | OrderRefusal::NoSuchConnection(_)
        | OrderRefusal::NoSuchOrder(_)
        | OrderRefusal::NotEvacuated(_)
        | OrderRefusal::NotDraining(_)
        | OrderRefusal::NoSuchDvipa(_)
        | OrderRefusal::NotInARange(_)
        | OrderRefusal::NotOrdered(_)
        | OrderRefusal::NotDistributed(_) => StatusCode::NOT_FOUND,
        OrderRefusal::TooManyDrains | OrderRefusal::TooManyWeights => StatusCode::INSUFFICIENT_STORAGE,
        OrderRefusal::NotMoved { .. }
        | OrderRefusal::NotACandidate { .. }
        | OrderRefusal::BadWeightLife(_)
        | OrderRefusal::TooManyDvipas(_)
        | OrderRefusal::DefinitionTooLong { .. }
        | OrderRefusal::NotOwned { .. }
        | OrderRefusal::NotABackup { .. }
        | OrderRefusal::Defined(_)
        | OrderRefusal::NotHere(_)
        | OrderRefusal::OtherNode => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

pub(super) fn refused(status: StatusCode, error: impl ToString) -> Answer {
    Answer::Refused(status, Problem { error: error.to_string(), mistakes: Vec::new() })
}

pub(super) fn json(answer: &impl Serialize) -> Answer {
    match serde_json::to_vec(answer) {
        Ok(body) => Answer::Json(body),
        Err(e) => refused(StatusCode::INTERNAL_SERVER_ERROR, e),
    }
}
