//! Addresses of ranges: they follow the applications that bind to them, or an operator's order, from host to host.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use lab::client::{HttpConnection, ask};
use lab::server::Server;
use lab::spec::{RoutingNode, Web};
use lab::{Lab, Spec};
use nix::sys::signal::Signal;

use crate::fixture::{lab, still_answered_by};

/// The machine is shared by several labs.
const SOON: Duration = Duration::from_secs(60);
/// An address of the range of each family.
const ADDRESS: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(198, 18, 10, 5), Ipv6Addr::new(0x2001, 0xdb8, 0x10, 0, 0, 0, 0, 5));

/// A range of each family, with these further lines.
fn ranges(lines: &str) -> String {
    let each = |network: &str, mask: u8| {
        format!("[[vipadynamic.viparange]]\naddress = \"{network}\"\nmask = {mask}\n{lines}\n")
    };
    format!("[[vipadynamic]]\n{}{}", each("198.18.10.0", 24), each("2001:db8:10::", 64))
}

fn addresses() -> [IpAddr; 2] {
    [ADDRESS.0.into(), ADDRESS.1.into()]
}

fn to(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, 80)
}

/// The same web server on a host, bound to both addresses and nothing else.
fn web(stack: &str) -> Web {
    Web {
        stack: stack.to_owned(),
        listen: vec![format!("{}:80", ADDRESS.0), format!("[{}]:80 ipv6only=on", ADDRESS.1)],
    }
}

