//! The Debian packages: what is in them, and a cluster of hosts that were made with nothing else. `scripts/test packages` makes what
//! these tests need.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lab::client::HttpConnection;
use lab::{Lab, Spec, spec};

use crate::fixture::{SOON, web4};
use crate::setups::{Step, steps};

mod machine;

use machine::{Machine, made};

const PACKAGES: [&str; 5] = ["batond", "baton-agent", "baton", "libbaton-dev", "python3-baton"];

fn deb(directory: &str, package: &str) -> String {
    let files = std::fs::read_dir(made(directory)).expect("packages").flatten();
    let mut paths = files.map(|file| file.path().display().to_string());
    let prefix = format!("/{package}_");
    paths
        .find(|path| path.contains(&prefix) && path.ends_with(".deb"))
        .unwrap_or_else(|| panic!("no {package}"))
}

fn run(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).output().expect("it runs");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {text}");
    text
}

/// F5: each package has its programs, unit, configuration to begin with, completions and manual pages, with names of versions that
/// its libraries need; the units are what systemd understands.
#[test]
#[ignore = "needs packages"]
fn the_packages_have_what_a_host_needs() {
    let has = |package: &str, wanted: &[&str]| {
        let list = run(&["dpkg-deb", "--contents", &deb("new", package)]);
        for path in wanted {
            assert!(list.contains(path), "{package} lacks {path}:\n{list}");
        }
    };
    for (package, file) in [("batond", "batond.toml"), ("baton-agent", "agent.toml")] {
        let own = [
            format!("./usr/bin/{package}\n"),
            format!("./usr/lib/systemd/system/{package}.service"),
            format!("./usr/lib/sysusers.d/{package}.conf"),
            format!("./usr/lib/tmpfiles.d/{package}.conf"),
            format!("./usr/share/baton/{file}"),
            format!("./usr/share/man/man8/{package}.8.gz"),
            format!("./usr/share/bash-completion/completions/{package}"),
        ];
        has(package, &own.each_ref().map(String::as_str));
    }
    has("baton-agent", &["./usr/share/man/man8/baton-agent-join.8.gz"]);
    has(
        "baton",
        &[
            "./usr/bin/baton\n",
            "man1/baton.1.gz",
            "man1/baton-drain.1.gz",
            "completions/baton",
            "/_baton",
            "baton.fish",
        ],
    );
    has("libbaton-dev", &["include/baton.h", "libbaton_c.so.0", "libbaton_c.a", "pkgconfig/baton.pc"]);
    has("python3-baton", &["dist-packages/baton/__init__.py", "_baton.abi3.so"]);
    let field = |package: &str, field: &str| run(&["dpkg-deb", "--field", &deb("new", package), field]);
    for package in PACKAGES {
        assert!(field(package, "Depends").contains("libc6"), "{package}");
    }
    assert!(field("batond", "Depends").contains("librte-eal23"), "{}", field("batond", "Depends"));

    let root = tempfile::tempdir().expect("a directory");
    let at = root.path().display().to_string();
    for package in ["batond", "baton-agent"] {
        run(&["dpkg-deb", "--extract", &deb("new", package), &at]);
        let unit = format!("{at}/usr/lib/systemd/system/{package}.service");
        let text = std::fs::read_to_string(&unit)
            .expect("a unit")
            .replace("/usr/bin/baton", &format!("{at}/usr/bin/baton"));
        std::fs::write(&unit, text).expect("a unit");
        let said = run(&["systemd-analyze", "verify", "--man=no", &unit]);
        assert!(!said.contains(package), "{said}");
    }
    let baton = env!("CARGO_BIN_EXE_baton");
    let agent = format!("{at}/usr/share/baton/agent.toml");
    let text = std::fs::read_to_string(&agent).expect("a file");
    // This machine does not have the group that the package makes.
    std::fs::write(&agent, text.replace("group = \"baton\"", "group = \"root\"")).expect("a file");
    for file in ["batond.toml", "agent.toml"] {
        run(&[baton, "check", "--file-only", &format!("{at}/usr/share/baton/{file}")]);
    }
}

/// Installs packages of a directory, and returns what was said.
fn install(machine: &Machine<'_>, directory: &str, packages: &[&str]) -> String {
    let files: Vec<String> =
        packages.iter().map(|package| format!("/packages/{directory}/{package}_*.deb")).collect();
    machine.sh(&format!("dpkg --install {} 2>&1", files.join(" ")))
}

