use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;

prop_compose! {
    fn queues()(
        first in any::<u32>(), bytes in prop::collection::vec(any::<u8>(), 0..300), unsent in any::<u16>(),
        unread_first in any::<u32>(), unread in prop::collection::vec(any::<u8>(), 0..300),
    ) -> (SendQueue, ReceiveQueue) {
        let unsent_bytes = u32::from(unsent) % (bytes.len() as u32 + 1);
        (SendQueue { first, bytes, unsent_bytes }, ReceiveQueue { first: unread_first, bytes: unread })
    }
}

prop_compose! {
    fn states()(
        (v6, mapped) in any::<(bool, bool)>(),
        ports in (1u16.., 1u16..),
        (send, receive) in queues(),
        phase in prop::sample::select(vec![Phase::Established, Phase::CloseWait, Phase::FinWait1, Phase::Closing]),
        (snd_wl1, rcv_wup, rcv_wnd, snd_wnd) in any::<(u32, u32, u16, u16)>(),
        (sack, ecn, timestamp) in any::<(bool, bool, Option<u32>)>(),
        scales in prop::option::of((0u8..15, 0u8..15)),
        mss in 1u16..,
        options in prop::collection::vec((prop::sample::select(SocketOption::ALL), any::<i64>()), 0..30),
    ) -> ConnectionState {
        let host = if v6 { "2001:db8::" } else { "198.18.0." };
        let at = |n: u8, port| SocketAddr::new(format!("{host}{n}").parse().unwrap(), port);
        let family = match (v6, mapped) {
            (true, _) => SocketFamily::V6,
            (false, true) => SocketFamily::MappedV4,
            (false, false) => SocketFamily::V4,
        };
        ConnectionState {
            connection: Connection::new(Protocol::Tcp, at(2, ports.0), at(9, ports.1)).unwrap(),
            family, phase, send, receive,
            windows: Windows { snd_wl1, snd_wnd: snd_wnd.into(), max_window: 65535, rcv_wnd: rcv_wnd.into(), rcv_wup },
            mss,
            scales: scales.map(|(send, receive)| WindowScales { send, receive }),
            sack, timestamp, ecn, options,
            congestion_control: "cubic".to_owned(),
        }
    }
}

fn some_state() -> ConnectionState {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    states().new_tree(&mut runner).unwrap().current()
}

