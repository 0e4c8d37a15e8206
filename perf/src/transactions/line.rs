//! The rows, on DPDK's net_null device and real mbufs, as those of the packet path.

use std::hint::black_box;

use ffi::{BURST, Burst, Device, Eal, Mempool, Port as Nic, RxQueue, Settings};
use forwarder::{Kind, PacketBuffer, Reason, Sink, Verdict};
use plane::packet::Packet;

use super::{Node, Says};
use crate::path::Outlet;
use crate::renewal;
use crate::rows::Rows;
use crate::timing::{A_MS, Clock, once_ns, sized, steady_ns_of};

/// Clients of a round: a pass of requests takes a few milliseconds.
fn clients() -> u64 {
    sized(4096, 2048)
}

/// Slices of a run.
const SLICES: u64 = 32;
/// Routes, and the rows of so many.
const ROUTES: [(u32, &str); 2] = [(10, "core_request_ns"), (10_000, "core_request_10k_hosts_ns")];
const SYN: &str = "core_syn_ns";

/// One worker with its queues.
struct Line {
    node: Node<Packet>,
    receive: RxQueue,
    outlet: Outlet,
    _nic: Nic,
    clock: Clock,
}

/// Hears what clients are answered.
struct Ear<'a> {
    answers: &'a mut Vec<Packet>,
}

impl Sink<Packet> for Ear<'_> {
    fn give(&mut self, packet: Packet, verdict: Verdict) {
        if let Verdict::Send(_) = verdict {
            self.answers.push(packet);
        }
    }

    fn spare(&mut self) -> Option<Packet> {
        None
    }
}

/// What is done with the packets of a pass.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Receive and send.
    Device,
    /// And they are written.
    Source(Says),
    /// And the worker does what it does.
    Path(Says),
}

/// Adds those of the rows that are asked for.
pub(crate) fn measure(eal: Eal, pool: Mempool, rows: &mut Rows) {
    for (routes, name) in ROUTES {
        let with_syn = routes == ROUTES[0].0;
        if !rows.wants(&[name]) && !(with_syn && rows.wants(&[SYN])) {
            continue;
        }
        let line = Node::new(clients() as u32, routes).map_err(|e| e.to_string());
        let line = line.and_then(|node| Line::new(eal, pool, node).map_err(|e| e.to_string()));
        let mut line = match line {
            Ok(line) => line,
            Err(error) => {
                eprintln!("{name} is left out: {error}");
                continue;
            }
        };
        let ([syn, ack, request], ends) = line.cost();
        if with_syn {
            rows.add(SYN, "ns", syn, "answered; receive and send included");
        }
        let note =
            format!("SYN {syn:.0}, acknowledgement {ack:.0}, request {request:.0}; {routes} routes; {ends}");
        rows.add(name, "ns", syn + ack + request, note);
    }
}

impl Line {
    fn new(eal: Eal, pool: Mempool, node: Node<Packet>) -> Result<Self, ffi::Error> {
        let device = Device::open(eal, &format!("net_null9,size={}", node.clients.longest().len()))?;
        let (nic, mut queues) = device.start(&Settings::default(), pool)?;
        let Some((receive, queue)) = queues.pop() else { unreachable!("one queue pair was asked for") };
        let (outlet, clock) = (Outlet::new(queue, pool), Clock::new(renewal::start(), A_MS));
        Ok(Self { node, receive, outlet, _nic: nic, clock })
    }

    /// The round's clients say this, from receive to send.
    fn pass(&mut self, pass: Pass) {
        let mut slots: [Option<Packet>; BURST] = std::array::from_fn(|_| None);
        let mut next = 0;
        while u64::from(next) < clients() {
            let mut burst = Burst::new();
            self.receive.receive(&mut burst);
            assert_eq!(burst.len(), BURST, "the pool has more buffers than the worker holds");
            let (Pass::Source(says) | Pass::Path(says)) = pass else {
                next += BURST as u32;
                self.outlet.send(black_box(&mut burst));
                continue;
            };
            self.write(says, &mut burst, &mut next);
            if let Pass::Source(_) = pass {
                self.outlet.send(black_box(&mut burst));
                continue;
            }
            for (slot, mbuf) in slots.iter_mut().zip(burst) {
                *slot = Some(Packet(mbuf));
            }
            self.node.process(&mut slots, self.clock.now(), &mut self.outlet);
            self.outlet.flush();
            self.clock.advance(BURST);
        }
    }

    #[inline(always)]
    fn write(&self, says: Says, burst: &mut Burst, next: &mut u32) {
        let bytes = self.node.clients.bytes(says);
        for mbuf in burst.iter_mut() {
            let _ = mbuf.reframe(0, 0, bytes);
            self.node.clients.write(says, *next, mbuf.bytes_mut());
            *next += 1;
        }
    }

    /// Other clients come, and are answered.
    fn begin(&mut self) {
        self.node.next_round();
        let (mut next, mut heard) = (0, 0);
        let mut answers = Vec::with_capacity(BURST);
        while u64::from(next) < clients() {
            let mut burst = Burst::new();
            self.receive.receive(&mut burst);
            self.write(Says::Syn, &mut burst, &mut next);
            let mut slots: Vec<Option<Packet>> = burst.into_iter().map(|mbuf| Some(Packet(mbuf))).collect();
            self.node.process(&mut slots, self.clock.now(), &mut Ear { answers: &mut answers });
            for packet in answers.drain(..) {
                self.node.clients.hear(heard, packet.bytes());
                heard += 1;
            }
        }
        assert_eq!(heard, next, "each client is answered");
        self.node.fill_pools();
    }

    fn pass_ns(&mut self, pass: Pass) -> f64 {
        if let Pass::Path(Says::Ack | Says::Request) = pass {
            self.begin();
        }
        once_ns(clients(), || self.pass(pass))
    }

    /// Nanoseconds that each of a client's packets takes, and what became of them.
    fn cost(&mut self) -> ([f64; 3], String) {
        let [syn, ack, request] = Says::ALL;
        let of = [
            Pass::Device,
            Pass::Source(syn),
            Pass::Source(ack),
            Pass::Source(request),
            Pass::Path(syn),
            Pass::Path(ack),
            Pass::Path(request),
        ];
        for pass in of {
            self.pass_ns(pass);
        }
        let [device, source_syn, source_ack, source_request, syn, ack, request] =
            steady_ns_of(sized(SLICES, 1), of, |pass, _| self.pass_ns(pass));
        let costs = [(syn, source_syn), (ack, source_ack), (request, source_request)];
        (costs.map(|(path, source)| path - (source - device)), self.ends())
    }

    /// What became of the requests.
    ///
    /// # Panics
    /// If not every request went to a target, or not every acknowledgement was one of a handshake.
    fn ends(&self) -> String {
        let counters = self.node.counters();
        let ends = Reason::ALL.iter().filter(|reason| reason.kind() != Kind::Note);
        let ended: Vec<_> = ends.filter(|reason| counters.get(**reason) > 0).collect();
        let wanted = [Reason::AnsweredSyn, Reason::Handshake, Reason::ForwardedHandoff];
        assert!(ended.iter().all(|reason| wanted.contains(reason)), "packets ended as {ended:?}");
        format!("{} requests handed over", counters.get(Reason::ForwardedHandoff))
    }
}