fn configure(machine: &Machine<'_>, from: &str, to: &str, change: &str) {
    machine.sh(&format!("cp -r /lab/pki /etc/baton/pki && sed '{change}' /lab/{from} >/etc/baton/{to} && chmod 600 /etc/baton/pki/*.key"));
}

/// Requests over connections that stay, until the end; each has to be answered by whom it was answered at first.
fn go_on_until(lab: &Lab, is_over: &AtomicBool) -> usize {
    let patient = Duration::from_secs(60);
    let open = || HttpConnection::open_patiently(lab.client(), web4(), patient).expect("the client connects");
    let mut connections: Vec<_> = (0..8).map(|_| open()).collect();
    let targets: Vec<_> = connections.iter_mut().map(|c| c.target().expect("an answer")).collect();
    let mut answers = 0;
    while !is_over.load(Ordering::Relaxed) {
        for (connection, target) in connections.iter_mut().zip(&targets) {
            let answer = connection.target().unwrap_or_else(|e| panic!("after {answers} answers: {e}"));
            assert_eq!(&answer, target, "after {answers} answers");
            answers += 1;
        }
    }
    answers
}

/// Has the clients end, also when the test fails: they are waited for.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a running service is: its process.
fn process(machine: &Machine<'_>, service: &str) -> String {
    machine.sh(&format!("systemctl show --value --property MainPID {service}"))
}

/// F5, B2: a routing node and two hosts are fresh Debians with the packages and configuration files. They serve; all packages are
/// replaced by newer ones while clients request, and no connection ends; nothing of the packages is left after their removal.
#[test]
#[ignore = "needs packages"]
fn a_cluster_is_installed_upgraded_under_load_and_removed() {
    let tables = spec::ipv4_only(&["ports = [80]\ndestip = \"all\"\nmethod = \"round-robin\""]);
    let spec = Spec { targets: 2, ..Spec::default() }
        .vipadynamic(tables)
        .web([])
        .forwarder("crt_file = \"/run/baton/crt\"");
    let lab = Lab::build(spec).unwrap_or_else(|e| panic!("{e}"));
    let [rt1, t1, t2] = ["rt1", "t1", "t2"].map(|host| Machine::start(&lab, host));
    let hosts = [(&t1, "t1"), (&t2, "t2")];

    let said = install(&rt1, "old", &["batond", "baton"]);
    assert!(said.contains("/usr/share/baton/batond.toml"), "{said}");
    for (machine, name) in hosts {
        install(machine, "old", &["baton-agent", "baton"]);
        configure(machine, &format!("{name}.toml"), "agent.toml", "/^.admin/,$d");
        machine.sh(&format!(
            "echo 'server {{ listen 80; keepalive_requests 1000000; location / {{ return 200 \"{name}\\n\"; }} }}' >/etc/nginx/sites-enabled/default
             systemctl restart nginx && systemctl start baton-agent"
        ));
    }
    let own = "s#^socket = .*#socket = \"/run/baton/batond.sock\"#; /^directory = /d";
    configure(&rt1, "batond.toml", "batond.toml", own);
    rt1.sh("baton check /etc/baton/batond.toml && systemctl start batond");
    rt1.until(
        "both hosts to be targets",
        "baton --json dpt | grep -c '\"state\": \"listening\"' | grep -qx 2",
    );

    for (machine, service) in [(&rt1, "batond"), (&t1, "baton-agent")] {
        let at = |property| format!("$(systemctl show --value --property {property}Monotonic {service})");
        let is_told = format!("[ {} -gt {} ]", at("WatchdogTimestamp"), at("ActiveEnterTimestamp"));
        machine.until(&format!("the watchdog to hear of {service}"), &is_told);
    }

    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients = [(); 2].map(|()| scope.spawn(|| go_on_until(&lab, &is_over)));
        let ends = Ends(&is_over);
        for (machine, service, packages) in [
            (&t1, "baton-agent", ["baton-agent", "baton"]),
            (&rt1, "batond", ["batond", "baton"]),
            (&t2, "baton-agent", ["baton-agent", "baton"]),
        ] {
            let former = process(machine, service);
            install(machine, "new", &packages);
            assert_ne!(process(machine, service), former, "{service} is a new process");
            machine.sh(&format!("systemctl is-active {service}"));
            let restarts = machine.sh(&format!("systemctl show --value --property NRestarts {service}"));
            assert_eq!(restarts.trim(), "0", "{service} has not ended by itself");
            rt1.until(
                "both hosts to be targets",
                "baton --json dpt | grep -c '\"state\": \"listening\"' | grep -qx 2",
            );
        }
        drop(ends);
        for client in clients {
            assert!(client.join().expect("every request is answered") > 0);
        }
    });
    let journal = rt1.journal();
    assert!(journal.contains("the CRT of the former process goes on"), "{journal}");
    assert_eq!(rt1.sh("ls /var/lib/baton"), "rt1.epoch\n", "the unit lets it keep its epoch");

    remove(&rt1, &["batond", "baton"]);
    for (machine, _) in hosts {
        remove(machine, &["baton-agent", "baton"]);
        let addresses = machine.sh("ip -o address show dev lo");
        assert!(!addresses.contains("198.18.9.1"), "{addresses}");
        assert_eq!(machine.sh("find /sys/fs/bpf -name 'baton*'"), "");
    }
}

