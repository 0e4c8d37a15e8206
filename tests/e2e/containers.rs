//! Containers of the cluster's hosts: network namespaces behind a bridge, reached by the host's DNAT, as Docker's are.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use lab::client::HttpConnection;
use lab::spec;
use lab::{Lab, Spec};
use nix::sys::signal::Signal;

use crate::fixture::{SOON, dvipa4, established, lab, still_answered_by, web4, web6};

/// Where the containers are (RFC 5737, RFC 3849).
const BRIDGE: [&str; 2] = ["192.0.2.1", "2001:db8:ffff::1"];
const CONTAINER: [&str; 2] = ["192.0.2.2", "2001:db8:ffff::2"];
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
         echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
         ip link add br0 type bridge
         ip addr add {}/24 dev br0
         ip addr add {}/64 dev br0 nodad
         ip link set br0 up
         nft 'add table ip nat
              add chain ip nat pre {{ type nat hook prerouting priority -100; }}
              add rule ip nat pre fib daddr type local tcp dport {PORT} dnat to {}:80
              add chain ip nat post {{ type nat hook postrouting priority 100; }}
              add rule ip nat post ip saddr 192.0.2.0/24 oifname != \"br0\" masquerade
              add table ip6 nat
              add chain ip6 nat post {{ type nat hook postrouting priority 100; }}
              add rule ip6 nat post ip6 saddr 2001:db8:ffff::/64 oifname != \"br0\" masquerade'",
        BRIDGE[0], BRIDGE[1], CONTAINER[0],
    );
    lab.sh_on("t1", &script).expect("t1 is prepared for containers");
}

/// Runs a program in a container of `t1`: in a new network namespace, which ends with it.
fn run(lab: &Lab, program: &[&str]) {
    let at = lab.files().join("container.pid");
    let _ = std::fs::remove_file(&at);
    let inside = format!(
        "echo $$ >{at}.new; mv {at}.new {at}
         until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
         ip link set lo up; ip link set eth0 up
         ip addr add {}/24 dev eth0; ip addr add {}/64 dev eth0 nodad
         ip route add default via {}; ip route add default via {}
         exec \"$@\"",
        CONTAINER[0],
        CONTAINER[1],
        BRIDGE[0],
        BRIDGE[1],
        at = at.display()
    );
    let words = [&["unshare", "--net", "sh", "-e", "-c", &inside, "container"], program].concat();
    lab.start_on("t1", "container", &words).expect("it starts");
    let script = format!(
        "ip link del c0 2>/dev/null || true
         ip link add c0 type veth peer name c1
         ip link set c0 master br0 up
         ip link set c1 name eth0 netns {}",
        id(lab)
    );
    // Renamed and moved at once: the host has an eth0 already.
    lab.sh_on("t1", &script).expect("the container is on the bridge");
}

/// The process that the container is, as its host numbers it.
fn id(lab: &Lab) -> String {
    let at = lab.files().join("container.pid");
    let id = lab.wait_for("the container", SOON, || std::fs::read_to_string(&at).map_err(|e| e.to_string()));
    id.unwrap_or_else(|e| panic!("{e}")).trim().to_owned()
}

fn kill(lab: &Lab) {
    if lab.spec().is_guest("t1") {
        lab.sh_on("t1", &format!("kill -9 {}", id(lab))).map(drop)
    } else {
        lab.kill("container").map(drop)
    }
    .expect("it is killed");
}

fn serve(lab: &Lab) {
    run(lab, &["/usr/bin/python3", "-c", SERVER]);
    lab.wait_for_targets(PORT, &["t1"]).expect("the container listens");
}

/// Has the agent of `t1` know which port leads to the container.
fn restart_agent_with_container(lab: &Lab) {
    let file = lab.files().join("t1.toml");
    let text = std::fs::read_to_string(&file).expect("it is read");
    let container = format!("\n[[container]]\nport = {PORT}\naddress = \"{}:80\"\n", CONTAINER[0]);
    std::fs::write(&file, text + &container).expect("it is written");
    restart_agent(lab);
}

fn restart_agent(lab: &Lab) {
    if lab.spec().is_guest("t1") {
        let script =
            "kill $(cat /run/agent-t1.pid); while kill -0 $(cat /run/agent-t1.pid); do sleep 0.1; done";
        lab.sh_on("t1", script).map(drop)
    } else {
        lab.stop("agent-t1", Signal::SIGTERM).map(drop)
    }
    .expect("it ends");
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
    live_behind_dnat(&lab(behind_dnat()));
}

/// A lab for [`live_behind_dnat`].
pub(crate) fn behind_dnat() -> Spec {
    Spec::default().vipadynamic(spec::ipv4_only(&["ports = [8080]\ndestip = \"all\""])).web([])
}

