//! A kernel is given what a client had sent to another one.

use std::io::Read;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Duration;

use baton_agent::repair::{self, Unread};
use lab::spec::DVIPA;
use model::connection_state::Phase;

use crate::bench::Bench;
use crate::stream::{Way, bytes};

/// More than a socket takes whose application does not read.
const BYTES: usize = 700_000;

#[test]
#[ignore = "needs root"]
fn a_server_that_reads_slowly_gets_all_that_its_client_had_sent_and_then_its_fin() {
    let bench = Bench::new();
    for (dvipa, bind) in [(DVIPA.0.into(), "0.0.0.0:0"), (DVIPA.1.into(), "[::]:0")] {
        let (_client, server) = bench.connect(dvipa, bind);
        let host = &bench.hosts[0];
        // The client knows nothing of these bytes: it stays frozen, so that it hears no acknowledgment of them.
        let mut state = host.dump(&server).unwrap();
        repair::thaw(server.as_fd(), &state).unwrap();
        (state.receive.bytes, state.phase) = (bytes(Way::Up, 0, BYTES), Phase::CloseWait);
        let mut unread = Unread::of(state).expect("there is much");
        let mut give = || host.namespace.enter(|| unread.give()).unwrap();
        assert!(!give(), "it does not fit");
        assert!(!give(), "still not");
        let mut server = TcpStream::from(server);
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let (mut got, mut piece) = (Vec::<u8>::new(), vec![0; 10_000]);
        loop {
            let read = server.read(&mut piece).unwrap();
            if read == 0 {
                break;
            }
            got.extend(&piece[..read]);
            give();
        }
        assert!(got == bytes(Way::Up, 0, BYTES), "{} bytes, in order", got.len());
        assert!(give(), "with the FIN it has everything");
    }
}
