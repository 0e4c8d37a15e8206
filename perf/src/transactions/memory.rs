//! The same without DPDK: packets in memory, for counts of instructions.

use forwarder::path::BURST;
use forwarder::{Now, PacketBuffer, Sink, TestPacket, Verdict};

use super::{Node, Says};
use crate::renewal;

/// Where packets end.
#[derive(Default)]
struct Ended {
    packets: Vec<TestPacket>,
    sent: usize,
}

impl Sink<TestPacket> for Ended {
    #[inline]
    fn give(&mut self, packet: TestPacket, verdict: Verdict) {
        self.sent += usize::from(matches!(verdict, Verdict::Send(_)));
        self.packets.push(packet);
    }
}

/// Lets so many clients, who have been answered, say this; the processing goes through `counted`.
///
/// # Errors
/// The system's, if the memory can't be had.
///
/// # Panics
/// If the worker does not do with them what it should.
pub(crate) fn say(
    says: Says,
    (clients, routes): (u32, u32),
    counted: fn(&mut dyn FnMut()),
) -> std::io::Result<()> {
    let mut node = Node::new(clients, routes)?;
    node.fill_pools();
    if says != Says::Syn {
        all(&mut node, Says::Syn, |work| work());
    }
    all(&mut node, says, counted);
    Ok(())
}

/// All clients say this.
fn all(node: &mut Node<TestPacket>, says: Says, counted: fn(&mut dyn FnMut())) {
    let blank = node.clients.longest().get(..node.clients.bytes(says)).unwrap_or_default().to_vec();
    let (mut burst, now): (Vec<_>, Now) = (vec![], renewal::start());
    let mut ended = Ended { packets: vec![TestPacket::new(&blank); BURST], sent: 0 };
    for first in (0..node.clients.len()).step_by(BURST) {
        burst.extend(ended.packets.drain(..).map(Some));
        for (n, packet) in (first..).zip(burst.iter_mut().flatten()) {
            packet.refill(&blank);
            node.clients.write(says, n, packet.bytes_mut());
        }
        ended.sent = 0;
        counted(&mut || node.process(&mut burst, now, &mut ended));
        burst.clear();
        assert_eq!(ended.sent, if says == Says::Ack { 0 } else { BURST }, "{says:?} of client {first}");
        if says == Says::Syn {
            for (n, answer) in (first..).zip(&ended.packets) {
                node.clients.hear(n, answer.bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_of_each_client_is_handed_over() {
        for routes in [1, 10, 10_000] {
            say(Says::Request, (1024, routes), |work| work()).expect("memory");
        }
    }
}
