//! What can become of a packet, and why: each declared once, with its sentence.
//!
//! A reason is the counter, the metric label, the word in displays and the line in the docs.

use model::Blame;

/// What kind of thing a [`Reason`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A received packet's end: it was forwarded, passed on or answered.
    Done,
    /// A received packet's end: it was dropped, and this is who can mend it.
    Dropped(Blame),
    /// Something that happened besides; not a packet's end.
    Note,
}

macro_rules! reasons {
    ($($kind:expr => { $($variant:ident $name:literal $sentence:literal,)+ })+) => {
        /// What became of a packet, or something that happened on its way. Every received packet ends in exactly one
        /// reason of the kinds [`Kind::Done`] and [`Kind::Dropped`], or is still held.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[doc = $sentence] $variant,)+)+
        }

        impl Reason {
            /// Every reason, in the order in which they should be shown.
            pub const ALL: &'static [Reason] = &[$($(Reason::$variant,)+)+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name in snake_case: counter and metric label.
            pub fn name(self) -> &'static str {
                match self { $($(Reason::$variant => $name,)+)+ }
            }

            /// What it means, as a sentence for operators.
            pub fn sentence(self) -> &'static str {
                match self { $($(Reason::$variant => $sentence,)+)+ }
            }

            /// What kind of thing it counts.
            pub fn kind(self) -> Kind {
                match self { $($(Reason::$variant)|+ => $kind,)+ }
            }
        }
    };
}

