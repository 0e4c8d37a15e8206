//! A connection moves through a running control thread: sessions and admin API are real, the agents keep the protocol
//! and have no kernel.

use model::CrtState;
use model::control_socket::JobName;
use model::control_socket::request::Role;
use model::message::{Application, Applications, FromStack, OrderId, Stays, Targets, ToStack};
use model::transfer::{
    Abilities, About, Active, Agreed, Consent, Done, FromHost, FromSource, FromTarget, Held, Ledger, Parcel,
    Prepare, Request, ToHost, ToSource, ToTarget, Void, Way, Why,
};

use super::*;

const ROUTED: &str = r#"
[[vipadynamic]]
[[vipadynamic.vipadefine]]
address = "198.18.9.1"
mask = 24
[[vipadynamic.vipadistribute]]
address = "198.18.9.1"
ports = [80]
destip = "all"
content_routed = true
"#;

/// An agent with a registered application.
struct Agent {
    target: Target,
    epoch: Epoch,
}

impl Agent {
    async fn start(node: &Node, stack: &str, address: [u8; 4], role: Role, job: &str) -> Self {
        let mut target = Target::greet(node, stack, address).await;
        let epoch = target.epoch().await;
        let agent = Self { target, epoch };
        agent.transfer(FromHost::Abilities(Abilities {
            ledger: Ledger(9),
            restores: true,
            injects: false,
            incarnation: 8,
        }));
        agent.register(&[(role, job)]);
        agent
    }

    fn register(&self, applications: &[(Role, &str)]) {
        let of = |(role, job): &(Role, &str)| Application {
            port: 80,
            role: *role,
            job: JobName::new(*job).unwrap(),
        };
        let dvipa = Address([198, 18, 9, 1].into());
        let listens = vec![Listening { protocol: Protocol::Tcp, port: 80, listening: true }];
        self.target.say(FromStack::Srvstat(Srvstat { dvipa, epoch: self.epoch, complete: true, listens }));
        let applications = applications.iter().map(of).collect();
        self.target.say(FromStack::Applications(Applications { dvipa, epoch: self.epoch, applications }));
    }

    fn transfer(&self, message: impl Into<FromHost>) {
        self.target.say(message.into());
    }

    /// The next message that is not about what is distributed.
    async fn hears(&mut self) -> ToStack {
        loop {
            match tokio::time::timeout(Duration::from_secs(10), self.target.events.recv()).await {
                Ok(Some(Event::Message { message: ToStack::VipaList(_), .. })) => {}
                Ok(Some(Event::Message { message, .. })) => return message,
                other => panic!("{other:?}"),
            }
        }
    }

