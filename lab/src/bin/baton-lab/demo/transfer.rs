//! The second act: one connection moves from host to host while its client downloads over it.

use std::fs;
use std::time::{Duration, Instant};

use baton_lab::fabric::mac;
use baton_lab::spec::{DVIPA, RoutingNode};
use baton_lab::{Lab, Result};

use super::proxy::{Node, Spent};
use super::{Demo, TARGETS};

/// The content-routed port.
pub(super) const PORT: u16 = 8080;
pub(super) const DOWNLOAD_BYTES: u64 = 300_000_000;
/// What curl takes a second, so that there is time to look on.
pub(super) const RATE: &str = "60M";
/// Where the connection is to be, one after the other: it is accepted on the routing node.
const WAY: [&str; 5] = ["rt1", "t1", "t2", "t3", "t1"];
/// How often is looked where it is: each look is work for `batond`, whose processor time is measured.
const LOOK: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);

impl Demo {
    /// Starts the applications, downloads, and says what the connection did. What that was to the routing node is returned.
    pub(super) fn transfer(&mut self, lab: &Lab) -> Result<Spent> {
        self.step("starting a routing application beside batond, and an application that serves downloads on each target");
        let (port, dvipa) = (PORT.to_string(), DVIPA.0.to_string());
        lab.start_application(
            "rt1",
            "router",
            &["http", "router", &port, &dvipa, "--", "first=path:/", "files"],
        )?;
        for target in TARGETS {
            let job = if target == "t1" { "first" } else { "files" };
            lab.start_application(
                target,
                &format!("{job}@{target}"),
                &["http", "target", job, &port, &dvipa],
            )?;
        }
        self.wait_for_applications(lab)?;
        self.step(&format!(
            "curl downloads {} MB; its connection is to move to t2, t3, and back to t1",
            DOWNLOAD_BYTES / 1_000_000
        ));
        let signs = "tcp port 8080 and tcp[tcpflags] & (tcp-syn | tcp-fin | tcp-rst) != 0";
        let signs = lab.capture("client", "eth0", signs)?;
        // Seen at the client: a capture at the routing node does not see what its forwarder sends.
        let from_router = format!("tcp src port {PORT} and ether src {}", mac(RoutingNode::First.number()));
        let from_router = lab.capture("client", "eth0", &from_router)?;
        let before = sent_bytes(lab)?;
        let node = Node::before(lab, "rt1", &["batond", "agent-rt1", "router"])?;
        let seen = self.download(lab)?;
        let spent = node.after()?;
        let after = sent_bytes(lab)?;
        println!("   bytes sent meanwhile:");
        for ((host, before), (_, after)) in before.into_iter().zip(after) {
            println!("   {host:8} {:6.1} MB", (after - before) as f64 / 1e6);
        }
        let way: Vec<&str> = seen.iter().map(String::as_str).collect();
        // It is at the routing node for a moment only.
        let moved = way == WAY || way == WAY[1..];
        self.verdict.claim("the connection was at each of its targets in turn", moved, &way.join(", "));
        let sums = fs::read_to_string(lab.files().join("download.log")).unwrap_or_default();
        let sum = sums.lines().next().unwrap_or_default().get(..16).unwrap_or("none").to_owned();
        let wanted = lab
            .client()
            .sh(&format!("{} content {DOWNLOAD_BYTES} | sha256sum", lab.example("http")?.display()))?;
        let held = sum.len() == 16 && wanted.starts_with(&sum);
        self.verdict.claim("the checksum of the download is right", held, &format!("sha256 {sum}…"));
        let signs = signs.stop()?.packets("")?;
        let with = |flags: &str| signs.iter().filter(|l| l.contains(flags)).count();
        let (opened, reset) = (with("Flags [S]"), with("Flags [R"));
        let seen = format!("{opened} SYN, {reset} RST at the client");
        self.verdict.claim("curl had one connection, and nobody reset it", opened == 1 && reset == 0, &seen);
        let answers = from_router.stop()?.packets("")?;
        let with_bytes = answers.iter().filter(|l| !l.contains("length 0")).count();
        let seen =
            format!("{} packets of the handshake, {with_bytes} with bytes", answers.len() - with_bytes);
        let held = !answers.is_empty() && with_bytes == 0;
        self.verdict.claim("the routing node answered, and sent no byte of the download", held, &seen);
        Ok(spent)
    }

    fn wait_for_applications(&self, lab: &Lab) -> Result<()> {
        lab.wait_for("the router and its targets to be registered", LONGEST, || {
            let rows = lab.dpt().map_err(|e| e.to_string())?;
            let row = rows.iter().find(|row| row.port == PORT && row.dvipa == DVIPA.0.to_string());
            let ready = |name: &str, state: &str| {
                row.is_some_and(|row| row.targets.iter().any(|t| t.target == name && t.state == state))
            };
            let all = ready("rt1", "listening") && TARGETS.iter().all(|t| ready(t, "transfer-only"));
            if all { Ok(()) } else { Err(format!("{row:#?}")) }
        })
    }

    /// Runs curl to its end and returns at which stacks its connection was, in order.
    fn download(&self, lab: &Lab) -> Result<Vec<String>> {
        let path = format!("/download/{DOWNLOAD_BYTES}?via=files@t2,files@t3,first@t1");
        let script = format!("curl -sS --limit-rate {RATE} 'http://{}:{PORT}{path}' | sha256sum", DVIPA.0);
        lab.start_on("client", "download", &["sh", "-c", &script])?;
        let (begun, mut seen) = (Instant::now(), Vec::<String>::new());
        let log = lab.files().join("download.log");
        while fs::metadata(&log).is_ok_and(|m| m.len() == 0) && begun.elapsed() < LONGEST {
            let rows = lab.crt(&["--port", &PORT.to_string()])?;
            let row = rows.iter().find(|row| row.state == "established");
            if let Some(row) = row.filter(|row| seen.last() != Some(&row.stack)) {
                println!("   {:4.1} s  the connection is at {}", begun.elapsed().as_secs_f64(), row.stack);
                seen.push(row.stack.clone());
            }
            std::thread::sleep(LOOK);
        }
        lab.wait_end("download")?;
        Ok(seen)
    }
}

/// What each host has sent by its interface.
fn sent_bytes(lab: &Lab) -> Result<Vec<(String, u64)>> {
    let hosts = ["rt1"].into_iter().chain(TARGETS);
    hosts
        .map(|host| {
            let line = lab.host(host).sh("grep eth0: /proc/net/dev")?;
            // Behind the colon: eight columns of what was received, then bytes sent.
            let bytes = line.split(':').nth(1).and_then(|l| l.split_whitespace().nth(8)?.parse().ok());
            Ok((host.to_owned(), bytes.unwrap_or_default()))
        })
        .collect()
}