proptest! {
    #[test]
    fn what_is_written_is_read(state in states()) {
        prop_assert_eq!(ConnectionState::decode(&state.encode()).unwrap(), state);
    }

    #[test]
    fn any_bytes_are_a_possible_state_or_an_error(
        state in states(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = state.encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(cut.index(bytes.len()).max(at) + 1);
        if let Ok(state) = ConnectionState::decode(&bytes) {
            prop_assert!(state.check().is_ok());
        }
    }
}

#[test]
fn another_version_is_refused_by_its_number() {
    let mut bytes = some_state().encode();
    assert_eq!(bytes[1], VERSION);
    bytes[1] = 2;
    assert!(matches!(ConnectionState::decode(&bytes), Err(StateError::Version(2))));
}

#[test]
fn a_socket_option_of_newer_software_is_skipped() {
    let mut bytes = Vec::new();
    let mut e = minicbor::Encoder::new(&mut bytes);
    e.array(2).unwrap().array(2).unwrap().u16(999).unwrap().i64(1).unwrap();
    e.array(2).unwrap().u16(SocketOption::Mark as u16).unwrap().i64(7).unwrap();
    let options = wire_options::decode(&mut Decoder::new(&bytes), &mut ()).unwrap();
    assert_eq!(options, [(SocketOption::Mark, 7)]);
}

/// 65 535 bytes at a scale of 14.
const LARGEST_WINDOW: u32 = 65_535 << 14;

#[test]
fn the_largest_of_everything_is_possible() {
    let mut state = some_state();
    (state.send, state.receive) = (SendQueue::default(), ReceiveQueue::default());
    state.receive.bytes = vec![0; MAX_QUEUED_BYTES];
    let windows = (LARGEST_WINDOW, LARGEST_WINDOW, LARGEST_WINDOW);
    (state.windows.snd_wnd, state.windows.max_window, state.windows.rcv_wnd) = windows;
    state.scales = Some(WindowScales { send: 14, receive: 14 });
    state.congestion_control = "c".repeat(MAX_CONGESTION_CONTROL_BYTES);
    state.check().unwrap();
    (state.phase, state.receive.bytes) = (Phase::FinWait2, Vec::new());
    state.check().unwrap();
    // The largest state fits a parcel.
    assert_eq!(crate::transfer::MAX_SOCKET_BYTES - MAX_QUEUED_BYTES, 64 << 10);
}

#[test]
fn what_no_connection_is_like_is_refused() {
    type Change = fn(&mut ConnectionState);
    let changes: [(&str, Change); 16] = [
        ("another family", |s| {
            s.family = if s.family == SocketFamily::V6 { SocketFamily::V4 } else { SocketFamily::V6 };
        }),
        ("a port is 0", |s| s.connection.client.set_port(0)),
        ("a port is 0", |s| s.connection.dvipa.set_port(0)),
        ("unacknowledged", |s| {
            s.phase = Phase::FinWait2;
            s.send = SendQueue { bytes: vec![1], ..SendQueue::default() };
        }),
        ("no scale can say", |s| s.windows.max_window = LARGEST_WINDOW + 1),
        ("no scale can say", |s| s.windows.rcv_wnd = LARGEST_WINDOW + 1),
        ("above 14", |s| s.scales = Some(WindowScales { send: 0, receive: 15 })),
        ("proper name", |s| s.congestion_control = "c".repeat(MAX_CONGESTION_CONTROL_BYTES + 1)),
        ("too long", |s| s.send = SendQueue { bytes: vec![0; MAX_QUEUED_BYTES + 1], ..SendQueue::default() }),
        ("more unsent", |s| s.send.unsent_bytes = s.send.bytes.len() as u32 + 1),
        ("too long", |s| s.receive.bytes = vec![0; MAX_QUEUED_BYTES + 1]),
        ("larger than the largest", |s| s.windows.snd_wnd = s.windows.max_window + 1),
        ("above 14", |s| s.scales = Some(WindowScales { send: 15, receive: 0 })),
        ("MSS", |s| s.mss = 0),
        ("proper name", |s| s.congestion_control = "a\0b".into()),
        ("not TCP", |s| s.connection.protocol = Protocol::Udp),
    ];
    for (words, change) in changes {
        let mut state = some_state();
        state.check().unwrap();
        change(&mut state);
        let error = ConnectionState::decode(&state.encode()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn sequence_numbers_count_the_fins_and_wrap() {
    let mut state = some_state();
    state.phase = Phase::LastAck;
    state.receive = ReceiveQueue { first: u32::MAX - 1, bytes: vec![0; 3] };
    assert_eq!(state.receive_next(), 2);
    state.phase = Phase::FinWait2;
    state.send = SendQueue { first: u32::MAX, bytes: Vec::new(), unsent_bytes: 0 };
    assert_eq!(state.send_unacknowledged(), 0);
    assert_eq!(state.receive_next(), 1);
}

#[test]
fn queues_are_cut_where_the_unsent_bytes_begin_and_take_back_what_was_read() {
    let mut state = some_state();
    state.send = SendQueue { first: u32::MAX, bytes: b"sent, unsent".to_vec(), unsent_bytes: 6 };
    assert_eq!(state.send.split(), (&b"sent, "[..], &b"unsent"[..]));
    (state.phase, state.receive) = (Phase::Established, ReceiveQueue { first: 2, bytes: b"est".to_vec() });
    assert_eq!((state.send_unacknowledged(), state.send_next(), state.receive_next()), (u32::MAX, 5, 5));
    state.receive.give_back(b"requ");
    assert_eq!(state.receive, ReceiveQueue { first: u32::MAX - 1, bytes: b"request".to_vec() });
    state.options = vec![(SocketOption::Mark, 7), (SocketOption::Ttl, 64)];
    let [mark, hops, ttl] =
        [SocketOption::Mark, SocketOption::HopLimit, SocketOption::Ttl].map(|o| state.option(o));
    assert_eq!((mark, hops, ttl), (Some(7), None, Some(64)));
}

#[test]
fn a_phase_says_which_fins_there_were() {
    let fins = [
        (Phase::Established, false, false),
        (Phase::CloseWait, true, false),
        (Phase::FinWait1, false, true),
        (Phase::FinWait2, false, true),
        (Phase::Closing, true, true),
        (Phase::LastAck, true, true),
    ];
    for (phase, received, queued) in fins {
        assert_eq!((phase.fin_received(), phase.fin_queued()), (received, queued), "{phase:?}");
    }
}
