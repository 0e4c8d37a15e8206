//! Containers of the cluster's hosts: network namespaces behind a bridge, reached by the host's DNAT, as Docker's are.

use std::net::SocketAddr;
use std::time::Duration;

use lab::client::HttpConnection;
use lab::spec::{self, DVIPA};
use lab::{Lab, Spec};
use nix::sys::signal::Signal;

use crate::fixture::{SOON, dvipa4, established, lab, still_answered_by};

/// Where the containers are (RFC 5737).
const BRIDGE: &str = "192.0.2.1";
const CONTAINER: &str = "192.0.2.2";
/// The port of the DVIPA that leads to port 80 of the container.
const PORT: u16 = 8080;
/// How long it may take that something is over: the agent looks every ten seconds for what it was not told.
const IN_THE_END: Duration = Duration::from_secs(30);

/// An HTTP/1.1 server on port 80 that answers with its name, and keeps connections.
const SERVER: &str = "import http.server\n\
    class H(http.server.BaseHTTPRequestHandler):\n\
    \x20   protocol_version = 'HTTP/1.1'\n\
    \x20   def log_message(self, *a): pass\n\
    \x20   def do_GET(self):\n\
    \x20       self.send_response(200); self.send_header('Content-Length', '10'); self.end_headers()\n\
    \x20       self.wfile.write(b'container\\n')\n\
    http.server.ThreadingHTTPServer(('0.0.0.0', 80), H).serve_forever()\n";

/// A bridge on `t1`, with the rules that `docker run -p 8080:80` makes; without a proxy.
fn prepare(lab: &Lab) {
    let script = format!(
        "echo 1 >/proc/sys/net/ipv4/ip_forward
         ip link add br0 type bridge
         ip addr add {BRIDGE}/24 dev br0
         ip link set br0 up
         nft 'add table ip nat
              add chain ip nat pre {{ type nat hook prerouting priority -100; }}
              add rule ip nat pre fib daddr type local tcp dport {PORT} dnat to {CONTAINER}:80
              add chain ip nat post {{ type nat hook postrouting priority 100; }}
              add rule ip nat post ip saddr 192.0.2.0/24 oifname != \"br0\" masquerade'"
    );
    lab.host("t1").sh(&script).expect("t1 is prepared for containers");
}

/// Runs a program in a container of `t1`: in a new network namespace, which ends with it.
fn run(lab: &Lab, program: &[&str]) {
    let at = lab.files().join("container.pid");
    let _ = std::fs::remove_file(&at);
    let inside = format!(
        "echo $$ >{at}.new; mv {at}.new {at}
         until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
         ip link set lo up; ip addr add {CONTAINER}/24 dev eth0; ip link set eth0 up
         ip route add default via {BRIDGE}
         exec \"$@\"",
        at = at.display()
    );
    let words = [&["unshare", "--net", "sh", "-e", "-c", &inside, "container"], program].concat();
    lab.start_on("t1", "container", &words).expect("it starts");
    let id = lab.wait_for("the container", SOON, || std::fs::read_to_string(&at).map_err(|e| e.to_string()));
    let id = id.unwrap_or_else(|e| panic!("{e}"));
    let script = format!(
        "ip link del c0 2>/dev/null || true
         ip link add c0 type veth peer name c1
         ip link set c0 master br0 up
         ip link set c1 name eth0 netns {}",
        id.trim()
    );
    // Renamed and moved at once: the host has an eth0 already.
    lab.host("t1").sh(&script).expect("the container is on the bridge");
}

fn serve(lab: &Lab) {
    run(lab, &["/usr/bin/python3", "-c", SERVER]);
    lab.wait_for_targets(PORT, &["t1"]).expect("the container listens");
}

/// Has the agent of `t1` know which port leads to the container.
fn restart_agent_with_container(lab: &Lab) {
    let file = lab.files().join("t1.toml");
    let text = std::fs::read_to_string(&file).expect("it is read");
    let container = format!("\n[[container]]\nport = {PORT}\naddress = \"{CONTAINER}:80\"\n");
    std::fs::write(&file, text + &container).expect("it is written");
    restart_agent(lab);
}

fn restart_agent(lab: &Lab) {
    lab.stop("agent-t1", Signal::SIGTERM).expect("it ends");
    lab.start_agent("t1").expect("it starts");
    lab.wait_for_session("t1", "up").expect("it is back");
}

