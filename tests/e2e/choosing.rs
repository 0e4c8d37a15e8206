//! Choices that a routing application leaves to the cluster.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use app::{
    Choice, JobName, Refusal, Registration, RoutingApplication, Target, TargetApplication, TargetState,
    TargetView, Terms, WeightFrom,
};
use lab::client::HttpConnection;
use lab::spec::{CLIENT, DVIPA, ipv4_only};
use lab::{Lab, Spec};
use serde_json::Value;

use crate::fixture::{SOON, dvipa4, lab};

const STACKS: [&str; 3] = ["t1", "t2", "t3"];
/// The content-routed ports, and how their targets are chosen.
const ROUND_ROBIN: u16 = 80;
const WEIGHTED: u16 = 81;
const LEAST: u16 = 82;
const MAGLEV: u16 = 83;
const POLICY: u16 = 84;
const LOAD: u16 = 85;
const ROUTED: [(u16, &str); 6] = [
    (ROUND_ROBIN, "method = \"round-robin\""),
    (WEIGHTED, "method = \"weighted-round-robin\"\nweights = { t1 = 6, t2 = 3, t3 = 1 }"),
    (LEAST, "method = \"least-connections\""),
    (MAGLEV, "method = \"maglev\""),
    (POLICY, "[[vipadynamic.vipadistribute.policy]]\nclient = \"198.18.1.0/24\"\ndestip = [\"t3\"]"),
    (LOAD, "method = \"weighted-round-robin\"\nweights = \"load\""),
];
/// A port with the same targets and method as [`MAGLEV`], whose clients are given targets at their SYN.
const BY_SYN: u16 = 90;

/// A router that knows no target, and three applications that say where they are.
struct Field {
    lab: Lab,
    router: RoutingApplication,
    listeners: BTreeMap<u16, TcpListener>,
}

/// A client that was moved, and what said it.
struct Client {
    stream: TcpStream,
    answered_by: String,
}

fn registration(lab: &Lab, job: &str, stack: &str) -> Registration {
    let registration = Registration::new(job, DVIPA.0.into(), &ROUTED.map(|(port, _)| port));
    registration.expect("a job's name").socket(lab.applications(stack))
}

