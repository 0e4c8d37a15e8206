use std::time::{Duration, Instant};

use model::{Connection, Protocol};

use super::{Bound, Change, Cookie, Listener, Picture, RECENT, Scope, Sockets};

const WEB: Listener = Listener { protocol: Protocol::Tcp, bound: Bound::AnyV4, port: 80, interface: None };
const DNS: Listener = Listener { protocol: Protocol::Udp, bound: Bound::AnyV4, port: 53, interface: None };
const LATER: Duration = Duration::from_secs(5);

fn connection(client_port: u16) -> Connection {
    let client = format!("198.18.0.2:{client_port}").parse().unwrap();
    Connection::new(Protocol::Tcp, client, "198.18.9.1:80".parse().unwrap()).unwrap()
}

fn picture(listeners: &[(Cookie, Listener)], connections: &[(Cookie, Connection)]) -> Picture {
    Picture { listeners: listeners.to_vec(), connections: connections.to_vec(), ..Picture::default() }
}

impl Sockets {
    /// Compares all of a picture at once.
    fn correct_all(&mut self, scope: Scope, picture: &Picture) -> Vec<Change> {
        let mut changes = self.correct(scope, picture.clone());
        while self.is_correcting() {
            changes.extend(self.correct_some(2, |_| true).0);
        }
        changes
    }

    fn all(&self) -> Vec<Connection> {
        self.part(&mut None, usize::MAX).0
    }
}

#[test]
fn a_picture_finds_what_no_event_told() {
    let mut sockets = Sockets::default();
    sockets.look_begins(Instant::now());
    let changes =
        sockets.correct_all(Scope::All, &picture(&[(Cookie(1), WEB)], &[(Cookie(2), connection(1))]));
    assert_eq!(changes, [Change::Listeners, Change::Opened(connection(1))]);
}

#[test]
fn a_picture_ends_what_is_not_in_it() {
    let (mut sockets, t0) = (Sockets::default(), Instant::now());
    sockets.listening(Cookie(1), WEB, t0);
    sockets.established(Cookie(2), connection(1), t0);
    sockets.established(Cookie(3), connection(2), t0 + LATER);
    sockets.look_begins(t0 + LATER + RECENT * 2);
    sockets.established(Cookie(4), connection(3), t0 + LATER + RECENT * 2);
    let mut changes = sockets.correct_all(Scope::All, &Picture::default());
    changes.sort_by_key(|c| format!("{c:?}"));
    assert_eq!(changes, [Change::Ended(connection(1)), Change::Ended(connection(2)), Change::Listeners]);
    assert_eq!(sockets.all(), [connection(3)]);
}

#[test]
fn an_event_during_a_look_counts_more_than_the_picture() {
    let (mut sockets, t0) = (Sockets::default(), Instant::now());
    sockets.established(Cookie(1), connection(1), t0);
    sockets.look_begins(t0 + LATER);
    let during = t0 + LATER * 2;
    sockets.ended(Cookie(1), during);
    sockets.established(Cookie(2), connection(2), during);
    let changes = sockets.correct_all(Scope::All, &picture(&[], &[(Cookie(1), connection(1))]));
    assert_eq!(changes, []);
    assert_eq!(sockets.all(), [connection(2)]);
}

#[test]
fn an_end_just_before_a_look_counts_more_than_the_picture() {
    let (mut sockets, t0) = (Sockets::default(), Instant::now());
    sockets.listening(Cookie(1), WEB, t0);
    sockets.ended(Cookie(1), t0 + LATER);
    sockets.look_begins(t0 + LATER + RECENT / 2);
    assert_eq!(sockets.correct_all(Scope::All, &picture(&[(Cookie(1), WEB)], &[])), []);
}

#[test]
fn a_look_at_udp_leaves_tcp_alone() {
    let (mut sockets, t0) = (Sockets::default(), Instant::now());
    sockets.listening(Cookie(1), WEB, t0);
    sockets.established(Cookie(2), connection(1), t0);
    sockets.ended(Cookie(9), t0 + LATER);
    sockets.look_begins(t0 + LATER);
    assert_eq!(sockets.correct_all(Scope::Untold, &picture(&[(Cookie(3), DNS)], &[])), [Change::Listeners]);
    assert_eq!(sockets.listeners().count(), 2);
    assert_eq!(sockets.connection_count(), 1);
}

#[test]
fn a_look_at_what_is_not_told_ends_what_a_container_listened_on() {
    let (mut sockets, container) = (Sockets::default(), Cookie(1 << Cookie::OF_CONTAINERS | 7));
    let now = Instant::now();
    sockets.look_begins(now);
    assert_eq!(sockets.correct_all(Scope::Untold, &picture(&[(container, WEB)], &[])), [Change::Listeners]);
    sockets.look_begins(now);
    assert_eq!(sockets.correct_all(Scope::Untold, &Picture::default()), [Change::Listeners]);
    assert_eq!(sockets.listeners().count(), 0);
}

#[test]
fn a_new_socket_of_the_same_connection_takes_its_place() {
    let (mut sockets, now) = (Sockets::default(), Instant::now());
    sockets.established(Cookie(1), connection(1), now);
    assert_eq!(sockets.established(Cookie(2), connection(1), now), Some(Change::Opened(connection(1))));
    assert_eq!(sockets.ended(Cookie(1), now), None, "its end is no longer the connection's");
    assert_eq!(sockets.ended(Cookie(2), now), Some(Change::Ended(connection(1))));
}

#[test]
fn a_listener_that_is_told_twice_is_one_change() {
    let (mut sockets, now) = (Sockets::default(), Instant::now());
    assert_eq!(sockets.listening(Cookie(1), WEB, now), Some(Change::Listeners));
    assert_eq!(sockets.listening(Cookie(1), WEB, now), None);
}

#[test]
fn an_end_that_was_lost_is_found_although_nothing_else_happens() {
    let (mut sockets, t0) = (Sockets::default(), Instant::now());
    sockets.established(Cookie(1), connection(1), t0);
    sockets.look_begins(t0 + LATER);
    assert_eq!(sockets.correct_all(Scope::All, &Picture::default()), [Change::Ended(connection(1))]);
}
