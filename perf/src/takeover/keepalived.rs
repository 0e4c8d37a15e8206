//! The same beside it: HAProxy on two hosts before the same servers, an address that keepalived moves between them by VRRP.
//!
//! A host dies as one does without power: its link goes down and its programs end.

use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use lab::Lab;
use lab::spec::{self, Spec};

use super::clients::{Clients, Window};
use super::{Done, PATIENCE, Pace, count, is_calm, kills, never_calm, percentile_ms};
use crate::rows::Rows;
use crate::transfer::Failure;

/// The hosts of the proxies.
const NODES: [&str; 2] = ["t4", "t5"];
/// The address that moves, and where clients find it.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 9, 2);
const PORT: u16 = 80;
/// Clients go on for so long before something happens.
const REST: Duration = Duration::from_millis(500);

/// The names of the rows.
pub(super) fn rows(pace: Pace) -> [String; 3] {
    ["outage_p99_ms", "first_packet_ms", "resets"]
        .map(|row| format!("{}_{row}", pace.rows("keepalived_haproxy")))
}

pub(super) fn measure(rows: &mut Rows, pace: Pace) -> Done {
    for interval in pace.intervals() {
        let bed = Bed::start(interval)?;
        let clients = Clients::start(&bed.lab, (ADDRESS, PORT).into())?;
        if is_calm(interval, || bed.takeovers())? {
            return kill_again_and_again(rows, pace, &bed, &clients);
        }
    }
    Err(never_calm())
}

fn kill_again_and_again(rows: &mut Rows, pace: Pace, bed: &Bed, clients: &Clients) -> Done {
    let (mut outages, mut firsts, masters) = (Vec::new(), Vec::new(), bed.takeovers()?);
    for _ in 0..kills() {
        std::thread::sleep(REST);
        clients.wait_until_answered(&bed.lab, Instant::now())?;
        let master = bed.wait_for_master()?;
        let from = bed.kill(master)?;
        bed.wait_for_master()?;
        clients.wait_until_answered(&bed.lab, Instant::now())?;
        let window = Window { from, to: Instant::now() };
        outages.extend(clients.outages_of_asking(window));
        firsts.push(clients.first_answer(window));
        bed.begin_anew(master)?;
    }
    let (all, ms) = (clients.len(), percentile_ms);
    let [outage, first, resets] = self::rows(pace);
    let about = format!("{all} connections, {} kills", kills());
    let unwanted = (bed.takeovers()? - masters).saturating_sub(kills() as usize);
    let note = format!(
        "until a client that asks and was reset is answered over a new connection; half of them wait {:.0} ms, the last one {:.0}; {}; {about}",
        ms(&outages, 50),
        ms(&outages, 100),
        bed.about,
    );
    rows.add(&outage, "ms", ms(&outages, 99), note);
    let note =
        format!("median, {:.0} ms at most: from the kill until a new client is answered", ms(&firsts, 100));
    rows.add(&first, "ms", ms(&firsts, 50), note);
    let note = format!("connections that ended; {unwanted} takeovers that no kill caused; {about}");
    rows.add(&resets, "", clients.ended() as f64, note);
    Ok(())
}

/// Three servers, two proxies.
struct Bed {
    lab: Lab,
    keepalived: String,
    /// How fast a death is noticed.
    about: String,
}