fn field() -> Field {
    let destip = "destip = [\"t1\", \"t2\", \"t3\"]";
    let routed =
        ROUTED.map(|(port, keys)| format!("ports = [{port}]\n{destip}\ncontent_routed = true\n{keys}"));
    let by_syn = format!("ports = [{BY_SYN}]\n{destip}\nmethod = \"maglev\"");
    let tables: Vec<&str> = routed.iter().map(String::as_str).chain([by_syn.as_str()]).collect();
    let lab = lab(Spec::content_routed().vipadynamic(ipv4_only(&tables)));
    for stack in STACKS {
        let target = TargetApplication::register(&registration(&lab, "where", stack)).expect("a target");
        thread::spawn(move || answer_offers(&target, stack));
        let listener = lab.host(stack).enter(|| TcpListener::bind(dvipa4(BY_SYN))).expect("it listens");
        thread::spawn(move || listener.incoming().flatten().for_each(|client| answer(client, stack)));
    }
    let router = RoutingApplication::register(&registration(&lab, "router", "rt1")).expect("a router");
    let listen =
        |(port, _)| (port, lab.host("rt1").enter(|| TcpListener::bind(dvipa4(port))).expect("it listens"));
    let listeners = ROUTED.map(listen).into_iter().collect();
    for (port, _) in ROUTED {
        lab.wait_for_targets(port, &["rt1"]).unwrap_or_else(|e| panic!("{e}"));
        lab.wait_for("the targets of the port", SOON, || {
            let targets = router.targets(port).map_err(|e| e.to_string())?;
            if targets.len() == STACKS.len() { Ok(()) } else { Err(format!("{targets:?}")) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
    }
    lab.wait_for_targets(BY_SYN, &STACKS).unwrap_or_else(|e| panic!("{e}"));
    Field { lab, router, listeners }
}

fn answer_offers(target: &TargetApplication, stack: &'static str) {
    // Ends with the lab's agent.
    while let Ok(offer) = target.next_offer(None) {
        let Ok(offer) = offer.expect("without a time-out").accept() else { continue };
        answer(offer.stream, stack);
    }
}

/// Says where it is, and keeps the connection until the client ends it.
fn answer(mut client: TcpStream, stack: &'static str) {
    let said = writeln!(client, "{stack}");
    thread::spawn(move || said.and_then(|()| client.read(&mut [0])));
}

fn line(stream: &TcpStream) -> String {
    stream.set_read_timeout(Some(SOON)).expect("set");
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap_or_else(|e| panic!("no answer: {e}"));
    line.trim().to_owned()
}

impl Field {
    /// A client, and its connection as the router has it.
    fn connect(&self, from: SocketAddr, port: u16) -> (TcpStream, TcpStream) {
        let client = HttpConnection::open_from(self.lab.client(), from, dvipa4(port)).expect("it connects");
        let (server, _) = self.listeners[&port].accept().expect("the router accepts");
        (client.into_stream(), server)
    }

    /// A client of which the cluster chooses the target.
    fn route_from(&self, from: SocketAddr, port: u16) -> Client {
        let (stream, server) = self.connect(from, port);
        let peer = server.peer_addr().expect("it is connected");
        let target = self.router.choose(port, peer, &Choice::all()).unwrap_or_else(|e| panic!("{port}: {e}"));
        self.router.transfer(server, &target, &waits()).unwrap_or_else(|e| panic!("{target}: {e}"));
        let answered_by = line(&stream);
        assert_eq!(target.stack.as_str(), answered_by, "the chosen one");
        Client { stream, answered_by }
    }

    fn route(&self, port: u16) -> Client {
        self.route_from(any_port(CLIENT.0.into()), port)
    }

    /// How many of these clients were moved to which stack.
    fn counts(&self, port: u16, clients: usize) -> Vec<usize> {
        let targets: Vec<String> = (0..clients).map(|_| self.route(port).answered_by).collect();
        STACKS.iter().map(|stack| targets.iter().filter(|target| target == stack).count()).collect()
    }

    /// A client that is moved to a target by name: whether it is, and what says it if not.
    fn by_name(&self, from: SocketAddr, port: u16, stack: &str) -> Result<(), Refusal> {
        let (stream, server) = self.connect(from, port);
        let target: Target = format!("where@{stack}").parse().expect("JOB@STACK");
        match self.router.transfer(server, &target, &waits()) {
            Ok(()) => {
                assert_eq!(line(&stream), stack);
                Ok(())
            }
            Err(refused) => Err(refused.error.refusal().expect("a refusal")),
        }
    }

    fn view(&self, port: u16, stack: &str) -> TargetView {
        let views = self.router.target_views(port).expect("they are shown");
        views.into_iter().find(|view| view.target.stack.as_str() == stack).expect("it is shown")
    }

    fn wait_for_view(&self, port: u16, stack: &str, is_such: impl Fn(&TargetView) -> bool) {
        self.lab
            .wait_for("the view of a target", SOON, || {
                let view = self.view(port, stack);
                if is_such(&view) { Ok(()) } else { Err(format!("{view:?}")) }
            })
            .unwrap_or_else(|e| panic!("{e}"));
    }
}

fn waits() -> Terms<'static> {
    Terms::new().unacknowledged(app::wait(SOON))
}

fn any_port(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, 0)
}

/// C16: a router that leaves the choice to the cluster moves its clients to targets as SYNs are given them: in turn, by weights, to
/// the one with the fewest connections, and by the client's address and port.
#[test]
#[ignore = "needs root"]
fn connections_are_moved_by_the_methods_that_select_targets() {
    let field = field();
    assert_eq!(field.counts(ROUND_ROBIN, 30), [10, 10, 10]);
    assert_eq!(field.counts(WEIGHTED, 40), [24, 12, 4]);
    let held: Vec<Client> = (0..9).map(|_| field.route(LEAST)).collect();
    let of = |stack: &str| held.iter().filter(|client| client.answered_by == stack).count();
    assert_eq!(STACKS.map(of), [3, 3, 3]);
    let held: Vec<Client> = held.into_iter().filter(|client| client.answered_by != "t2").collect();
    field
        .lab
        .wait_for("t2 to have none", SOON, || {
            let filters = ["--stack", "t2", "--state", "established"];
            let rows = field.lab.crt(&filters).map_err(|e| e.to_string())?;
            if rows.is_empty() { Ok(()) } else { Err(format!("{rows:#?}")) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
    let next: Vec<Client> = (0..3).map(|_| field.route(LEAST)).collect();
    let next: Vec<&str> = next.iter().map(|client| client.answered_by.as_str()).collect();
    assert_eq!(next, ["t2"; 3]);
    drop(held);
    // The same client port, given a target by its SYN at a port, and by choice at another.
    let mut of_all = BTreeMap::<String, usize>::new();
    for port in 20_000..20_012 {
        let from = SocketAddr::new(CLIENT.0.into(), port);
        let by_syn =
            HttpConnection::open_from(field.lab.client(), from, dvipa4(BY_SYN)).expect("it connects");
        let selected = line(&by_syn.into_stream());
        let chosen = field.route_from(from, MAGLEV);
        assert_eq!(selected, chosen.answered_by, "client port {port}");
        *of_all.entry(selected).or_default() += 1;
    }
    assert!(of_all.len() > 1, "{of_all:?}");
    field.lab.check().expect("everything runs");
}

/// C16: policies, a controller's weights and drains hold for choices; a target that is named is given the connection all the same,
/// unless it drains; and a crowd that chooses at once is spread.
#[test]
#[ignore = "needs root"]
fn policies_controllers_and_drains_hold_for_choices() {
    let field = field();
    field.lab.client().sh("ip addr add 198.18.1.2/15 dev eth0").expect("an address is added");
    let inside = any_port([198, 18, 1, 2].into());
    for _ in 0..4 {
        assert_eq!(field.route_from(inside, POLICY).answered_by, "t3");
    }
    assert_eq!(field.counts(POLICY, 6), [2, 2, 2]);
    assert_eq!(field.by_name(inside, POLICY, "t1"), Ok(()), "a policy is about choices");
    let dvipa = DVIPA.0.to_string();
    let weights = ["weights", &dvipa, "81", "t1=0", "t2=0", "t3=5", "--for", "600"];
    field.lab.baton(&weights).expect("weights are set");
    assert_eq!(field.counts(WEIGHTED, 4), [0, 0, 4]);
    field.wait_for_view(WEIGHTED, "t1", |view| {
        (view.state, view.weight, view.weight_from) == (TargetState::WeightZero, 0, WeightFrom::Controller)
    });
    let client = any_port(CLIENT.0.into());
    assert_eq!(field.by_name(client, WEIGHTED, "t1"), Ok(()), "so is a weight");
    field.lab.baton(&["drain", "t2"]).expect("t2 drains");
    assert_eq!(field.counts(ROUND_ROBIN, 8), [4, 0, 4]);
    field.wait_for_view(ROUND_ROBIN, "t2", |view| view.state == TargetState::Draining);
    let targets = field.router.targets(ROUND_ROBIN).expect("they are known");
    assert!(targets.iter().all(|target| target.stack.as_str() != "t2"), "{targets:?}");
    let refused = field.by_name(client, ROUND_ROBIN, "t2").expect_err("a drain is about all transfers");
    assert_eq!(refused.name(), "target_drains");
    let besides: Vec<Target> = ["where@t1", "where@t3"].map(|name| name.parse().expect("JOB@STACK")).into();
    let (_client, server) = field.connect(client, ROUND_ROBIN);
    let peer = server.peer_addr().expect("it is connected");
    let choose = |choice: &Choice<'_>| field.router.choose(ROUND_ROBIN, peer, choice);
    let none = choose(&Choice::all().besides(&besides)).expect_err("t2 drains, the others are left out");
    assert_eq!(none.refusal(), Some(Refusal::NoTarget));
    let nobodys = [JobName::new("nobody").expect("a name")];
    assert_eq!(choose(&Choice::of(&nobodys)).expect_err("nobody").refusal(), Some(Refusal::NoTarget));
    assert_eq!(choose(&Choice::all().besides(&besides[..1])).expect("t3"), besides[1]);
    field.lab.baton(&["resume", "t2"]).expect("t2 resumes");
    assert_eq!(field.counts(ROUND_ROBIN, 6), [2, 2, 2]);
    // Twelve that choose before the first of them moves.
    let crowd: Vec<_> = (0..12).map(|_| field.connect(client, LEAST)).collect();
    let chosen: Vec<Target> = crowd
        .iter()
        .map(|(_, server)| {
            let peer = server.peer_addr().expect("it is connected");
            field.router.choose(LEAST, peer, &Choice::all()).expect("a target")
        })
        .collect();
    let of = |stack: &str| chosen.iter().filter(|target| target.stack.as_str() == stack).count();
    assert!(STACKS.iter().all(|stack| (3..=5).contains(&of(stack))), "{chosen:?}");
    field.lab.check().expect("everything runs");
}

/// C16: a routing application is shown what `baton dpt` shows: the weight of each target, where it comes from, its load and its
/// connections.
#[test]
#[ignore = "needs root"]
fn a_router_is_shown_the_loads_and_weights_of_baton_dpt() {
    let field = field();
    let held: Vec<Client> = (0..5).map(|_| field.route(ROUND_ROBIN)).collect();
    for port in [WEIGHTED, LOAD] {
        field
            .lab
            .wait_for("what is shown to be what baton dpt shows", Duration::from_secs(30), || {
                let shown = shown(&field.router.target_views(port).map_err(|e| e.to_string())?);
                let dpt = of_dpt(&field.lab.baton_json(&["dpt"]).map_err(|e| e.to_string())?, port);
                let all = shown.len() == STACKS.len() && shown.iter().all(|(.., load)| load.is_some());
                // Counted every second.
                let counted = shown.iter().map(|row| row.3).sum::<u64>() >= held.len() as u64;
                if all && counted && shown == dpt { Ok(()) } else { Err(format!("{shown:?}\n{dpt:?}")) }
            })
            .unwrap_or_else(|e| panic!("{e}"));
    }
    let from = |port| field.view(port, "t1").weight_from;
    assert_eq!([WEIGHTED, LOAD].map(from), [WeightFrom::Configured, WeightFrom::Load]);
    for client in &held {
        client.stream.take_error().expect("it lives");
    }
    field.lab.check().expect("everything runs");
}

/// Stack, weight, where that comes from, connections, and the use of the processors.
type Row = (String, u64, String, u64, Option<u64>);

fn shown(views: &[TargetView]) -> Vec<Row> {
    let row = |view: &TargetView| {
        let (stack, weight) = (view.target.stack.to_string(), view.weight.into());
        let cpu = view.load.as_ref().map(|load| load.cpu_permille.into());
        (stack, weight, view.weight_from.word().to_owned(), view.connections, cpu)
    };
    views.iter().map(row).collect()
}

fn of_dpt(dpt: &Value, port: u16) -> Vec<Row> {
    let services = dpt["services"].as_array().cloned().unwrap_or_default();
    let service = services.into_iter().find(|service| service["port"] == port).unwrap_or_default();
    let row = |target: &Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        let load = target["load"]["cpu_permille"].as_u64();
        let (weight, from) = (number(&target["weight"]), text(&target["weight_source"]["from"]));
        (text(&target["target"]), weight, from, number(&target["connections"]), load)
    };
    let targets = service["targets"].as_array().cloned().unwrap_or_default();
    targets.iter().map(row).filter(|(stack, ..)| STACKS.contains(&stack.as_str())).collect()
}