/// A container of `t1` serves, and the entries of its connections live as long as they do.
pub(crate) fn live_behind_dnat(lab: &Lab) {
    prepare(lab);
    restart_agent_with_container(lab);
    serve(lab);
    let (mut first, mut second) = (connect(lab), connect(lab));
    for connection in [&first, &second] {
        assert_eq!(established(lab, connection).stack, "t1");
    }
    lab.kill("batond").expect("it is killed");
    lab.start_batond().expect("it starts");
    lab.wait_for_targets(PORT, &["t1"]).expect("the agent has reported");
    for connection in [&mut first, &mut second] {
        still_answered_by(connection, "container");
        assert_eq!(established(lab, connection).stack, "t1");
    }
    restart_agent(lab);
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
    established(lab, &first);
    // Without its server the container is no target, and the next one, in another namespace, is.
    kill(lab);
    lab.wait_for_targets(PORT, &[]).expect("nobody listens");
    serve(lab);
    connect(lab);
}

/// Asks from a container of `t1`; returns who answers.
fn ask_from_container(lab: &Lab, to: SocketAddr) -> String {
    let answer = lab.files().join("answer");
    let _ = std::fs::remove_file(&answer);
    let script = format!(
        "curl -sS --max-time 20 --retry 10 --retry-delay 1 --retry-connrefused http://{to}/ >{0}.new && mv {0}.new {0}; sleep 600",
        answer.display()
    );
    run(lab, &["sh", "-c", &script]);
    let said = lab.wait_for("the answer to the container", IN_THE_END, || {
        std::fs::read_to_string(&answer).map_err(|e| e.to_string())
    });
    kill(lab);
    said.unwrap_or_else(|e| panic!("{e}")).trim().to_owned()
}

/// What others serve to a container of `t1`: both families.
fn others_answer(lab: &Lab) {
    for to in [web4(), web6()] {
        let answered = ask_from_container(lab, to);
        assert!(["t2", "t3"].contains(&answered.as_str()), "{to}: {answered}");
    }
}

/// R7: a container whose packets its host masquerades is a client of a DVIPA that others serve: also where its host is a
/// candidate target and has the address.
#[test]
#[ignore = "needs root"]
fn a_container_is_a_client_of_a_dvipa_that_others_serve() {
    let tables = spec::both_families("ports = [80]\ndestip = [\"t2\", \"t3\"]");
    let others = ["t2", "t3"];
    let at_candidate = Spec::default().web(others.map(spec::Web::wildcard));
    let elsewhere = Spec::default().vipadynamic(tables).web(others.map(spec::Web::wildcard));
    for spec in [elsewhere, at_candidate] {
        let lab = lab(spec);
        prepare(&lab);
        others_answer(&lab);
    }
}

/// A client that keeps its connections, and writes who answered on each; a new one with each line that it reads.
const CLIENT: &str = "import http.client, os, sys, time\n\
    to, port, out = sys.argv[1:]\n\
    kept = []\n\
    while True:\n\
    \x20   wanted = os.path.exists(out + '.more') + 1\n\
    \x20   while len(kept) < wanted:\n\
    \x20       kept.append(http.client.HTTPConnection(to, int(port), timeout=20)); kept[-1].connect(); kept[-1].auto_open = 0\n\
    \x20   said = []\n\
    \x20   for k in kept:\n\
    \x20       try: k.request('GET', '/'); said.append(k.getresponse().read().decode().strip())\n\
    \x20       except Exception as e: said.append(repr(e))\n\
    \x20   open(out + '.new', 'w').write(' '.join(said)); os.rename(out + '.new', out); time.sleep(0.1)\n";

fn wait_for_answers(lab: &Lab, out: &Path, what: &str, good: impl Fn(&[&str]) -> bool) -> Vec<String> {
    let _ = std::fs::remove_file(out);
    let look = || {
        let said = std::fs::read_to_string(out).map_err(|e| e.to_string())?;
        let words: Vec<&str> = said.split_whitespace().collect();
        if good(&words) { Ok(words.iter().map(ToString::to_string).collect()) } else { Err(said) }
    };
    lab.wait_for(what, SOON, look).unwrap_or_else(|e| panic!("{e}"))
}

/// R7: a container's connection stays where it began when its host begins to serve the port; new ones are served by the host.
#[test]
#[ignore = "needs root"]
fn a_containers_connection_stays_when_its_host_begins_to_serve() {
    let lab = lab(Spec::default().web(["t2", "t3"].map(spec::Web::wildcard)));
    prepare(&lab);
    others_answer(&lab);
    for to in [web4(), web6()] {
        let out = lab.files().join("kept");
        let more = out.with_extension("more");
        let _ = std::fs::remove_file(&more);
        let (address, port) = (to.ip().to_string(), to.port().to_string());
        run(&lab, &["/usr/bin/python3", "-c", CLIENT, &address, &port, &out.to_string_lossy()]);
        let before = wait_for_answers(&lab, &out, "the first answer", |said| ["t2", "t3"].contains(&said[0]));
        lab.start_web("t1").expect("t1 serves");
        lab.wait_for_targets(80, &["t1", "t2", "t3"]).expect("t1 is a target");
        std::fs::write(&more, "").expect("it is written");
        let after = wait_for_answers(&lab, &out, "two answers", |said| said.len() == 2);
        assert_eq!(after, [before[0].as_str(), "t1"]);
        kill(&lab);
        lab.kill_all("t1", "nginx").expect("nginx is killed");
        lab.wait_for_targets(80, &["t2", "t3"]).expect("t1 serves no more");
    }
}

