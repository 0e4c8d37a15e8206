//! A trace sees what each packet of its filter met, and changes nothing of what becomes of any.

use model::Protocol;
use proptest::prelude::*;

use super::bench::*;
use crate::tables::Family;
use crate::trace::{Filter, Trace, Traced, describe, ends};
use crate::{Kind, Port, Reason, TestPacket, Verdict};

fn filter(client_port: Option<u16>) -> Filter {
    Filter { client: Some(CLIENT.into()), client_port, ..Filter::default() }
}

impl Bench {
    fn traced(&mut self, trace: &Trace, frames: &[Vec<u8>]) -> Vec<(Vec<u8>, Verdict)> {
        let mut burst: Vec<_> = frames.iter().map(|f| Some(TestPacket::new(f))).collect();
        let world = (&self.tables, &self.crt, self.now);
        trace.process((&mut self.worker, 3), &mut burst, Port::Nic, world, &mut self.outlet);
        assert!(burst.iter().all(Option::is_none), "every packet of a burst is taken");
        self.outlet.given.drain(..).map(|(p, v)| (crate::PacketBuffer::bytes(&p).to_vec(), v)).collect()
    }
}

fn rows(trace: &Trace) -> Vec<Traced> {
    std::iter::from_fn(|| trace.take()).collect()
}

#[test]
fn a_row_has_the_packet_before_and_after_and_what_it_was_counted_as() {
    let (mut bench, trace) = (Bench::new(), Trace::new(filter(Some(1024)), 100));
    let frames = [
        syn(Family::V4, 1024, port_of(GUE)),
        syn(Family::V4, 1025, port_of(GUE)),
        syn(Family::V6, 1024, 8001),
    ];
    let out = bench.traced(&trace, &frames);
    assert_eq!(out.len(), 3);
    let rows = rows(&trace);
    let [row] = &rows[..] else { panic!("one packet is of the client's port and address: {rows:#?}") };
    assert_eq!(
        (row.worker, row.end(), row.reasons.as_slice()),
        (3, Some(Reason::ForwardedNew), &[Reason::ForwardedNew][..])
    );
    let (from, came) = row.came.as_ref().unwrap();
    assert_eq!((*from, &came.bytes[..]), (Port::Nic, &frames[0][..]));
    assert_eq!((row.given[0].0, &row.given[0].1.bytes[..]), (Verdict::Send(Port::Nic), &out[0].0[..]));
    assert!(
        describe(&out[0].0)
            .starts_with("GUE 198.18.0.10 > 198.18.0.21: TCP 198.18.0.2:1024 > 198.18.9.1:8001 SYN")
    );
}

#[test]
fn a_packet_that_waited_is_seen_when_it_ends() {
    let (mut bench, trace) = (Bench::with(&without_own_stack(), &node()), Trace::new(filter(None), 100));
    bench.traced(&trace, &[syn(Family::V4, 1024, 5000)]);
    let held = rows(&trace);
    assert_eq!((held[0].end(), held[0].reasons.as_slice()), (None, &[Reason::UnservedHeld][..]));
    bench.now.ms += 1000;
    let world = (&bench.tables, &bench.crt, bench.now);
    trace.expire((&mut bench.worker, 3), world, &mut bench.outlet);
    let ended = rows(&trace);
    assert_eq!((ended.len(), ended[0].came.is_none(), ended[0].end()), (1, true, Some(Reason::RefusedReset)));
    assert!(ended[0].reasons.contains(&Reason::NotDistributed), "and why: {ended:?}");
}

#[test]
fn what_is_too_much_is_counted_and_passes_all_the_same() {
    let (mut bench, trace) = (Bench::new(), Trace::new(filter(None), 10));
    bench.establish(1024, port_of(GUE), Protocol::Tcp, GUE);
    let frames = vec![ack(Family::V4, 1024, port_of(GUE)); 30];
    assert_eq!(bench.traced(&trace, &frames).len(), 30);
    assert_eq!((rows(&trace).len(), trace.missed(), bench.count(Reason::Forwarded)), (10, 20, 30));
    let trace = Trace::new(filter(None), u32::MAX);
    (0..100).for_each(|_| drop(bench.traced(&trace, &frames)));
    assert_eq!((rows(&trace).len() as u64 + trace.missed(), trace.missed() > 0), (3000, true));
}

fn frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let frame = (0..5_u8, any::<bool>(), 1024..1028_u16, 7998..8008_u16, 0..1500_usize);
    let frame = frame.prop_map(|(kind, v4, client_port, port, len)| {
        let family = if v4 { Family::V4 } else { Family::V6 };
        match kind {
            0 | 1 => syn(family, client_port, port),
            // Whom an orphan is asked of first differs from worker to worker.
            2 => ack(Family::V4, 1024, port_of(GUE)),
            3 => udp(family, client_port, port, &vec![3; len]),
            _ => frame!(to_dvipa(Family::V4).icmpv4_echo_request(1, 1), &[1; 40]),
        }
    });
    proptest::collection::vec(frame, 1..80)
}

proptest! {
    #[test]
    fn packets_become_the_same_whether_somebody_looks_on_or_not(bursts in proptest::collection::vec(frames(), 1..4)) {
        let (mut plain, mut traced) = (Bench::new(), Bench::new());
        for bench in [&plain, &traced] {
            bench.establish(1024, port_of(GUE), Protocol::Tcp, GUE);
        }
        let trace = Trace::new(Filter { client_port: Some(1025), ..Filter::default() }, u32::MAX);
        let mut admitted = 0;
        for burst in &bursts {
            admitted += burst.iter().filter(|f| Filter { client_port: Some(1025), ..Filter::default() }.admits(f)).count();
            prop_assert_eq!(plain.burst(burst, Port::Nic).len(), traced.traced(&trace, burst).len());
        }
        for reason in Reason::ALL {
            prop_assert_eq!(plain.count(*reason), traced.count(*reason), "{}", reason.name());
        }
        let rows = rows(&trace);
        prop_assert_eq!(rows.iter().filter(|row| row.came.is_some()).count(), admitted);
        for row in rows.iter().filter(|row| row.came.is_some()) {
            let ends = row.reasons.iter().filter(|reason| reason.kind() != Kind::Note).count();
            let waits = row.reasons.iter().any(|r| matches!(r, Reason::AskHeld | Reason::UnservedHeld));
            prop_assert_eq!(ends, usize::from(!waits), "one end, or it waits: {:?}", &row.reasons);
        }
    }

    #[test]
    fn any_bytes_can_be_described(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = (describe(&bytes), ends(&bytes));
    }
}