/// A lab with ranges, whose hosts know them.
fn lab_of(spec: Spec) -> Lab {
    let lab = lab(spec);
    for host in ["t1", "t2", "t3"] {
        lab.wait_for(&format!("{host} to allow binds"), SOON, || {
            for family in ["ipv4", "ipv6"] {
                let file = format!("/proc/sys/net/{family}/ip_nonlocal_bind");
                let set = lab.host(host).run(&["cat", &file]).map_err(|e| e.to_string())?;
                if set.trim() != "1" {
                    return Err(format!("{file}: {set}"));
                }
            }
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{e}"));
    }
    lab
}

/// Where an address is active as this routing node says, and in which state.
fn active(lab: &Lab, node: RoutingNode, address: IpAddr) -> Result<Option<(String, String)>, String> {
    let view = lab.baton_json_at(node, &["vipa"]).map_err(|e| e.to_string())?;
    let ranges = view["ranges"].as_array().cloned().unwrap_or_default();
    let all = ranges.iter().flat_map(|range| range["active"].as_array().cloned().unwrap_or_default());
    let mut of_it = all.filter(|active| active["address"] == address.to_string());
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    Ok(of_it.next().map(|active| (text(&active["stack"]), text(&active["state"]))))
}

/// Waits until this host has the address and new clients get to it, and says in which state it is.
fn wait_for_host(lab: &Lab, node: RoutingNode, address: IpAddr, host: &str) -> String {
    lab.wait_for(&format!("{address} at {host}"), SOON, || {
        let now = active(lab, node, address)?;
        let dpt = lab.dpt_at(node).map_err(|e| e.to_string())?;
        let row = dpt.iter().find(|row| row.dvipa == address.to_string() && row.port == 80);
        let selectable = row.map(|row| row.selectable()).unwrap_or_default();
        match now {
            Some((stack, state)) if stack == host && selectable == [host] => Ok(state),
            now => Err(format!("{now:?}, {selectable:?}")),
        }
    })
    .unwrap_or_else(|e| panic!("{e}"))
}

fn wait_for_nobody(lab: &Lab, address: IpAddr) {
    lab.wait_for(&format!("{address} to be nobody's"), SOON, || {
        match active(lab, RoutingNode::First, address)? {
            None => Ok(()),
            some => Err(format!("{some:?}")),
        }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

/// A client that stays connected, and the host that it is connected to.
fn client(lab: &Lab, address: IpAddr) -> (HttpConnection, String) {
    let mut connection =
        HttpConnection::open_patiently(lab.client(), to(address), SOON).expect("the client connects");
    let host = connection.target().expect("it is answered");
    (connection, host)
}

fn asks(lab: &Lab, address: IpAddr) -> String {
    ask(lab.client(), to(address)).unwrap_or_else(|e| panic!("{address}: {e}"))
}

/// W9: an unmodified nginx binds to an address of the range on one host, then on a second and a third: each time new clients
/// get to the last one, and those of before, idle ones and downloads under way, stay where they are, whole. At last a VIPADEFINE
/// takes the address, with a distribution of its own. Both families.
#[test]
#[ignore = "needs root"]
fn an_address_follows_the_application_that_binds_to_it_from_host_to_host() {
    let mut lab = lab_of(Spec::default().vipadynamic(ranges("moveable = \"nondisruptive\"")).web([]));
    let mut clients: Vec<(HttpConnection, String)> = Vec::new();
    thread::scope(|scope| {
        let mut downloads = Vec::new();
        for host in ["t1", "t2", "t3"] {
            lab.start_web_as(&web(host)).expect("nginx starts");
            for address in addresses() {
                wait_for_host(&lab, RoutingNode::First, address, host);
                let (idle, answered) = client(&lab, address);
                assert_eq!(answered, host);
                clients.push((idle, answered));
                let mut download = client(&lab, address).0;
                let file = lab.files().join(format!("nginx-{host}/www/big"));
                downloads.push(scope.spawn(move || {
                    let got = download.get("/slow").expect("the download is whole");
                    assert!(
                        got == fs::read(file).expect("the file"),
                        "{} bytes are not what {host} has",
                        got.len()
                    );
                }));
            }
            for (connection, host) in &mut clients {
                still_answered_by(connection, host);
            }
        }
        downloads.into_iter().for_each(|download| download.join().expect("a download"));
    });
    let shown = lab.baton(&["vipa"]).expect("it is shown");
    assert!(shown.contains("CONNECTIONS ELSEWHERE") && shown.contains("at t1"), "{shown}");
    let define = |address: IpAddr, mask: u8| {
        format!(
            "[[vipadynamic.vipadefine]]\naddress = \"{address}\"\nmask = {mask}\n\
             [[vipadynamic.vipadistribute]]\naddress = \"{address}\"\nports = [80]\ndestip = [\"t1\", \"t2\"]\n"
        )
    };
    let tables = ranges("") + &define(ADDRESS.0.into(), 24) + &define(ADDRESS.1.into(), 64);
    lab.set_vipadynamic(tables).expect("written");
    lab.baton(&["reload"]).expect("reloaded");
    lab.wait_for_targets(80, &["t1", "t2"]).unwrap_or_else(|e| panic!("{e}"));
    for address in addresses() {
        let hosts = lab::client::ask_often(lab.client(), to(address), 6);
        assert!(hosts.keys().all(|host| host == "t1" || host == "t2"), "{hosts:?}");
    }
    for (connection, host) in &mut clients {
        still_answered_by(connection, host);
    }
}

/// W9: an address goes back to the application that has been bound for longer when the later one ends, and ends with the last one; its
/// connections go on until they end by themselves. A server in Python, and clients that are curl.
#[test]
#[ignore = "needs root"]
fn the_end_of_the_application_ends_it_and_its_connections_go_on() {
    let lab = lab_of(Spec::default().vipadynamic(ranges("")).web([]));
    for address in addresses() {
        let first = Server::tcp(lab.host("t1"), to(address), "t1").expect("it listens");
        wait_for_host(&lab, RoutingNode::First, address, "t1");
        let (mut at_t1, host) = client(&lab, address);
        assert_eq!(host, "t1");
        let root = lab.files().join("python");
        fs::create_dir_all(&root).expect("made");
        fs::write(root.join("who"), "python at t2\n").expect("written");
        let (name, bound, root) =
            (format!("python-{address}"), address.to_string(), root.display().to_string());
        let words = ["python3", "-m", "http.server", "--bind", &bound, "--directory", &root, "80"];
        lab.start_on("t2", &name, &words).expect("it starts");
        wait_for_host(&lab, RoutingNode::First, address, "t2");
        let url = format!("http://{}/who", to(address));
        let said = lab.client().run(&["curl", "-sS", "--max-time", "60", &url]).expect("it answers");
        assert_eq!(said, "python at t2\n");
        still_answered_by(&mut at_t1, "t1");
        lab.stop(&name, Signal::SIGTERM).expect("it ends");
        wait_for_host(&lab, RoutingNode::First, address, "t1");
        assert_eq!(asks(&lab, address), "t1");
        drop(first);
        lab.wait_for("its end", SOON, || match active(&lab, RoutingNode::First, address)? {
            Some((_, state)) if state == "ending" => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .unwrap_or_else(|e| panic!("{e}"));
        thread::sleep(Duration::from_secs(3));
        still_answered_by(&mut at_t1, "t1");
        drop(at_t1);
        wait_for_nobody(&lab, address);
    }
}

/// W9: of a disruptive range, connections end when their address moves: their clients are told, and new ones get to the new host.
#[test]
#[ignore = "needs root"]
fn connections_to_a_disruptive_address_end_when_it_moves() {
    let lab = lab_of(Spec::default().vipadynamic(ranges("moveable = \"disruptive\"")).web([]));
    lab.start_web_as(&web("t1")).expect("nginx starts");
    let mut clients: Vec<HttpConnection> = Vec::new();
    for address in addresses() {
        wait_for_host(&lab, RoutingNode::First, address, "t1");
        clients.push(client(&lab, address).0);
    }
    lab.start_web_as(&web("t2")).expect("nginx starts");
    for address in addresses() {
        wait_for_host(&lab, RoutingNode::First, address, "t2");
        assert_eq!(asks(&lab, address), "t2");
    }
    for client in &mut clients {
        lab.wait_for("the connection to end", SOON, || match client.target() {
            Ok(host) => Err(format!("answered by {host}")),
            Err(_) => Ok(()),
        })
        .unwrap_or_else(|e| panic!("{e}"));
    }
}

/// W9: an address is active where an operator orders it, for servers of the wildcard address, and moves by the next order; a bind that
/// comes later moves it too. What can't be followed is refused with a reason.
#[test]
#[ignore = "needs root"]
fn an_address_is_active_where_an_operator_orders_it() {
    let lab = lab_of(Spec::default().vipadynamic(ranges("")).web([]));
    ["t1", "t2"].iter().for_each(|host| lab.start_web(host).expect("nginx starts"));
    for address in addresses() {
        let text = address.to_string();
        lab.baton(&["vipa", "activate", &text, "t1"]).expect("it is ordered");
        wait_for_host(&lab, RoutingNode::First, address, "t1");
        let (mut idle, host) = client(&lab, address);
        assert_eq!(host, "t1");
        lab.baton(&["vipa", "activate", &text, "t2"]).expect("it is ordered");
        wait_for_host(&lab, RoutingNode::First, address, "t2");
        assert_eq!(asks(&lab, address), "t2");
        still_answered_by(&mut idle, "t1");
        let server = Server::tcp(lab.host("t3"), to(address), "t3").expect("it listens");
        wait_for_host(&lab, RoutingNode::First, address, "t3");
        assert_eq!(asks(&lab, address), "t3");
        drop(server);
        wait_for_host(&lab, RoutingNode::First, address, "t2");
        lab.baton(&["vipa", "deactivate", &text]).expect("it is ordered");
        still_answered_by(&mut idle, "t1");
        drop(idle);
        wait_for_nobody(&lab, address);
        let refused = lab.baton(&["vipa", "deactivate", &text]).expect_err("it is not active").to_string();
        assert!(refused.contains("nowhere active by order"), "{refused}");
    }
    let refused = lab.baton(&["vipa", "activate", "198.18.11.1", "t1"]).expect_err("in no range").to_string();
    assert!(refused.contains("is in no `viparange`"), "{refused}");
}

/// W9: who has an address, and which connections are elsewhere, outlives `batond` and the agents.
#[test]
#[ignore = "needs root"]
fn who_has_an_address_outlives_batond_and_the_agents() {
    let lab = lab_of(Spec::default().vipadynamic(ranges("")).web([]));
    let mut clients: Vec<(HttpConnection, String)> = Vec::new();
    for host in ["t2", "t1"] {
        lab.start_web_as(&web(host)).expect("nginx starts");
        for address in addresses() {
            wait_for_host(&lab, RoutingNode::First, address, host);
            clients.push(client(&lab, address));
        }
    }
    let holds = |clients: &mut Vec<(HttpConnection, String)>| {
        for address in addresses() {
            wait_for_host(&lab, RoutingNode::First, address, "t1");
            assert_eq!(asks(&lab, address), "t1");
        }
        for (connection, host) in clients {
            still_answered_by(connection, host);
        }
    };
    holds(&mut clients);
    lab.kill("batond").expect("it is killed");
    lab.start_batond().expect("it starts again");
    for host in ["t1", "t2", "t3"] {
        lab.wait_for_session(host, "up").unwrap_or_else(|e| panic!("{e}"));
    }
    holds(&mut clients);
    for host in ["t1", "t2"] {
        lab.kill(&format!("agent-{host}")).expect("it is killed");
        lab.start_agent(host).expect("it starts again");
        lab.wait_for_session(host, "up").unwrap_or_else(|e| panic!("{e}"));
        thread::sleep(Duration::from_secs(2));
        holds(&mut clients);
    }
}

/// W9: the backup of the range takes active addresses over with their connections, wherever these are, and gives them back.
#[test]
#[ignore = "needs root"]
fn a_backup_of_the_range_takes_active_addresses_over() {
    use RoutingNode::{First, Second};
    let lab = lab_of(Spec::default().vipadynamic(ranges("")).second(ranges("rank = 100")).web([]));
    let mut clients: Vec<(HttpConnection, String)> = Vec::new();
    for host in ["t1", "t2"] {
        lab.start_web_as(&web(host)).expect("nginx starts");
        for address in addresses() {
            wait_for_host(&lab, First, address, host);
            wait_for_host(&lab, Second, address, host);
            clients.push(client(&lab, address));
        }
    }
    lab.wait_for("the backup to be warm", SOON, || {
        let crt = lab.crt_at(Second, &["--state", "established"]).map_err(|e| e.to_string())?;
        let known = |c: &HttpConnection| crt.iter().any(|row| row.client == c.local().to_string());
        if clients.iter().all(|(c, _)| known(c)) { Ok(()) } else { Err(format!("{crt:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    lab.kill("batond").expect("it dies");
    let owned_by = |node: RoutingNode| {
        lab.wait_for(&format!("{} to own the addresses", node.name()), SOON, || {
            let view = lab.baton_json_at(node, &["vipa"]).map_err(|e| e.to_string())?;
            let dvipas = view["dvipas"].as_array().cloned().unwrap_or_default();
            let owned = dvipas.iter().filter(|d| d["role"] == "owner").count();
            if owned == 2 { Ok(()) } else { Err(view.to_string()) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
        // A node that has just started knows an address from whichever host claims it first, until the others have.
        for address in addresses() {
            wait_for_host(&lab, node, address, "t2");
        }
    };
    let holds = |clients: &mut Vec<(HttpConnection, String)>| {
        for address in addresses() {
            assert_eq!(client(&lab, address).1, "t2");
        }
        for (connection, host) in clients {
            still_answered_by(connection, host);
        }
    };
    owned_by(Second);
    holds(&mut clients);
    lab.start_batond_of(First).expect("it starts");
    owned_by(First);
    holds(&mut clients);
}

/// W9: a UDP server has its address as a TCP server has, and the host that has an address opens connections from it.
#[test]
#[ignore = "needs root"]
fn udp_servers_and_connections_from_the_address_work_too() {
    let lab = lab_of(Spec::default().vipadynamic(ranges("")).web([]));
    for address in addresses() {
        let service = SocketAddr::new(address, 5300);
        let first = Server::udp(lab.host("t1"), service, "t1").expect("it is bound");
        let answer = || {
            let socket = lab::client::udp(lab.client(), service).map_err(|e| e.to_string())?;
            socket.set_read_timeout(Some(Duration::from_secs(1))).map_err(|e| e.to_string())?;
            let mut answer = [0; 64];
            socket.send(b"who").map_err(|e| e.to_string())?;
            let bytes = socket.recv(&mut answer).map_err(|e| e.to_string())?;
            Ok::<_, String>(String::from_utf8_lossy(&answer[..bytes]).into_owned())
        };
        let wait_for = |host: &str| {
            lab.wait_for(&format!("{host} to answer"), SOON, || match answer()? {
                said if said == format!("{host} 3") => Ok(()),
                said => Err(said),
            })
            .unwrap_or_else(|e| panic!("{e}"));
        };
        wait_for("t1");
        let _second = Server::udp(lab.host("t2"), service, "t2").expect("it is bound");
        wait_for("t2");
        drop(first);
        // The client's own server; curl is bound to the address and to any port.
        let client =
            if address.is_ipv4() { lab::spec::CLIENT.0.into() } else { IpAddr::from(lab::spec::CLIENT.1) };
        let _server = Server::tcp(lab.client(), SocketAddr::new(client, 8080), "client").expect("it listens");
        let url = format!("http://{}/", SocketAddr::new(client, 8080));
        let words = ["curl", "-sS", "--max-time", "30", "--interface", &address.to_string(), &url];
        assert_eq!(lab.host("t2").run(&words).expect("it is answered").trim(), "client");
    }
}