impl Bed {
    fn start(interval: Option<u64>) -> Result<Self, Failure> {
        let lab = Lab::build(Spec { targets: 5, ..Spec::default() })?;
        for target in ["t1", "t2", "t3"] {
            lab.start_web(target)?;
        }
        let servers: String =
            [1, 2, 3].map(|n| format!("    server t{n} {}:80\n", spec::host(spec::target(n)).0)).concat();
        let haproxy = format!(
            "global\n    nbthread 1\n    maxconn 4096\n\
             defaults\n    mode http\n    option splice-auto\n    http-reuse always\n    timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n\
             frontend web\n    bind :{PORT}\n    default_backend servers\nbackend servers\n    balance roundrobin\n{servers}"
        );
        fs::write(lab.files().join("haproxy.cfg"), haproxy)?;
        let (timers, about) = match interval {
            None => (String::new(), "VRRP's default timers: an advertisement each second".to_owned()),
            Some(ms) => (
                // What the segment has missed of its first announcements it hears after a second, not five.
                format!(
                    "    version 3\n    advert_int {}\n    garp_master_delay 1\n    garp_master_refresh 1\n",
                    ms as f64 / 1e3
                ),
                format!("VRRP version 3, an advertisement each {ms} ms"),
            ),
        };
        // Of equal rank, so that the one that comes back does not take the address from the clients once more.
        let keepalived = format!(
            "global_defs {{\n    max_auto_priority\n}}\nvrrp_instance web {{\n    state BACKUP\n    nopreempt\n    interface eth0\n    virtual_router_id 51\n    priority 254\n{timers}    \
             virtual_ipaddress {{\n        {ADDRESS}/15 dev eth0\n    }}\n}}\n"
        );
        let bed = Self { lab, keepalived, about };
        for node in NODES {
            bed.start_node(node)?;
        }
        bed.wait_for_master()?;
        Ok(bed)
    }

    fn start_node(&self, node: &str) -> Done {
        let at = self.lab.files();
        let file = at.join(format!("keepalived-{node}.conf"));
        fs::write(&file, &self.keepalived)?;
        let path = |name: String| at.join(name).display().to_string();
        let (file, haproxy) = (file.display().to_string(), path("haproxy.cfg".to_owned()));
        let (pid, vrrp) = (path(format!("keepalived-{node}.pid")), path(format!("vrrp-{node}.pid")));
        self.lab.start_on(node, &format!("haproxy-{node}"), &["haproxy", "-db", "-f", &haproxy])?;
        let words =
            ["keepalived", "--dont-fork", "--vrrp", "--log-console", "-f", &file, "-p", &pid, "-r", &vrrp];
        self.lab.start_on(node, &format!("keepalived-{node}"), &words)?;
        self.lab.wait_for(&format!("HAProxy on {node}"), PATIENCE, || {
            let listens =
                self.lab.host(node).sh(&format!("ss -Hltn sport = :{PORT}")).map_err(|e| e.to_string())?;
            if listens.is_empty() { Err("nobody listens".to_owned()) } else { Ok(()) }
        })?;
        Ok(())
    }

    /// How often a node has taken the address.
    fn takeovers(&self) -> Result<usize, Failure> {
        let logs = NODES.map(|node| format!("keepalived-{node}"));
        count(&self.lab, &logs.each_ref().map(String::as_str), "Entering MASTER STATE")
    }

    /// The node dies. From this moment on nothing comes from it.
    fn kill(&self, node: &str) -> Result<Instant, Failure> {
        self.lab.switch().sh(&format!("ip link set {node} down"))?;
        let died = Instant::now();
        for program in ["keepalived", "haproxy"] {
            self.lab.kill_all(node, program)?;
        }
        // What keepalived would have done on the way up.
        self.lab.host(node).sh(&format!("ip addr del {ADDRESS}/15 dev eth0 2>/dev/null || true"))?;
        Ok(died)
    }

    fn begin_anew(&self, node: &str) -> Done {
        self.lab.switch().sh(&format!("ip link set {node} up"))?;
        self.start_node(node)
    }

    /// The node that has the address, if only one has.
    fn find_master(&self) -> Result<&'static str, String> {
        let shows = |node: &&str| {
            let addresses = self.lab.host(node).sh("ip -4 -o addr show dev eth0");
            addresses.is_ok_and(|text| text.contains(&ADDRESS.to_string()))
        };
        let those: Vec<&str> = NODES.into_iter().filter(shows).collect();
        if let [one] = those[..] { Ok(one) } else { Err(format!("{those:?} have the address")) }
    }

    fn wait_for_master(&self) -> Result<&'static str, Failure> {
        Ok(self.lab.wait_for("a master", PATIENCE, || self.find_master())?)
    }
}
