//! The loaders that build.rs has written, one a file of `bpf/`.

#[allow(warnings, clippy::all, clippy::undocumented_unsafe_blocks)]
mod admissions {
    include!(concat!(env!("OUT_DIR"), "/admissions.skel.rs"));
}
#[allow(warnings, clippy::all, clippy::undocumented_unsafe_blocks)]
mod answers {
    include!(concat!(env!("OUT_DIR"), "/answers.skel.rs"));
}
#[allow(warnings, clippy::all, clippy::undocumented_unsafe_blocks)]
mod clients {
    include!(concat!(env!("OUT_DIR"), "/clients.skel.rs"));
}
#[allow(warnings, clippy::all, clippy::undocumented_unsafe_blocks)]
mod ask {
    include!(concat!(env!("OUT_DIR"), "/ask.skel.rs"));
}
#[allow(warnings, clippy::all, clippy::undocumented_unsafe_blocks)]
mod conntrack {
    include!(concat!(env!("OUT_DIR"), "/conntrack.skel.rs"));
}
#[allow(warnings, clippy::all, clippy::undocumented_unsafe_blocks)]
mod containers {
    include!(concat!(env!("OUT_DIR"), "/containers.skel.rs"));
}
#[allow(warnings, clippy::all, clippy::undocumented_unsafe_blocks)]
mod conversations {
    include!(concat!(env!("OUT_DIR"), "/conversations.skel.rs"));
}
#[allow(warnings, clippy::all, clippy::undocumented_unsafe_blocks)]
mod decapsulate {
    include!(concat!(env!("OUT_DIR"), "/decapsulate.skel.rs"));
}
#[allow(warnings, clippy::all, clippy::undocumented_unsafe_blocks)]
mod egress {
    include!(concat!(env!("OUT_DIR"), "/egress.skel.rs"));
}
#[allow(warnings, clippy::all, clippy::undocumented_unsafe_blocks)]
mod handoff {
    include!(concat!(env!("OUT_DIR"), "/handoff.skel.rs"));
}
#[allow(warnings, clippy::all, clippy::undocumented_unsafe_blocks)]
mod listeners {
    include!(concat!(env!("OUT_DIR"), "/listeners.skel.rs"));
}
#[allow(warnings, clippy::all, clippy::undocumented_unsafe_blocks)]
mod ports {
    include!(concat!(env!("OUT_DIR"), "/ports.skel.rs"));
}
#[allow(warnings, clippy::all, clippy::undocumented_unsafe_blocks)]
mod sockets {
    include!(concat!(env!("OUT_DIR"), "/sockets.skel.rs"));
}

pub(super) use admissions::AdmissionsSkelBuilder;
pub(super) use answers::AnswersSkelBuilder;
pub(super) use ask::AskSkelBuilder;
pub(super) use clients::ClientsSkelBuilder;
pub(super) use conntrack::ConntrackSkelBuilder;
pub(super) use containers::ContainersSkelBuilder;
pub(super) use conversations::ConversationsSkelBuilder;
pub(super) use decapsulate::DecapsulateSkelBuilder;
pub(super) use egress::EgressSkelBuilder;
pub(super) use handoff::HandoffSkelBuilder;
pub(super) use listeners::ListenersSkelBuilder;
pub(super) use ports::PortsSkelBuilder;
pub(super) use sockets::SocketsSkelBuilder;
