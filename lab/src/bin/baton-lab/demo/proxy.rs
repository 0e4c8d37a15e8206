//! Beside what baton does: the same through a proxy, and what each was to the node that it went through.

use std::fs;
use std::time::Duration;

use baton_lab::cpu::{Rest, Used};
use baton_lab::spec::{self, PROXY, PROXY_ADDRESS};
use baton_lab::{Lab, Result};

use super::transfer::{DOWNLOAD_BYTES, RATE};
use super::{Demo, TARGETS};

/// How long programs are looked at before anybody wants anything of them.
const REST: Duration = Duration::from_millis(500);
/// Where HAProxy listens.
const PORT: u16 = 8080;
/// What runs on the node of the proxy.
pub(super) const PROGRAMS: &[&str] = &["haproxy"];

/// What a node is asked before and after a download.
pub(super) struct Node<'a> {
    lab: &'a Lab,
    host: &'static str,
    programs: &'static [&'static str],
    passed: Passed,
    rest: Rest,
    used: Used,
}

/// What has passed a node's interface, by the kernel's count.
#[derive(Clone, Copy)]
struct Passed {
    packets: [u64; 2],
    bytes: [u64; 2],
}

/// What a download was to the node.
pub(super) struct Spent {
    /// Received, sent.
    packets: [u64; 2],
    bytes: [u64; 2],
    cpu: Duration,
}

impl<'a> Node<'a> {
    pub(super) fn before(
        lab: &'a Lab,
        host: &'static str,
        programs: &'static [&'static str],
    ) -> Result<Self> {
        let before = lab.used(programs)?;
        std::thread::sleep(REST);
        let used = lab.used(programs)?;
        let rest = used.at_rest_since(&before);
        Ok(Self { lab, host, programs, passed: passed(lab, host)?, rest, used })
    }

    pub(super) fn after(self) -> Result<Spent> {
        let (before, after) = (self.passed, passed(self.lab, self.host)?);
        let each = |after: [u64; 2], before: [u64; 2]| [after[0] - before[0], after[1] - before[1]];
        Ok(Spent {
            packets: each(after.packets, before.packets),
            bytes: each(after.bytes, before.bytes),
            cpu: self.lab.used(self.programs)?.since(&self.used, self.rest),
        })
    }
}

/// Reads `/proc/net/dev`: behind the colon eight columns of what was received, then as many of what was sent; of each the
/// first two are bytes and packets.
fn passed(lab: &Lab, host: &str) -> Result<Passed> {
    let line = lab.host(host).sh("grep eth0: /proc/net/dev")?;
    let columns: Vec<u64> = line
        .split(':')
        .nth(1)
        .into_iter()
        .flat_map(str::split_whitespace)
        .map(|n| n.parse().unwrap_or(0))
        .collect();
    let column = |n: usize| columns.get(n).copied().unwrap_or(0);
    Ok(Passed { bytes: [column(0), column(8)], packets: [column(1), column(9)] })
}

/// Where clients find HAProxy, without the path.
pub(super) fn haproxy() -> String {
    format!("http://{}:{PORT}", PROXY_ADDRESS.0)
}

/// Starts HAProxy before the nginx of all targets, with the routes of the [third act](super::content); t1 has what is in none of them.
fn start_haproxy(lab: &Lab) -> Result<()> {
    let uses = TARGETS.map(|target| {
        format!("    use_backend {target} if {{ path_beg {} }}\n", super::content::prefix(target))
    });
    let backends = (1u8..).zip(TARGETS).map(|(number, target)| {
        format!("backend {target}\n    server {target} {}:80\n", spec::host(spec::target(number)).0)
    });
    let configuration = format!(
        "global\n    nbthread 1\ndefaults\n    mode http\n    option splice-auto\n    timeout connect 5s\n    timeout client 30s\n    timeout server 30s\n\
         frontend web\n    bind :{PORT}\n{}    default_backend t1\n{}",
        uses.concat(),
        backends.collect::<String>(),
    );
    let file = lab.files().join("haproxy.cfg");
    fs::write(&file, configuration).map_err(|cause| baton_lab::LabError::File {
        attempt: "write",
        path: file.clone(),
        cause,
    })?;
    lab.start_on(PROXY, "haproxy", &["haproxy", "-db", "-f", &file.to_string_lossy()])?;
    lab.wait_for("HAProxy to listen", Duration::from_secs(10), || {
        let found = lab.host(PROXY).sh(&format!("ss -Hltn sport = :{PORT}")).map_err(|e| e.to_string())?;
        if found.is_empty() { Err("it does not listen".to_owned()) } else { Ok(()) }
    })
}

impl Demo {
    /// Downloads as much through HAProxy on a node of its own, from the nginx of t1, and compares.
    pub(super) fn proxy(&mut self, lab: &Lab, baton: Spent) -> Result<()> {
        self.step("the same download through HAProxy, on a node like the routing node");
        let directory = lab.files().join("nginx-t1/www");
        let make = format!(
            "{} content {DOWNLOAD_BYTES} >{}/large",
            lab.example("http")?.display(),
            directory.display()
        );
        lab.host("t1").sh(&make)?;
        start_haproxy(lab)?;
        let node = Node::before(lab, PROXY, PROGRAMS)?;
        let url = format!("{}/files/large", haproxy());
        let got = lab.client().sh(&format!("curl -sS --limit-rate {RATE} {url} | wc -c"))?;
        let haproxy = node.after()?;
        let is_whole = got.trim() == DOWNLOAD_BYTES.to_string();
        self.verdict.claim("HAProxy delivered as much", is_whole, &format!("{} bytes", got.trim()));
        self.compare(&baton, &haproxy);
        Ok(())
    }

    /// Shows what the same bytes were to both nodes, and claims what has to be so.
    pub(super) fn compare(&mut self, baton: &Spent, haproxy: &Spent) {
        println!("\n   the node between           {:>12} {:>12}", "baton", "HAProxy");
        let row = |what: &str, value: &dyn Fn(&Spent) -> String| {
            println!("   {what:26} {:>12} {:>12}", value(baton), value(haproxy));
        };
        row("packets received", &|s| s.packets[0].to_string());
        row("packets sent", &|s| s.packets[1].to_string());
        row("MB received", &|s| format!("{:.1}", s.bytes[0] as f64 / 1e6));
        row("MB sent", &|s| format!("{:.1}", s.bytes[1] as f64 / 1e6));
        row("CPU seconds of its programs", &|s| format!("{:.2}", s.cpu.as_secs_f64()));
        println!(
            "   (with the kernel's work for what they send, which on veths is that of the receiver too; without idle polls)\n"
        );
        let all = |s: &Spent| s.bytes[0] + s.bytes[1];
        let share = all(baton) as f64 / all(haproxy).max(1) as f64;
        let seen = format!("{:.1} % of HAProxy's", share * 100.0);
        self.verdict.claim("hardly a byte of the answers passed the routing node", share < 0.1, &seen);
        let packets = |s: &Spent| s.packets[0] + s.packets[1];
        let seen = format!("{} and {}", packets(baton), packets(haproxy));
        self.verdict.claim("it handled fewer packets than HAProxy", packets(baton) < packets(haproxy), &seen);
    }
}