reasons! {
    Kind::Done => {
        Forwarded "forwarded" "Sent to the stack that has its connection.",
        ForwardedNew "forwarded_new" "First packet of a connection, sent to the target that was selected for it.",
        ForwardedHandoff "forwarded_handoff" "Sent with the handoff option to the stack that its connection is being handed over to.",
        ForwardedFragment "forwarded_fragment" "Non-first fragment, sent after its first one.",
        ForwardedIcmpError "forwarded_icmp_error" "ICMP error about a connection, sent to the stack that has it.",
        ForwardedEcho "forwarded_echo" "ICMP echo reply, sent to the target that asked with the DVIPA as its source.",
        Outgoing "outgoing" "First SYN of a connection, datagram or echo request that a target sends with its DVIPA, decapsulated and sent on its way.",
        PassedToLocal "passed_to_local" "Not for a DVIPA: handed to the node's own kernel.",
        PassedToNic "passed_to_nic" "Not for a DVIPA: sent out for the node's own kernel.",
        AnsweredArp "answered_arp" "ARP request for a DVIPA, answered.",
        AnsweredNeighbour "answered_neighbour" "IPv6 neighbour solicitation for a DVIPA, answered.",
        DvipaDefended "dvipa_defended" "Another host claimed a DVIPA of this node in ARP or neighbour discovery: it was announced anew (RFC 5227 section 2.4).",
        AnsweredEcho "answered_echo" "ICMP echo request to a DVIPA, answered.",
        AnsweredTooBig "answered_too_big" "Too long once encapsulated: the sender was told the path MTU.",
        RefusedReset "refused_reset" "Nothing serves it: its sender was told with a TCP reset.",
        RefusedUnreachable "refused_unreachable" "Nothing serves it: its sender was told that the port is unreachable.",
        AnsweredSyn "answered_syn" "SYN to a service with routes, answered by this node; nothing is kept.",
        AnsweredSegment "answered_segment" "Probe, end or repeated segment of a client whose first request is not whole, answered by this node.",
        Handshake "handshake" "Acknowledgment without data of a client that has sent no request yet: nothing is kept of it.",
        RefusedRequest "refused_request" "First request that no route or no target takes, or that can't be read: answered with the protocol's own refusal.",
        AnsweredTimeExceeded "answered_time_exceeded" "TTL or hop limit used up: the sender was told.",
    }
    Kind::Dropped(Blame::Client) => {
        Truncated "truncated" "The frame ends within a header that it needs.",
        BadLength "bad_length" "Length fields contradict each other or the frame.",
        BadHeader "bad_header" "An IP header has an impossible version, header length or extension.",
        BadChecksum "bad_checksum" "The IPv4 header checksum, or that of an ICMP message to be answered, is wrong.",
        BadSource "bad_source" "The source address is one that no sender may have.",
        BadNeighbour "bad_neighbour" "A neighbour solicitation for a DVIPA breaks RFC 4861 section 7.1.1.",
        NoConnection "no_connection" "A TCP reset or fragment that belongs to no connection; the sender of such a packet is not told.",
        ProtocolUnsupported "protocol_unsupported" "To a DVIPA, but neither TCP, UDP nor ICMP.",
        IcmpUnsupported "icmp_unsupported" "An ICMP message to a DVIPA that is neither a whole echo request or reply nor a whole error.",
        IcmpUnmatched "icmp_unmatched" "An ICMP error that quotes no known connection, or an echo reply that no target asked for.",
        FragmentUnmatched "fragment_unmatched" "A fragment whose first fragment did not come in time.",
        RequestFragmented "request_fragmented" "IP fragment of a connection to a service with routes whose target is not selected yet.",
        RequestSlow "request_slow" "Segment of a first request of which nothing new came for 5 s, or that was not whole after 30 s, or gave way to another one.",
        RequestCut "request_cut" "Segment of a first request whose client has ended the connection.",
        RequestRefused "request_refused" "Further segment of a first request that was refused.",
        RequestEarly "request_early" "Segment to a service with routes that came before the one in which its connection's first or next request begins; the client retransmits it.",
        ClientLimited "client_limited" "It would begin a connection to a service, and its client (of IPv6: its /64) has reached the limit of new connections a second (`client_new_connections_per_s`).",
        HopLimit "hop_limit" "TTL or hop limit used up, and the sender may not be told about such a packet.",
    }
    Kind::Dropped(Blame::Peer) => {
        OutgoingRefused "outgoing_refused" "Encapsulated by a target with its DVIPA as source, but neither the first SYN of a connection nor a whole datagram or echo request, or of another stack's connection.",
        Congested "congested" "A target's first SYN met congestion on its way and can't carry the mark (RFC 6040 section 4.2).",
        DvipaConflict "dvipa_conflict" "Another host claims a DVIPA of this node in ARP or neighbour discovery, which was announced anew less than ten seconds ago.",
    }
    Kind::Dropped(Blame::Operator) => {
        RefusedSilent "refused_silent" "Nothing serves it, and by `refuse` of its service or DVIPA its sender is not told.",
        AskUnanswered "ask_unanswered" "Its connection has no entry, no stack has claimed it, and not every stack that may have it could answer; the client retransmits it.",
        ServiceLimited "service_limited" "It would begin a connection to a service that has reached its limit of new connections a second (`new_connections_per_s`).",
        NextHopUnresolved "next_hop_unresolved" "The link-layer address of the next hop to the target is not known.",
        StackUnreachable "stack_unreachable" "Its stack has no cluster address of a family that this node has.",
        TooBigUnfragmented "too_big_unfragmented" "Too long once encapsulated; it has IPv4 options and is not fragmented, or its sender may not be told about such a packet.",
    }
    Kind::Dropped(Blame::Us) => {
        TableFull "table_full" "A new connection found no place in the CRT.",
        Frozen "frozen" "Its connection is moving, and the buffer for waiting packets is full (64 of a connection, 1024 of the worker), or the packet has waited for 5 s; the client retransmits it.",
        HandoffUnknown "handoff_unknown" "Its connection is being handed over, and it could not be sent with the handoff option; the client retransmits it.",
        HandoffNoToken "handoff_no_token" "First request whose target has given out no token that is left; the client retransmits it.",
        RequestNoRoom "request_no_room" "Segment of a first request that is not whole, and the worker's limit of such requests (512) or of their segments (2048) is reached.",
        RequestWaits "request_waits" "Segment of a request that waits for another target than the one that has its connection, and as many wait as may (16 of a connection), or it has come before; the client retransmits it.",
        FragmentNoRoom "fragment_no_room" "A later fragment arrived before the first, and the buffer for such fragments is full (512), or its source has its share of it (64).",
        AskLimited "ask_limited" "Its connection has no entry, and the worker's limit of connections asked about (2048) or of asks a second (20000) is reached.",
        AskNoRoom "ask_no_room" "Its connection is being asked about, and the limit of its waiting packets is reached; the client retransmits.",
        AnswerLimited "answer_limited" "Its sender was not told of an error or a refusal: the worker's limit of answers (10000 a second) is reached.",
        EchoLimited "echo_limited" "An echo request to a DVIPA that was not answered: the worker's limit (10000 a second) is reached, and the share of its network (10 a second).",
        NeighbourLimited "neighbour_limited" "An ARP request or neighbour solicitation for a DVIPA that was not answered: the worker's limit (20000 a second) is reached, and the share of its sender (10 a second).",
        LocalLimited "local_limited" "For the node's own kernel and dropped: the worker's limit is reached (20000 a second of sessions and routing protocols, 20000 of ARP and neighbour discovery, 50000 of others), and the share of its network or sender (10 a second).",
        Overloaded "overloaded" "It would begin a connection while the worker receives more than it can handle, and the share of its network (50 a second) is used up; an honest client sends it again.",
        NoHeadroom "no_headroom" "No room in the packet's buffer for the outer header.",
        NoBuffer "no_buffer" "No packet buffer was free for a second fragment.",
    }
    Kind::Note => {
        ReceivedNic "received_nic" "Packets taken from the NIC.",
        ReceivedLocal "received_local" "Packets taken from the local port.",
        NotDistributed "not_distributed" "Packets that open a connection to a port that is not distributed: refused.",
        NoTarget "no_target" "Packets that open a connection while no target of the service takes new ones: refused.",
        TargetsFull "targets_full" "Packets that open a connection while each target of the service that takes new ones has as many connections as it may (`max_connections`): refused.",
        Unclaimed "unclaimed" "Packets of a connection that no stack has: refused.",
        Asked "asked" "Copies of packets sent to stacks to ask whether they have the connection.",
        AskHeld "ask_held" "Packets that had to wait while stacks were asked about their connection.",
        UnservedHeld "unserved_held" "Packets that open a connection to a port from 1024 on that no stack was known to listen on: they waited for the report of a listen.",
        UnservedNoRoom "unserved_no_room" "Packets of the same kind that could not wait, because the worker's limit (256) is reached: they went to the node's own stack at once.",
        QuietHeld "quiet_held" "SYNs on established connections of a stack of which nothing was heard for a moment: they waited until it was heard again, or was lost.",
        QuietNoRoom "quiet_no_room" "Packets of the same kind that could not wait, because the worker's limit (256) is reached: they went to the stack at once.",
        RequestHeld "request_held" "Segments of first requests that had to wait for the rest.",
        RequestUnfinished "request_unfinished" "First requests of which nothing new came for 5 s, that were not whole after 30 s, or whose client ended the connection before: refused.",
        RequestRepeated "request_repeated" "Segments of first requests that this node had acknowledged, sent to the target again.",
        RequestNext "request_next" "Further requests of connections to services with routes, each selected anew.",
        RequestElsewhere "request_elsewhere" "Further requests that are for another target than the one that has the connection: they waited until it had given the connection up.",
        RequestStayed "request_stayed" "Further requests for another target that went to the one that has the connection after all, because it did not give the connection up within 10 s, or found no place to wait (`request_no_place`); the connection stays there.",
        RequestNoPlace "request_no_place" "Further requests for another target that could not wait for it, because too many of all clients (512) or of one (64) waited already.",
        RequestPinned "request_pinned" "Connections whose further requests are not selected anew, because it is not beyond doubt where the next one begins, or others needed the place (65536): they stay with their target.",
        QuicFollowed "quic_followed" "Packets that went to the stack that their QUIC connection ID names, while their flow had no entry or another stack's: their client has changed its address.",
        QuicUnroutable "quic_unroutable" "Packets to QUIC servers whose connection ID has the rotation bits of no `quic` table, is too short, or contradicts its own length: they followed their flow.",
        QuicUnknown "quic_unknown" "Packets to QUIC servers whose connection ID has a server ID that no stack has: they followed their flow.",
        QuicGone "quic_gone" "Packets to QUIC servers whose connection ID names a stack that is dead or does not serve the port any more: they followed their flow.",
        FragmentHeld "fragment_held" "Early fragments that had to wait for the first one.",
        FrozenHeld "frozen_held" "Packets that had to wait while their connection moved.",
        FragmentMade "fragment_made" "Further fragments made of packets too long once encapsulated.",
    }
}

impl Reason {
    /// Who can mend it; `None` for what is nobody's fault.
    pub fn blame(self) -> Option<Blame> {
        match self.kind() {
            Kind::Dropped(blame) => Some(blame),
            Kind::Done | Kind::Note => None,
        }
    }
}

#[cfg(test)]
mod tests;
