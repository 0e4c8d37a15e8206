//! Stacks with a certificate of the cluster, users of a host and hosts of the segment that want what is another's.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use lab::spec::Web;
use lab::spec::{CLIENT, DVIPA, RT1, RT2, host, ipv4_only, target};
use lab::{Lab, Spec};
use model::codec::{self, Address, WireConnection};
use model::control_socket::request::{Register, Role};
use model::control_socket::{JobName, Message as _, Notification, Refusal, Request, RequestId};
use model::message::{FromStack, Listen, Move, Newconn, Srvstat, Termconn, ToStack, VipaList};
use model::transfer::{
    About, Active, Commit, Consent, Doubt, FromHost, FromSource, FromTarget, Ledger, Prepare,
    Request as Asked, ToHost, ToTarget, TransferId, Way,
};
use model::{Connection, Protocol, StackName};

use crate::fixture::{SOON, connect, established, lab, web4};
use crate::messages::{Stranger, epoch};

fn name(name: &str) -> StackName {
    name.parse().expect("a name")
}

/// How often each reason was counted for a stack.
fn refused(lab: &Lab, stack: &str) -> BTreeMap<String, u64> {
    let stats = lab.baton_json(&["stats"]).expect("baton stats answers");
    let rows = stats["refused"].as_array().expect("a list").iter();
    let of_it = rows.filter(|row| row["stack"] == stack);
    of_it.map(|row| (row["reason"].as_str().unwrap().to_owned(), row["count"].as_u64().unwrap())).collect()
}

