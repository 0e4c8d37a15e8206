//! Last stage: every packet gets its verdict, and is counted with it.

use super::bucket::{Bucket, Budgets};
use crate::traffic::{Pair, Traffic};
use crate::{Counters, Port, Reason, Sink, Tables, Verdict};

/// What a stage decided about a packet it was lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) verdict: Verdict,
    pub(crate) reason: Reason,
    /// It goes to the node's own kernel ahead of others ([`Sink::give_first`]).
    ahead: bool,
}

impl End {
    /// It is sent.
    pub(crate) fn sent(to: Port, reason: Reason) -> Self {
        Self { verdict: Verdict::Send(to), reason, ahead: false }
    }

    /// It goes to the node's own kernel ahead of others.
    pub(crate) fn ahead(reason: Reason) -> Self {
        Self { ahead: true, ..Self::sent(Port::Local, reason) }
    }

    /// It is dropped.
    pub(crate) fn dropped(reason: Reason) -> Self {
        Self { verdict: Verdict::Drop(reason), reason, ahead: false }
    }
}

/// Where packets leave the path. The only place that gives packets to the sink, so that none leaves uncounted.
///
/// In: a packet and its end. Out: the same, to the sink. Touches one counter.
#[derive(Debug)]
pub(crate) struct Out<'a, S> {
    counters: &'a Counters,
    traffic: &'a Traffic,
    sink: &'a mut S,
    forwarded: u64,
    budgets: &'a mut Budgets,
}

impl<'a, S> Out<'a, S> {
    pub(crate) fn new(counters: &'a Counters, sink: &'a mut S, budgets: &'a mut Budgets) -> Self {
        Self { counters, traffic: counters.traffic(), sink, forwarded: 0, budgets }
    }

    /// How many errors and refusals may still be sent.
    pub(crate) fn answers(&mut self) -> &mut Bucket {
        &mut self.budgets.answers
    }

    /// What may still be done.
    pub(crate) fn budgets(&mut self) -> &mut Budgets {
        self.budgets
    }

    /// Gives a received packet up.
    pub(crate) fn end<B>(&mut self, packet: B, end: End)
    where
        S: Sink<B>,
    {
        self.counters.add(end.reason, 1);
        if end.ahead { self.sink.give_first(packet) } else { self.sink.give(packet, end.verdict) }
    }

    /// Sends a packet of so many bytes to its target. One of an established connection is counted as such when the burst is over.
    #[inline(always)]
    pub(crate) fn forward<B>(
        &mut self,
        packet: B,
        (pair, bytes): (Pair, u16),
        counts: Reason,
        tables: &Tables,
    ) where
        S: Sink<B>,
    {
        self.tally(pair, bytes, tables);
        if counts == Reason::Forwarded {
            self.forwarded = self.forwarded.wrapping_add(1);
            self.sink.give(packet, Verdict::Send(Port::Nic));
        } else {
            self.end(packet, End::sent(Port::Nic, counts));
        }
    }

    /// Counts what becomes of a client's packet of so many bytes, from its IP header on, by service and stack.
    #[inline(always)]
    pub(crate) fn tally(&self, pair: Pair, bytes: u16, tables: &Tables) {
        self.traffic.count(pair, bytes, tables);
    }

    /// Gives up a packet that was made here.
    pub(crate) fn made<B>(&mut self, packet: B, verdict: Verdict)
    where
        S: Sink<B>,
    {
        self.sink.give(packet, verdict);
    }

    /// An empty packet, if there is one.
    pub(crate) fn spare<B>(&mut self) -> Option<B>
    where
        S: Sink<B>,
    {
        self.sink.spare()
    }

    /// Counts packets that came.
    pub(crate) fn received(&self, from: Port, n: u64) {
        self.note(if from == Port::Nic { Reason::ReceivedNic } else { Reason::ReceivedLocal }, n);
    }

    /// Counts what happened besides.
    pub(crate) fn note(&self, reason: Reason, n: u64) {
        self.counters.add(reason, n);
    }

    /// Counts what the burst left to count.
    pub(crate) fn finish(self) {
        self.counters.add(Reason::Forwarded, self.forwarded);
    }
}