/// Purges packages; nothing may be left of them.
fn remove(machine: &Machine<'_>, packages: &[&str]) {
    machine.sh(&format!("rm -f /etc/baton/pki/ca.key; dpkg --purge {} 2>&1", packages.join(" ")));
    let left = machine.sh("find / -xdev -iname '*baton*' -not -path '/proc/*' -not -path '/packages*' -not -path '/lab*'; find /run /dev/shm -iname '*baton*'");
    assert_eq!(left, "");
    machine.sh("! getent group baton; ! systemctl cat batond baton-agent 2>/dev/null; ! pgrep baton");
}

/// Gives each host what the tutorial says that it gets of the certificates that rt1 has made.
fn hand_out_certificates(lab: &Lab, rt1: &Machine<'_>, hosts: [(&Machine<'_>, &str); 2]) {
    for (machine, name) in hosts {
        machine.sh("mkdir -p /etc/baton/pki");
        for file in ["ca.pem".to_owned(), format!("{name}.pem"), format!("{name}.key")] {
            let text = rt1.sh(&format!("cat /etc/baton/pki/{file}"));
            std::fs::write(lab.files().join(&file), text).expect("it is written");
            machine.sh(&format!("install -m 600 /lab/{file} /etc/baton/pki"));
        }
    }
}

/// F5: what the tutorial says, on hosts that are fresh Debians, leads to traffic.
#[test]
#[ignore = "needs packages"]
fn the_tutorial_leads_from_an_empty_machine_to_traffic() {
    let lab = Lab::build(Spec { targets: 2, ..Spec::default() }.web([])).unwrap_or_else(|e| panic!("{e}"));
    // The hosts as the tutorial finds them.
    lab.host("rt1").sh("ip link delete loc0").expect("it is gone");
    for (host, number) in [("client", 2), ("rt1", 10), ("t1", 21), ("t2", 22)] {
        let add = format!("ip address add 192.0.2.{number}/24 dev eth0");
        lab.host(host).sh(&add).unwrap_or_else(|e| panic!("{e}"));
    }
    let [rt1, t1, t2] = ["rt1", "t1", "t2"].map(|host| Machine::start(&lab, host));
    for (machine, name) in [(&rt1, "rt1"), (&t1, "t1"), (&t2, "t2")] {
        machine.sh(&format!("hostname {name}"));
    }
    let run = |host: &str, command: &str| {
        let script = format!("cd /packages/new; {command}");
        match host {
            "rt1" => rt1.try_sh(&script),
            "t1" => t1.try_sh(&script),
            "t2" => t2.try_sh(&script),
            _ => lab.client().sh(command).map_err(|e| e.to_string()),
        }
    };
    for Step { host, command, output } in steps(include_str!("../../docs/tutorial.md")) {
        let state = || {
            let said = run(&host, &command)?;
            if said == output { Ok(()) } else { Err(said) }
        };
        let done = if output.is_empty() {
            run(&host, &command).map(drop)
        } else {
            lab.wait_for(&command, 3 * SOON, state).map_err(|e| e.to_string())
        };
        done.unwrap_or_else(|e| panic!("{host}$ {command}\n{e}\n{}", rt1.journal()));
        if command.starts_with("baton pki issue") {
            hand_out_certificates(&lab, &rt1, [(&t1, "t1"), (&t2, "t2")]);
        }
    }
}