/// S1: two stacks with good certificates, a candidate target and one that is none, want another's connection in every way that
/// there is: it stays where it is and goes on, nothing they say is in the tables, and all is counted with their names.
#[test]
#[ignore = "needs root"]
fn stacks_that_want_anothers_connection_get_nothing_and_are_counted_by_name() {
    let distributed = ipv4_only(&["ports = [80]\ndestip = [\"t1\", \"t8\"]"]);
    let lab = lab(Spec::default().vipadynamic(distributed).web([Web::wildcard("t1")]));
    let (mut connection, owner) = connect(&lab, web4());
    let row = established(&lab, &connection);
    assert_eq!((owner.as_str(), row.stack.as_str()), ("t1", "t1"));
    let here = Connection::new(Protocol::Tcp, connection.local(), web4()).expect("a connection");
    let (here, epoch, dvipa) = (WireConnection(here), epoch(&lab), Address(web4().ip()));
    // As if a former run of the routing stack had given it.
    let transfer = TransferId { incarnation: 1, number: 1 };
    let about = About { connection: here, transfer, epoch };
    let listen = Listen { protocol: Protocol::Tcp, port: 80, listening: true };
    let news = |first, last| FromStack::Newconn(Newconn { first, last, connections: vec![here] });
    let prepare = Prepare {
        connection: here,
        epoch,
        request: Asked { incarnation: 1, number: 1 },
        target: name("t8"),
        consent: Consent::Presumed,
        application_bytes: 0,
        job: None,
        giver: None,
    };
    let doubt = Doubt { about, target: name("t8"), ledger: Ledger(1), way: Way::Restore };
    let order = Move {
        connection: here,
        epoch,
        target: name("t8"),
        job: None,
        order: None,
        quiet_ms: None,
        next: None,
    };
    let active = Active { about, source: name("t1"), way: Way::Restore };
    let says = [
        FromStack::Srvstat(Srvstat { dvipa, epoch, complete: true, listens: vec![listen] }),
        news(false, false),
        news(true, true),
        FromStack::Termconn(Termconn { connections: vec![here] }),
        FromHost::Source(FromSource::Prepare(prepare)).into(),
        FromHost::Source(FromSource::Doubt(doubt)).into(),
        FromHost::Target(FromTarget::Active(active)).into(),
    ];
    let may_not_be_said = [
        ToHost::Target(ToTarget::Commit(Commit { about })).into(),
        ToStack::Move(order),
        ToStack::VipaList(VipaList::default()),
    ];
    let said = says.iter().map(codec::encode).chain(may_not_be_said.iter().map(codec::encode));
    let bytes: Vec<u8> = said.flat_map(|said| said.expect("it is short")).collect();
    let mut speaking = Vec::new();
    for stack in ["t8", "t9"] {
        lab.issue(stack).expect("a certificate");
        speaking.push(Stranger::speak(&lab, stack, &bytes));
        lab.wait_for(&format!("all that {stack} says"), SOON, || {
            let counted = refused(&lab, stack);
            let all = counted.get("routing_stacks_only") == Some(&3);
            if all { Ok(()) } else { Err(format!("{counted:?}")) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
    }
    // A candidate may report listens; what it has is not t1's connection: twice NEWCONN, PREPARE, Doubt, Active.
    assert_eq!(refused(&lab, "t8").get("anothers_connection"), Some(&5), "{:?}", refused(&lab, "t8"));
    let of_t9 = refused(&lab, "t9");
    // SRVSTAT, twice NEWCONN, TERMCONN; the transfers are about a connection that t1 has.
    assert_eq!(
        (of_t9.get("no_candidate"), of_t9.get("anothers_connection")),
        (Some(&4), Some(&3)),
        "{of_t9:?}"
    );
    let row = established(&lab, &connection);
    assert_eq!(row.stack, "t1");
    assert_eq!(connection.target().expect("it goes on"), "t1");
    let targets = lab.dpt().expect("baton dpt answers");
    assert!(targets.iter().flat_map(|row| &row.targets).all(|t| t.target != "t9"), "{targets:#?}");
    let log = std::fs::read_to_string(lab.files().join("batond.log")).expect("its log");
    let lines = log.lines().filter(|line| line.contains("t9") && line.contains("is void")).count();
    assert_eq!(lines, 3, "one for each reason");
}

/// What a user's application says and hears: it registers, and stays until it is dropped.
struct Application(Child);

impl Application {
    /// Registers as a target for port 80 of the DVIPA.
    fn register(socket: &Path, user: u32, job: &str) -> (Self, Notification) {
        const SCRIPT: &str = "import socket,sys\n\
            s=socket.socket(socket.AF_UNIX,socket.SOCK_SEQPACKET)\n\
            s.connect(sys.argv[1])\n\
            s.recv(65536)\n\
            s.send(bytes.fromhex(sys.argv[2]))\n\
            print(s.recv(65536).hex(),flush=True)\n\
            sys.stdin.read()";
        let register = Request::from(Register {
            request: RequestId(1),
            role: Role::Target,
            job: JobName::new(job).expect("a name"),
            dvipa: Address(DVIPA.0.into()),
            ports: vec![80],
            hold_accepts: false,
            takes_offers: None,
        });
        let hex: String =
            register.encode().expect("it is short").iter().map(|byte| format!("{byte:02x}")).collect();
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", SCRIPT])
            .arg(socket)
            .arg(hex)
            .current_dir("/")
            .uid(user)
            .gid(user)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("it answers");
        let digits = line.trim().as_bytes().chunks(2).map(|two| std::str::from_utf8(two).expect("ASCII"));
        let answer: Vec<u8> = digits.map(|two| u8::from_str_radix(two, 16).expect("hexadecimal")).collect();
        let answer = Notification::decode(&answer).expect("a message").expect("a known one");
        (Self(child), answer)
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn refusal(answer: &Notification) -> (Refusal, String) {
    match answer {
        Notification::Failed(failed) => (failed.why, failed.detail.clone().unwrap_or_default()),
        other => panic!("{other:?}"),
    }
}

/// S2: without a rule in agent.toml another user than the agent's registers for nothing, and is told the rule that is missing;
/// with it, processes of one user share a job, and another user, who may register too, does not get it.
#[test]
#[ignore = "needs root"]
fn a_user_registers_only_for_what_a_rule_says_and_a_job_is_one_users() {
    const ALICE: u32 = 4001;
    const BOB: u32 = 4002;
    let lab = lab(Spec::default());
    let socket = lab.applications("t1");
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o666)).expect("it is opened to all");
    let (_alone, answer) = Application::register(&socket, ALICE, "images");
    let (why, rule) = refusal(&answer);
    assert_eq!(why, Refusal::NotPermitted);
    let written = "[[application]] user = 4001, role = \"target\", dvipa = [\"198.18.9.1\"], ports = [80], job = [\"images\"]";
    assert_eq!(rule, format!("add to agent.toml: {written}"));

    let file = lab.files().join("t1.toml");
    let rule = |user: u32| {
        format!(
            "\n[[application]]\nuser = {user}\nrole = \"target\"\ndvipa = [\"198.18.9.1\"]\nports = [80]\njob = [\"images\"]\n"
        )
    };
    let mut text = std::fs::OpenOptions::new().append(true).open(&file).expect("it is there");
    write!(text, "{}{}", rule(ALICE), rule(BOB)).expect("it is written");
    lab.baton(&["check", &file.display().to_string(), "--file-only"]).unwrap_or_else(|e| panic!("{e}"));
    let id = lab.id_of("agent-t1").expect("it runs").to_string();
    lab.host("t1").run(&["kill", "-HUP", &id]).expect("it is signalled");
    let mut first = None;
    lab.wait_for("the rule to be in force", SOON, || {
        let (application, answer) = Application::register(&socket, ALICE, "images");
        first = Some(application);
        if matches!(answer, Notification::Registered(_)) { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    let (second, answer) = Application::register(&socket, ALICE, "images");
    assert!(matches!(answer, Notification::Registered(_)), "{answer:?}");
    let (_bob, answer) = Application::register(&socket, BOB, "images");
    assert_eq!(refusal(&answer).0, Refusal::JobTaken);
    let (_bob, answer) = Application::register(&socket, BOB, "pages");
    assert_eq!(refusal(&answer).0, Refusal::NotPermitted, "the rule names another job");
    drop((first, second));
    lab.wait_for("the job to be free", SOON, || {
        let (_bob, answer) = Application::register(&socket, BOB, "images");
        if matches!(answer, Notification::Registered(_)) { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

/// S3: what an agent keeps of connections, what it shares with its programs, and its sockets are closed to other users of the host;
/// the directories too in which the files are.
#[test]
#[ignore = "needs root"]
fn other_users_of_a_host_read_nothing_of_what_baton_keeps() {
    let lab = lab(Spec::default());
    let applications = lab.applications("t1");
    let run = applications.parent().expect("it is in a directory");
    let mode = |path: &Path| {
        let metadata = std::fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        metadata.permissions().mode() & 0o777
    };
    for kept in ["transfers/t1", "transfers/t1.dumps", "bpf/t1/t1"].map(|name| run.join(name)) {
        assert_eq!(mode(&kept), 0o700, "{}", kept.display());
        for entry in std::fs::read_dir(&kept).expect("it is read").flatten() {
            assert_eq!(mode(&entry.path()) & 0o077, 0, "{}", entry.path().display());
        }
    }
    let sockets = [("agent-t1.sock", 0o600), ("rt1.sock", 0o660), ("applications-t1.sock", 0o660)];
    for (socket, wanted) in sockets {
        assert_eq!(mode(&run.join(socket)), wanted, "{socket}");
    }
    assert_eq!(mode(&lab.files().join("pki/t1.key")), 0o600);
}

/// S4: a SYN that comes in a tunnel from a routing stack that does not own the DVIPA is dropped by the target and counted, and
/// one from the owner's address gets in.
#[test]
#[ignore = "needs root"]
fn a_tunnel_of_a_stack_that_does_not_own_the_dvipa_ends_at_the_target() {
    const OTHER: &str = "198.18.9.77";
    let second = format!(
        "[[vipadynamic]]\n[[vipadynamic.vipadefine]]\naddress = \"{OTHER}\"\nmask = 24\n\
         [[vipadynamic.vipadistribute]]\naddress = \"{OTHER}\"\nports = [80]\ndestip = \"all\"\n"
    );
    let lab = lab(Spec::default().vipadynamic(ipv4_only(&["ports = [80]\ndestip = \"all\""])).second(second));
    let t1 = host(target(1)).0;
    let send = |source, inner: &str, port: u16| {
        let script = format!(
            "from scapy.all import *\n\
             mac = getmacbyip('{t1}')\n\
             inner = IP(src='{client}', dst='{inner}')/TCP(sport={port}, dport=80, flags='S')\n\
             outer = IP(src='{source}', dst='{t1}')/UDP(sport=50000, dport=6080, chksum=0)/bytes([0, 4, 0, 0])\n\
             sendp(Ether(dst=mac)/outer/inner, iface='eth0', verbose=0)\n",
            client = CLIENT.0,
        );
        lab.client().run(&["/usr/bin/python3", "-c", &script]).unwrap_or_else(|e| panic!("{e}"));
    };
    let counter = |name: &str| {
        let status = lab.agent("t1").expect("it answers");
        let all = status["counters"].as_array().expect("a list");
        all.iter().find(|c| c["name"] == name).expect("it is there")["value"].as_u64().expect("a number")
    };
    let counts = |what: &str, name: &str, before: u64| {
        lab.wait_for(what, SOON, || {
            let now = counter(name);
            if now > before { Ok(()) } else { Err(format!("{name} is {now}")) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
    };
    lab.wait_for("both routing stacks' lists", SOON, || {
        let forwarders = lab.agent("t1").map_err(|e| e.to_string())?["forwarders"].to_string();
        let both = [RT1.0, RT2.0].iter().all(|address| forwarders.contains(&format!("\"{address}\"")));
        if both { Ok(()) } else { Err(forwarders) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    let [foreign, taken] = ["not_the_owners", "decapsulated_gue"].map(counter);
    send(RT2.0, &DVIPA.0.to_string(), 4001);
    counts("the tunnel of rt2 to be counted", "not_the_owners", foreign);
    assert_eq!(counter("decapsulated_gue"), taken);
    send(RT1.0, &DVIPA.0.to_string(), 4002);
    counts("the owner's to get in", "decapsulated_gue", taken);
    let taken = counter("decapsulated_gue");
    send(RT2.0, OTHER, 4003);
    counts("rt2's own to get in", "decapsulated_gue", taken);
    assert_eq!(counter("not_the_owners"), foreign + 1);
}
