//! Ports that one host has for itself: FTP's passive data connections, listeners whose port the host chooses, and connections that
//! hosts open with the DVIPA as their source.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use lab::client::ask;
use lab::server::Server;
use lab::spec::{self, CLIENT, DVIPA};
use lab::{Lab, Spec};
use nix::unistd::{User, chown};

use crate::fixture::{SOON, dvipa4, lab};

const HOSTS: [&str; 3] = ["t1", "t2", "t3"];
/// How long a routing stack waits for what others have before it grants ports, and more than that.
const GRANTED: Duration = Duration::from_secs(60);

fn program(name: &str) -> String {
    format!("{}/tests/e2e/ports/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A lab with the stock vsftpd on each host, each with its name in `who`, the same `big`, and `pub` to write to.
fn ftp() -> (Lab, Vec<u8>) {
    let tables = spec::both_families("ports = [21]\ndestip = \"all\"\nmethod = \"round-robin\"");
    let lab = lab(Spec::default().vipadynamic(tables).web([]));
    let user = User::from_name("ftp").expect("users are known").expect("the package makes it");
    let big: Vec<u8> = (0..3_000_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for host in HOSTS {
        let root = root(&lab, host);
        fs::create_dir_all(root.join("pub")).expect("a directory");
        fs::write(root.join("who"), format!("{host}\n")).expect("written");
        fs::write(root.join("big"), &big).expect("written");
        chown(&root.join("pub"), Some(user.uid), Some(user.gid)).expect("it is the server's");
        let settings = format!(
            "listen=NO\nlisten_ipv6=YES\nbackground=NO\nanonymous_enable=YES\nno_anon_password=YES\nanon_root={}\n\
             write_enable=YES\nanon_upload_enable=YES\nanon_umask=022\n",
            root.display()
        );
        let file = lab.files().join(format!("vsftpd-{host}.conf"));
        fs::write(&file, settings).expect("written");
        let words = ["vsftpd", &file.display().to_string()];
        lab.start_on(host, &format!("vsftpd-{host}"), &words).expect("the server starts");
    }
    lab.wait_for_targets(21, &HOSTS).unwrap_or_else(|e| panic!("{e}"));
    (lab, big)
}

fn root(lab: &Lab, host: &str) -> PathBuf {
    lab.files().join(format!("ftp-{host}"))
}

/// The hosts where this was uploaded, each with the right content.
fn uploaded(lab: &Lab, name: &str, content: &[u8]) -> usize {
    let of =
        |host: &&&str| fs::read(root(lab, host).join("pub").join(name)).is_ok_and(|found| found == content);
    HOSTS.iter().filter(of).count()
}

/// U2: passive FTP to unmodified servers behind one DVIPA, with curl (EPSV and PASV) and lftp, both families: the data connection
/// reaches the host of the session, downloads and uploads are whole.
#[test]
#[ignore = "needs root"]
fn passive_data_connections_reach_the_host_of_their_session() {
    let (lab, big) = ftp();
    let sent = lab.files().join("sent");
    fs::write(&sent, &big).expect("written");
    let sent = sent.display().to_string();
    let got = lab.files().join("got").display().to_string();
    let mut seen = BTreeSet::new();
    for (way, host, options) in [
        ("epsv", DVIPA.0.to_string(), &[][..]),
        ("pasv", DVIPA.0.to_string(), &["--disable-epsv"][..]),
        ("v6", format!("[{}]", DVIPA.1), &[][..]),
    ] {
        for turn in 0..6 {
            let url = |path: &str| format!("ftp://{host}/{path}");
            // One session: what says who it is with, the download, the upload.
            let name = format!("{way}-{turn}");
            let (who, large, up) = (url("who"), url("big"), url(&format!("pub/{name}")));
            let words =
                [&["curl", "-sS", "--max-time", "60"], options, &[&who, &large, "-o", "-", "-o", &got]]
                    .concat();
            seen.insert(lab.client().run(&words).unwrap_or_else(|e| panic!("{name}: {e}")));
            assert_eq!(fs::read(&got).expect("it was downloaded"), big, "{name}");
            let words = [&["curl", "-sS", "--max-time", "60"], options, &["-T", &sent, &up]].concat();
            lab.client().run(&words).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(uploaded(&lab, &name, &big), 1, "{name} is on one host, and whole");
        }
    }
    for (way, host) in [("lftp4", DVIPA.0.to_string()), ("lftp6", DVIPA.1.to_string())] {
        let script = format!(
            "set net:max-retries 1; set net:timeout 60; set xfer:clobber on; open {host}; cat who; get big -o {got}; \
             put {sent} -o pub/{way}; bye"
        );
        let who = lab.client().run(&["lftp", "-c", &script]).unwrap_or_else(|e| panic!("{way}: {e}"));
        seen.insert(who);
        assert_eq!(fs::read(&got).expect("it was downloaded"), big, "{way}");
        assert_eq!(uploaded(&lab, way, &big), 1, "{way}");
    }
    assert_eq!(seen, HOSTS.map(|host| format!("{host}\n")).into(), "sessions with all of them");
}

/// U2: a session's data connections go to its host while it drains and has weight 0.
#[test]
#[ignore = "needs root"]
fn drains_and_weights_do_not_concern_a_port_of_one_host() {
    let (lab, big) = ftp();
    let directory = lab.files().display().to_string();
    let dvipa = DVIPA.0.to_string();
    let said = thread::scope(|scope| {
        let session = program("session.py");
        let words = ["python3", &session, &dvipa, &directory, "t2"].map(str::to_owned);
        let client = lab.client();
        let session = scope.spawn(move || client.run(&words.each_ref().map(String::as_str)));
        lab.wait_for("the session to begin", GRANTED, || {
            if lab.files().join("begun").exists() { Ok(()) } else { Err("it has not begun".to_owned()) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
        lab.baton(&["drain", "t2"]).expect("t2 drains");
        lab.wait_for_targets(21, &["t1", "t3"]).unwrap_or_else(|e| panic!("{e}"));
        fs::write(lab.files().join("drained"), "").expect("written");
        session.join().expect("it ends").unwrap_or_else(|e| panic!("{e}"))
    });
    assert!(said.ends_with(" t2\n"), "{said}");
    (0..5).for_each(|number| assert_eq!(uploaded(&lab, &format!("again-{number}"), &big), 1));
}

/// Waits until these hosts have ports to give.
fn wait_for_ports(lab: &Lab, hosts: &[&str]) {
    for host in hosts {
        lab.wait_for(&format!("{host} to be granted ports"), GRANTED, || {
            let status = lab.agent_status(host).map_err(|e| e.to_string())?;
            let dvipas = status["dvipas"].as_array().cloned().unwrap_or_default();
            let granted =
                dvipas.iter().filter(|d| d["ports"]["granted"].as_u64().is_some_and(|ports| ports > 0));
            if granted.count() == dvipas.len() && !dvipas.is_empty() {
                Ok(())
            } else {
                Err(status.to_string())
            }
        })
        .unwrap_or_else(|e| panic!("{e}"));
    }
}

/// Listeners on ports that the host chooses.
fn listen(lab: &Lab, host: &str, address: IpAddr, count: usize) -> Vec<TcpListener> {
    let bind = || (0..count).map(|_| TcpListener::bind((address, 0)).expect("a port")).collect();
    lab.host(host).enter(bind)
}

fn ports(listeners: &[TcpListener]) -> BTreeSet<u16> {
    listeners.iter().map(|listener| listener.local_addr().expect("its address").port()).collect()
}

/// The client connects to the DVIPA's port of this listener.
fn is_reached(lab: &Lab, host: &str, listener: &TcpListener) {
    let to = listener.local_addr().expect("its address");
    lab.wait_for_targets(to.port(), &[host]).unwrap_or_else(|e| panic!("{e}"));
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("a client");
            stream.write_all(b"here").expect("sent");
        });
        let mut said = String::new();
        let connect = || std::net::TcpStream::connect_timeout(&to, SOON);
        let mut stream = lab.client().enter(connect).unwrap_or_else(|e| panic!("{to}: {e}"));
        stream.read_to_string(&mut said).expect("read");
        assert_eq!(said, "here");
        server.join().expect("it has served");
    });
}

/// U3: binds to the DVIPA with port 0 give ports that no other host has, and that clients reach; a restarted routing stack learns
/// which are in use before it gives any.
#[test]
#[ignore = "needs root"]
fn bound_ports_are_unique_in_the_cluster_and_reached_also_after_the_owners_restart() {
    let lab = lab(Spec::default());
    wait_for_ports(&lab, &HOSTS);
    let mut all = BTreeSet::new();
    let mut kept = Vec::new();
    let more = |all: &mut BTreeSet<(IpAddr, u16)>, kept: &mut Vec<TcpListener>| {
        for address in [IpAddr::from(DVIPA.0), DVIPA.1.into()] {
            for host in HOSTS {
                // More than the first grant has.
                let listeners = listen(&lab, host, address, 400);
                for port in ports(&listeners) {
                    assert!(all.insert((address, port)), "port {port} of {address} was given twice");
                }
                is_reached(&lab, host, &listeners[0]);
                is_reached(&lab, host, &listeners[399]);
                kept.extend(listeners);
            }
        }
    };
    more(&mut all, &mut kept);
    lab.kill("batond").expect("it is killed");
    lab.start_batond().expect("it starts again");
    HOSTS.iter().for_each(|host| lab.wait_for_session(host, "up").unwrap_or_else(|e| panic!("{e}")));
    more(&mut all, &mut kept);
    assert_eq!(all.len(), 2 * 2 * 3 * 400);
    // A listener on a port that another host may give is refused as one on a port in use, and one on an enumerated port is not.
    let of_t1 = *ports(&kept[..1]).first().expect("a port");
    let taken = lab.host("t2").enter(|| TcpListener::bind(dvipa4(of_t1))).expect_err("it is t1's");
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    drop(kept);
    let _web = Server::tcp(lab.host("t2"), dvipa4(8080), "t2").expect("any other port is free");
    lab.wait_for_targets(8080, &["t2"]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(ask(lab.client(), dvipa4(8080)).expect("it answers"), "t2");
}

/// U3: two hosts open 20 000 connections each from one DVIPA to one server at a time: no port is used twice, all are answered.
#[test]
#[ignore = "needs root"]
fn two_hosts_open_twenty_thousand_connections_each_from_one_dvipa() {
    // A process may have no more than 20 000 descriptors on many machines.
    const EACH: usize = 10_000;
    const PORT: u16 = 9000;
    let lab = lab(Spec::default());
    wait_for_ports(&lab, &["t1", "t2"]);
    let (answers, port) = (program("answers.py"), PORT.to_string());
    for number in 0..4 {
        let words = ["python3", &answers, &port];
        lab.start_on("client", &format!("answers-{number}"), &words).expect("the server starts");
    }
    lab.wait_for("the servers to listen", SOON, || {
        let listens =
            lab.client().run(&["ss", "-Hltn", &format!("sport = :{PORT}")]).map_err(|e| e.to_string())?;
        if listens.lines().count() == 4 { Ok(()) } else { Err(listens) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    let (opens, each) = (program("opens.py"), EACH.to_string());
    let (source, server) = (DVIPA.0.to_string(), CLIENT.0.to_string());
    let clients = ["t1", "t2"].into_iter().flat_map(|host| [(host, "a"), (host, "b")]);
    let clients: Vec<_> = clients.map(|(host, which)| (host, format!("opens-{host}-{which}"))).collect();
    let file = |name: &str| lab.files().join(name);
    for (host, name) in &clients {
        let ports = file(name).display().to_string();
        let words = ["python3", &opens, &source, &server, &port, &each, &ports];
        lab.start_on(host, name, &words).expect("it starts");
    }
    let mut all = BTreeSet::new();
    for (_, name) in &clients {
        lab.wait_for(&format!("{name} to have opened all"), Duration::from_secs(900), || {
            lab.check().map_err(|e| e.to_string())?;
            if file(name).exists() { Ok(()) } else { Err("it has not".to_owned()) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
        let ports = fs::read_to_string(file(name)).expect("its ports");
        all.extend(ports.lines().map(|port| port.parse::<u16>().expect("a port")));
    }
    assert_eq!(all.len(), 4 * EACH, "no port twice");
}

/// U2: of two hosts that listen on one port that nothing distributes, the first has the clients, and the routing stack counts the
/// other; when the first ends, the other has them.
#[test]
#[ignore = "needs root"]
fn the_first_of_two_hosts_has_the_port_and_the_second_is_counted() {
    let lab = lab(Spec::default());
    let port = 30_000;
    let first = Server::tcp(lab.host("t3"), dvipa4(port), "t3").expect("it listens");
    lab.wait_for_targets(port, &["t3"]).unwrap_or_else(|e| panic!("{e}"));
    let _second = Server::tcp(lab.host("t1"), dvipa4(port), "t1").expect("it listens");
    lab.wait_for("the second to be counted", SOON, || {
        let status = lab.baton_json(&["status"]).map_err(|e| e.to_string())?;
        let refused = status["refused"].as_array().cloned().unwrap_or_default();
        let counted = refused.iter().any(|r| r["reason"] == "port_taken" && r["stack"] == "t1");
        if counted { Ok(()) } else { Err(status.to_string()) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(ask(lab.client(), dvipa4(port)).expect("it answers"), "t3");
    drop(first);
    lab.wait_for_targets(port, &["t1"]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(ask(lab.client(), SocketAddr::new(DVIPA.0.into(), port)).expect("it answers"), "t1");
}
