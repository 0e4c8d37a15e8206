//! A toy forwarder, which encapsulates and can do to packets what a network does.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use lab::Namespace;
use lab::spec::{self, CLIENT, DVIPA};
use model::ConnectionState;
use model::handoff::{HandoffOption, TimestampUnit, Token};

/// The toy forwarder in the client's namespace.
pub(crate) struct Forwarder {
    process: Child,
    orders: ChildStdin,
    done: BufReader<ChildStdout>,
}

impl Forwarder {
    pub(crate) fn start(client: &Namespace) -> Self {
        let mut command = client.command("/usr/bin/python3");
        command.args(["-c", include_str!("forwarder.py")]).args([
            "ip link set fwd0 mtu 1400 up".to_owned(),
            format!("ip route replace {}/32 dev fwd0 src {}", DVIPA.0, CLIENT.0),
            format!("ip -6 route replace {}/128 dev fwd0 src {}", DVIPA.1, CLIENT.1),
        ]);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (orders, done) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let mut forwarder = Self { process, orders, done: BufReader::new(done) };
        forwarder.wait();
        forwarder
    }

    pub(crate) fn order(&mut self, order: &serde_json::Value) {
        // In one piece, as the other end expects it.
        self.orders.write_all(format!("{order}\n").as_bytes()).unwrap();
        self.wait();
    }

    /// The client's packets go to this host, with this option.
    pub(crate) fn send_to(&mut self, host: usize, option: Option<HandoffOption>) {
        self.send_bytes_to(host, &option.map(|option| option.encode().to_vec()).unwrap_or_default());
    }

    /// The same with any private data of GUE.
    pub(crate) fn send_bytes_to(&mut self, host: usize, option: &[u8]) {
        let target = spec::host(spec::target(u8::try_from(host).unwrap() + 1)).0;
        let option: String = option.iter().map(|byte| format!("{byte:02x}")).collect();
        self.order(&serde_json::json!({ "target": target, "option": option }));
    }

    fn wait(&mut self) {
        self.done.read_line(&mut String::new()).unwrap();
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The handoff option that goes on with this connection where it was admitted with this token.
pub(crate) fn option_of(state: &ConnectionState, token: Token) -> HandoffOption {
    let unit = |value| if value & 1 == 1 { TimestampUnit::Microsecond } else { TimestampUnit::Millisecond };
    HandoffOption {
        token,
        start: state.receive_next(),
        sent: state.send_next(),
        mss: state.mss,
        scales: state.scales,
        sack: state.sack,
        timestamps: state.timestamp.map(unit),
        ecn: state.ecn,
    }
}