fn connect(lab: &Lab) -> HttpConnection {
    let mut connection = HttpConnection::open(lab.client(), dvipa4(PORT)).expect("the client connects");
    still_answered_by(&mut connection, "container");
    connection
}

/// R2, R7: a container behind the host's DNAT serves clients of a DVIPA. It is a target while it listens; the entries of its
/// connections are made and end with them, and outlive the agent and the routing stack.
#[test]
#[ignore = "needs root"]
fn a_container_behind_dnat_is_a_target_and_its_entries_live_as_long_as_its_connections() {
    let tables = spec::ipv4_only(&["ports = [8080]\ndestip = \"all\""]);
    let lab = lab(Spec::default().vipadynamic(tables).web([]));
    prepare(&lab);
    restart_agent_with_container(&lab);
    serve(&lab);
    let (mut first, mut second) = (connect(&lab), connect(&lab));
    for connection in [&first, &second] {
        assert_eq!(established(&lab, connection).stack, "t1");
    }
    lab.kill("batond").expect("it is killed");
    lab.start_batond().expect("it starts");
    lab.wait_for_targets(PORT, &["t1"]).expect("the agent has reported");
    for connection in [&mut first, &mut second] {
        still_answered_by(connection, "container");
        assert_eq!(established(&lab, connection).stack, "t1");
    }
    restart_agent(&lab);
    lab.wait_for_targets(PORT, &["t1"]).expect("the container listens still");
    still_answered_by(&mut first, "container");
    let gone = second.local().to_string();
    drop(second);
    lab.wait_for("the end of the entry", IN_THE_END, || {
        let rows = lab.crt(&[]).map_err(|e| e.to_string())?;
        let left = rows.iter().find(|row| row.client == gone && row.state != "closing");
        left.map_or(Ok(()), |row| Err(format!("{row:#?}")))
    })
    .unwrap_or_else(|e| panic!("{e}"));
    still_answered_by(&mut first, "container");
    established(&lab, &first);
    // Without its server the container is no target, and the next one, in another namespace, is.
    lab.kill("container").expect("it is killed");
    lab.wait_for_targets(PORT, &[]).expect("nobody listens");
    serve(&lab);
    connect(&lab);
}

/// Asks from a container of `t1`; returns who answers.
fn ask_from_container(lab: &Lab, to: SocketAddr) -> String {
    let answer = lab.files().join("answer");
    let _ = std::fs::remove_file(&answer);
    let script = format!(
        "curl -sS --max-time 20 --retry 5 --retry-connrefused http://{to}/ >{0}.new && mv {0}.new {0}; sleep 600",
        answer.display()
    );
    run(lab, &["sh", "-c", &script]);
    let said = lab.wait_for("the answer to the container", IN_THE_END, || {
        std::fs::read_to_string(&answer).map_err(|e| e.to_string())
    });
    lab.kill("container").expect("it is killed");
    said.unwrap_or_else(|e| panic!("{e}")).trim().to_owned()
}

/// R7: a container whose packets its host masquerades is a client of a DVIPA that others serve: also where its host is a
/// candidate target and has the address, with the rules that the documentation names.
#[test]
#[ignore = "needs root"]
fn a_container_is_a_client_of_a_dvipa_that_others_serve() {
    let tables = spec::ipv4_only(&["ports = [80]\ndestip = [\"t2\", \"t3\"]"]);
    let to = dvipa4(80);
    let others = ["t2", "t3"];
    let at_candidate = Spec::default().web(others.map(spec::Web::wildcard));
    let elsewhere = Spec::default().vipadynamic(tables).web(others.map(spec::Web::wildcard));
    for (spec, is_candidate) in [(elsewhere, false), (at_candidate, true)] {
        let lab = lab(spec);
        prepare(&lab);
        if is_candidate {
            let script = format!(
                "ip rule add pref 1 lookup local
                 ip rule add pref 0 iif br0 to {} lookup main
                 ip rule del pref 0 lookup local",
                DVIPA.0
            );
            lab.host("t1").sh(&script).expect("the rules are set");
        }
        let answered = ask_from_container(&lab, to);
        assert!(others.contains(&answered.as_str()), "{answered}");
    }
}