/// R7, R9: what lets containers reach what others serve is put right when it is changed, and `--cleanup` takes it away: the host's routing
/// rules are what they were.
#[test]
#[ignore = "needs root"]
fn what_lets_containers_out_is_put_right_and_taken_away() {
    let lab = lab(Spec::default().web(["t2", "t3"].map(spec::Web::wildcard)));
    let rules = |lab: &Lab| lab.host("t1").sh("ip rule; ip -6 rule").expect("the rules");
    let marked = |lab: &Lab| rules(lab).matches("fwmark 0x2000/0x2000 lookup main").count();
    let before = rules(&lab);
    prepare(&lab);
    others_answer(&lab);
    assert_eq!(marked(&lab), 2, "{}", rules(&lab));
    for change in [
        "ip rule del pref 0 fwmark 0x2000/0x2000; ip -6 rule del pref 0 fwmark 0x2000/0x2000",
        "tc qdisc del dev br0 clsact",
    ] {
        let status = lab.agent_status("t1").expect("its agent answers");
        let count = |status: &serde_json::Value| status["environment"]["put_right"].to_string();
        lab.host("t1").sh(change).expect("it is changed");
        lab.wait_for("the repair", SOON, || {
            let now = lab.agent_status("t1").map_err(|e| e.to_string())?;
            if count(&now) == count(&status) { Err(count(&now)) } else { Ok(()) }
        })
        .unwrap_or_else(|e| panic!("{change}: {e}"));
        others_answer(&lab);
    }
    // It outlives the agent, as what keeps connections does.
    lab.kill("agent-t1").expect("it is killed");
    others_answer(&lab);
    let agent = lab.program("baton-agent").expect("it is built");
    let file = lab.files().join("t1.toml");
    let cleanup = format!("{} --config {} --cleanup", agent.display(), file.display());
    let said = lab.host("t1").sh(&cleanup).expect("it cleans up");
    assert!(said.contains("routing rule") && said.contains("br0"), "{said}");
    assert_eq!(rules(&lab), before);
    // Without containers nothing is touched.
    lab.start_agent("t1").expect("it starts");
    // The container's end of the veth goes with its namespace, whenever the kernel comes to that.
    lab.host("t1").sh("ip link del br0; ip link del c0 2>/dev/null || true").expect("the bridge is gone");
    lab.wait_for_session("t1", "up").expect("it is back");
    lab.wait_for("the rules", SOON, || if marked(&lab) == 0 { Ok(()) } else { Err(rules(&lab)) })
        .unwrap_or_else(|e| panic!("{e}"));
}

/// R7: a container in a container: its packets are translated in a namespace between, which is no host of the cluster.
#[test]
#[ignore = "needs root"]
fn a_container_behind_another_namespaces_translation_is_a_client() {
    let lab = lab(Spec::default().web(["t2", "t3"].map(spec::Web::wildcard)));
    prepare(&lab);
    let (answer, to) = (lab.files().join("answer"), web4());
    let script = format!(
        "echo 1 >/proc/sys/net/ipv4/ip_forward
         nft 'add table ip nat
              add chain ip nat post {{ type nat hook postrouting priority 100; }}
              add rule ip nat post oifname eth0 masquerade'
         unshare --net sh -c 'until ip link show in0; do sleep 0.05; done
              ip link set in0 up; ip addr add 203.0.113.2/24 dev in0; ip route add default via 203.0.113.1
              curl -sS --max-time 20 --retry 10 --retry-delay 1 --retry-connrefused http://{to}/ >{0}.new && mv {0}.new {0}; sleep 600' &
         ip link add out0 type veth peer name in0
         ip addr add 203.0.113.1/24 dev out0
         ip link set out0 up
         until ip link set in0 netns $!; do sleep 0.05; done
         wait",
        answer.display()
    );
    run(&lab, &["sh", "-c", &script]);
    let said = lab.wait_for("the answer to the inner container", IN_THE_END, || {
        std::fs::read_to_string(&answer).map_err(|e| e.to_string())
    });
    let said = said.unwrap_or_else(|e| panic!("{e}"));
    assert!(["t2", "t3"].contains(&said.trim()), "{said}");
}
