//! Who is let in, and what becomes of those who go.

use std::os::unix::process::CommandExt;
use std::process::Command;

use channel::listener::Access;

use super::*;
use crate::control_socket::limits::MAX_SOCKETS_A_USER;
use crate::control_socket::{Applications, Event, Settings};

#[test]
fn one_user_does_not_take_all_sockets() {
    let host = Host::start();
    let mut open: Vec<Raw> = (0..MAX_SOCKETS_A_USER).map(|_| host.application()).collect();
    let mut one_more = Raw(Channel::connect(&host.path()).expect("connected"));
    assert_eq!(one_more.is_closed(), Refusal::AgentFull);
    open.pop();
    // The agent notices a moment later.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut again = Raw(Channel::connect(&host.path()).expect("connected"));
        match again.hear() {
            Some(Notification::Welcome(_)) => break,
            Some(Notification::Goodbye(_)) => assert!(Instant::now() < deadline, "no room again"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_agent_knows_who_registers() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("applications.sock");
    runtime.block_on(async {
        let mut applications = open(&path, None);
        let channel = Channel::connect(&path).expect("connected");
        let register = Register {
            request: RequestId(1),
            role: Role::Routing,
            job: JobName::new("job").expect("a name"),
            dvipa: Address("127.0.0.1".parse().expect("an address")),
            ports: vec![80],
            hold_accepts: false,
            takes_offers: None,
        };
        channel.send(&Request::from(register).encode().expect("short"), &[]).expect("sent");
        let (_, event) = applications.next().await;
        let Event::Register(_, registration, _) = event else { panic!("{event:?}") };
        assert_eq!(registration.peer.pid, i32::try_from(std::process::id()).expect("a pid"));
        assert_eq!(registration.peer.uid, rustix::process::geteuid().as_raw());
    });
}

#[test]
#[ignore = "needs root"]
fn users_that_are_not_named_are_not_let_in() {
    const NOBODY: u32 = 65_534;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("set");
    let path = directory.path().join("applications.sock");
    let first_word = |program: &str| {
        let output = Command::new("/usr/bin/python3")
            .args(["-c", program, &path.display().to_string()])
            .uid(NOBODY)
            .gid(NOBODY)
            .output()
            .expect("Python runs");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    const HEAR: &str = "import socket,sys\ns=socket.socket(socket.AF_UNIX,socket.SOCK_SEQPACKET)\n\
                        s.connect(sys.argv[1])\nprint(s.recv(100)[3])";
    const WELCOME: &str = "1\n";
    const GOODBYE: &str = "10\n";
    for (users, said) in [(Some(vec![]), GOODBYE), (Some(vec![NOBODY]), WELCOME), (None, WELCOME)] {
        let _in_runtime = runtime.enter();
        let applications = open(&path, users.clone());
        assert_eq!(first_word(HEAR), said, "{users:?}");
        runtime.block_on(applications.close());
    }
    // Without the file's permission the kernel does not even ask.
    let _in_runtime = runtime.enter();
    let settings = Settings { access: Access { mode: 0o600, group: None }, ..settings(&path, None) };
    let _applications = Applications::open(settings).expect("open");
    assert!(first_word(HEAR).contains("PermissionError"));
}

fn settings(path: &std::path::Path, users: Option<Vec<u32>>) -> Settings {
    Settings {
        stack: model::StackName::new("t1").expect("a name"),
        path: path.to_path_buf(),
        access: Access { mode: 0o666, group: None },
        users,
    }
}

fn open(path: &std::path::Path, users: Option<Vec<u32>>) -> Applications {
    Applications::open(settings(path, users)).expect("open")
}

#[test]
fn what_a_dead_application_was_registered_for_ends_with_it() {
    let host = Host::start();
    let mut router = host.registered("router");
    let (_client, stream) = host.connection();
    drop(host.registered("dead"));
    let deadline = Instant::now() + Duration::from_secs(20);
    for request in 2.. {
        router.say_with(&transfer(request, "dead"), &[stream.as_fd()]);
        match router.is_refused(request) {
            Refusal::UnknownTarget => break,
            other => assert!(
                matches!(other, Refusal::NoAnswer | Refusal::Gone) && Instant::now() < deadline,
                "{other:?}"
            ),
        }
    }
}