    async fn hears_of_transfer(&mut self) -> ToHost {
        loop {
            match self.hears().await {
                ToStack::Transfer(message) => return message,
                ToStack::Targets(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The targets as it was told last, once they are these.
    async fn knows_targets(&mut self, expected: &[&str]) {
        loop {
            let ToStack::Targets(Targets { targets, .. }) = self.hears().await else { continue };
            if targets.iter().map(ToString::to_string).collect::<Vec<_>>() == expected {
                return;
            }
        }
    }
}

/// A cluster with a router beside the routing node and two target applications, and a connection at the router.
async fn cluster() -> (Node, [Agent; 3]) {
    let node = Node::start(ROUTED).await;
    let mut router = Agent::start(&node, "rt1", [198, 18, 0, 10], Role::Routing, "router").await;
    let t1 = Agent::start(&node, "t1", [198, 18, 0, 21], Role::Target, "images").await;
    let t2 = Agent::start(&node, "t2", [198, 18, 0, 22], Role::Target, "pages").await;
    router.knows_targets(&["images@t1", "pages@t2"]).await;
    let connections = connections(1000..1001);
    router.target.say(FromStack::Newconn(Newconn { first: true, last: true, connections }));
    node.eventually("/v1/crt?stack=rt1", |crt| !crt["connections"].as_array().unwrap().is_empty()).await;
    (node, [router, t1, t2])
}

/// A source's agent moves the connection there, as far as the target's application thinks about it: which transfer that is.
async fn offered(node: &Node, source: &mut Agent, target: &mut Agent, to: &str, number: u64) -> About {
    let connection = connections(1000..1001)[0];
    source.transfer(FromSource::Prepare(Prepare {
        connection,
        epoch: source.epoch,
        request: Request { incarnation: 7, number },
        target: name(to),
        consent: Consent::Asked,
        application_bytes: 5,
        job: None,
        giver: None,
    }));
    let ToHost::Source(ToSource::Consult(consult)) = source.hears_of_transfer().await else { panic!() };
    let ToHost::Target(ToTarget::Offer(offer)) = target.hears_of_transfer().await else { panic!() };
    assert_eq!((offer.way, offer.ledger, offer.incarnation), (Way::Restore, Ledger(9), 8));
    assert_eq!(offer.application_bytes, 5);
    let ahead = Parcel { socket: Vec::new(), application: b"state".to_vec() };
    for part in ahead.parts(consult.about).unwrap() {
        source.transfer(FromSource::State(part));
    }
    let ToHost::Target(ToTarget::State(part)) = target.hears_of_transfer().await else { panic!() };
    assert_eq!(part.bytes, b"state");
    assert_eq!(state(node), CrtState::Established, "while the application thinks");
    let crt = node.get("/v1/crt?state=established").await;
    let transfer = &crt["connections"][0]["transfer"];
    assert_eq!((&transfer["way"], &transfer["step"]), (&json!("restore"), &json!("consulting")));
    consult.about
}

/// As far as the target's agent has it whole: its application has agreed.
async fn agreed(node: &Node, source: &mut Agent, target: &mut Agent, to: &str, number: u64) -> About {
    let about = offered(node, source, target, to, number).await;
    target.transfer(FromTarget::Agreed(Agreed { about }));
    let ToHost::Source(ToSource::Freeze(freeze)) = source.hears_of_transfer().await else { panic!() };
    assert_eq!((state(node), freeze.about), (CrtState::Frozen, about), "before the source is told");
    let crt = node.get("/v1/crt?state=frozen").await;
    assert_eq!(crt["connections"][0]["transfer"]["step"], json!("dumping"));
    let parcel = Parcel { socket: b"a socket".to_vec(), application: Vec::new() };
    for part in parcel.parts(about).unwrap() {
        source.transfer(FromSource::Part(part));
    }
    let ToHost::Target(ToTarget::Part(part)) = target.hears_of_transfer().await else { panic!() };
    assert_eq!(part.bytes, b"a socket");
    let ToHost::Target(ToTarget::Commit(_)) = target.hears_of_transfer().await else { panic!() };
    about
}

async fn moves(node: &Node, source: &mut Agent, target: &mut Agent, from: &str, to: &str, number: u64) {
    let about = agreed(node, source, target, to, number).await;
    target.transfer(FromTarget::Active(Active { about, source: name(from), way: Way::Restore }));
    let ToHost::Source(ToSource::Released(_)) = source.hears_of_transfer().await else { panic!() };
    let crt = node.get(&format!("/v1/crt?stack={to}&state=established")).await;
    assert_eq!(crt["connections"].as_array().unwrap().len(), 1, "switched before the source is told");
    source.transfer(FromSource::Done(Done { about, held: Held::Gone }));
    let ToHost::Target(ToTarget::Settled(_)) = target.hears_of_transfer().await else { panic!() };
}

fn state(node: &Node) -> CrtState {
    node.forwarding.seen().entries[0].state
}

async fn counter(node: &Node, name: &str) -> u64 {
    let stats = node.get("/v1/stats").await;
    let rows = stats["transfers"].as_array().unwrap();
    rows.iter().find(|row| row["name"] == name).unwrap()["value"].as_u64().unwrap()
}

#[tokio::test]
async fn a_connection_moves_to_a_target_to_the_next_and_back() {
    let (node, [mut router, mut t1, mut t2]) = cluster().await;
    moves(&node, &mut router, &mut t1, "rt1", "t1", 1).await;
    moves(&node, &mut t1, &mut t2, "t1", "t2", 2).await;
    moves(&node, &mut t2, &mut router, "t2", "rt1", 3).await;
    assert_eq!((counter(&node, "begun").await, counter(&node, "restored").await), (3, 3));
    let (_, metrics) = node.http("GET /metrics", "").await;
    assert!(metrics.lines().any(|l| l == "baton_transfers_restored_total 3"), "{metrics}");
}

#[tokio::test]
async fn a_rejected_connection_was_never_held() {
    let (node, [mut router, mut t1, _t2]) = cluster().await;
    let about = offered(&node, &mut router, &mut t1, "t1", 1).await;
    let why = Why::new(model::transfer::Reason::Rejected, "not mine");
    t1.transfer(FromTarget::Void(Void { about, ledger: Ledger(9), why: why.clone() }));
    let ToHost::Source(ToSource::Aborted(aborted)) = router.hears_of_transfer().await else { panic!() };
    assert_eq!((aborted.why, state(&node)), (why, CrtState::Established));
    let crt = node.get("/v1/crt?stack=rt1").await;
    assert!(crt["connections"][0]["transfer"].is_null());
    assert_eq!(counter(&node, "rejected").await, 1);
}

#[tokio::test]
async fn a_connection_that_cannot_be_restored_thaws_where_it_was() {
    let (node, [mut router, mut t1, _t2]) = cluster().await;
    let about = agreed(&node, &mut router, &mut t1, "t1", 1).await;
    let why = Why::new(model::transfer::Reason::NotRestored, "no room");
    t1.transfer(FromTarget::Void(Void { about, ledger: Ledger(9), why: why.clone() }));
    let ToHost::Source(ToSource::Aborted(aborted)) = router.hears_of_transfer().await else { panic!() };
    assert_eq!(aborted.why, why);
    assert_eq!(state(&node), CrtState::Frozen, "until the source has thawed");
    router.transfer(FromSource::Done(Done { about, held: Held::Here }));
    node.eventually("/v1/crt?stack=rt1&state=established", |crt| {
        let rows = crt["connections"].as_array().unwrap();
        rows.len() == 1 && rows[0]["transfer"].is_null()
    })
    .await;
    assert_eq!(counter(&node, "not_restored").await, 1);
}

#[tokio::test]
async fn an_account_in_the_middle_of_a_transfer_ends_nothing() {
    let (node, [mut router, mut t1, _t2]) = cluster().await;
    agreed(&node, &mut router, &mut t1, "t1", 1).await;
    router.target.say(FromStack::Newconn(Newconn {
        first: true,
        last: true,
        connections: connections(2000..2001),
    }));
    router.target.say(FromStack::Termconn(Termconn { connections: connections(1000..1001) }));
    node.eventually("/v1/crt", |crt| crt["connections"].as_array().unwrap().len() == 2).await;
    let crt = node.get("/v1/crt?state=frozen").await;
    assert_eq!(crt["connections"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_order_to_move_reaches_the_agent_or_is_refused_with_the_reason() {
    let (node, [mut router, _t1, _t2]) = cluster().await;
    let order = |port: u16, target: &str| {
        format!(r#"{{"client": "198.18.0.2:{port}", "dvipa": "198.18.9.1:80", "target": "{target}"}}"#)
    };
    let (status, answer) = node.refused("POST /v1/move", &order(1000, "t1")).await;
    assert_eq!((status, &answer["source"]), (200, &json!("rt1")));
    let number = answer["order"].as_u64().unwrap();
    assert_eq!(node.get(&format!("/v1/move/{number}")).await["state"], "told");
    let ToStack::Move(heard) = router.hears().await else { panic!() };
    assert_eq!((heard.target, heard.job, heard.order), (name("t1"), None, Some(OrderId(number))));
    let (connection, epoch, why) = (heard.connection, heard.epoch, model::transfer::Reason::NoSocket);
    let stays = Stays { connection, epoch, order: OrderId(number), why: Why::new(why, "nobody") };
    router.target.say(FromStack::Stays(stays));
    let moved = node.eventually(&format!("/v1/move/{number}"), |moved| moved["state"] == "stayed").await;
    assert_eq!((&moved["reason"], &moved["said"]), (&json!("no_socket"), &json!("nobody")));
    for (body, status, word) in [
        (order(999, "t1"), 404, "no connection"),
        (order(1000, "t9"), 404, "t9"),
        (order(1000, "rt1"), 422, "on the chosen stack already"),
    ] {
        let (found, problem) = node.refused("POST /v1/move", &body).await;
        assert!(found == status && problem["error"].as_str().unwrap().contains(word), "{found} {problem}");
    }
}

#[tokio::test]
async fn a_drained_stack_is_evacuated_until_an_operator_stops_it() {
    let (node, _agents) = cluster().await;
    let (status, _) = node.refused("POST /v1/drain/t1?for_s=5", "").await;
    assert_eq!(status, 400, "only with move=true");
    let (status, _) = node.refused("POST /v1/drain/t1?move=false", "").await;
    assert_eq!(status, 404, "it is not evacuated");
    let (status, _) = node.refused("POST /v1/drain/rt1?move=true&quiet_ms=70&at_once=3", "").await;
    assert_eq!(status, 200);
    // Content decides, and the routing application is drained itself: nobody takes its connection.
    let waits = |view: &serde_json::Value| view["evacuations"][0]["waiting"][0]["reason"] == "not_a_target";
    let view = node.eventually("/v1/drain", waits).await;
    assert_eq!(
        (&view["evacuations"][0]["stack"], &view["evacuations"][0]["connections"]),
        (&json!("rt1"), &json!(1))
    );
    node.refused("POST /v1/drain/rt1?move=false", "").await;
    assert_eq!(node.get("/v1/drain").await["evacuations"][0]["state"], "stopped");
    node.refused("POST /v1/resume/rt1", "").await;
    assert_eq!(node.get("/v1/drain").await["evacuations"], json!([]));
}
