//! The demo: clients reach a DVIPA, are spread over the hosts that listen, and are answered by those hosts directly. Then one
//! connection moves while it is in use, and each request of one is read and goes to the server of its route. At last the routing node
//! dies and comes back.

use std::collections::BTreeMap;
use std::fs;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use baton_lab::fabric::mac;
use baton_lab::spec::{self, DVIPA, RoutingNode};
use baton_lab::{Lab, Result, Spec, registry};
use nix::sys::signal::Signal;

use crate::verdict::Verdict;

mod content;
mod proxy;
mod takeover;
mod transfer;

/// Requests of one round of curl, a multiple of the number of targets.
const ROUND: usize = 60;
const TARGETS: [&str; 3] = ["t1", "t2", "t3"];
/// Set by Ctrl-C: what fails from then on fails because the lab is being removed.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Runs the demo and returns its exit status.
pub(crate) fn run(keep: bool) -> ExitCode {
    let handler = ctrlc::set_handler(|| {
        INTERRUPTED.store(true, Ordering::SeqCst);
        println!("\ninterrupted: removing the lab");
        registry::remove_own();
        std::process::exit(130);
    });
    if let Err(e) = handler {
        eprintln!("Ctrl-C can't be caught ({e}); the lab will be removed all the same");
    }
    let mut demo = Demo { begun: Instant::now(), verdict: Verdict::default() };
    match demo.run(keep) {
        Ok(()) => demo.verdict.end(),
        Err(_) if INTERRUPTED.load(Ordering::SeqCst) => loop {
            std::thread::park();
        },
        Err(e) => {
            println!("\nThe demo could not be carried through: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Builds the demo's lab and leaves it up.
pub(crate) fn up() -> ExitCode {
    match Lab::start(spec()) {
        Ok(lab) => {
            print_how_to_look_around(&lab);
            lab.keep();
            ExitCode::SUCCESS
        }
        Err(e) => {
            println!("{e}");
            ExitCode::FAILURE
        }
    }
}

/// Three targets with nginx on port 80, a content-routed port, and one with routes. A second routing node stands by.
fn spec() -> Spec {
    let by_turns = "ports = [80]\ndestip = [\"t1\", \"t2\", \"t3\"]\nmethod = \"round-robin\"";
    let by_content = format!("ports = [{}]\ndestip = \"all\"\ncontent_routed = true", transfer::PORT);
    let v4 = spec::dvipa(DVIPA.0.into(), 24, &[by_turns, &by_content, &content::distribute()]);
    let v6 = spec::dvipa(DVIPA.1.into(), 64, &[by_turns]);
    Spec {
        routing_agent: true,
        proxy: true,
        web: content::web(),
        ..Spec::default().vipadynamic(format!("[[vipadynamic]]\n{v4}{v6}")).second(takeover::backup())
    }
}

struct Demo {
    begun: Instant,
    verdict: Verdict,
}

impl Demo {
    fn step(&self, what: &str) {
        println!("{:6.1} s  {what}", self.begun.elapsed().as_secs_f64());
    }

    fn run(&mut self, keep: bool) -> Result<()> {
        let swept = registry::sweep();
        if !swept.is_empty() {
            self.step(&format!("removed what a killed lab left: {}", swept.join(" ")));
        }
        self.step("making network namespaces: a client, two routing nodes, three targets, one segment");
        let lab = Lab::build(spec())?;
        let outcome = self.use_lab(&lab);
        if let Err(e) = outcome {
            if !INTERRUPTED.load(Ordering::SeqCst) {
                lab.explain_failure();
            }
            return Err(e);
        }
        if keep {
            print_how_to_look_around(&lab);
            lab.keep();
        } else {
            self.step("removing the lab");
        }
        Ok(())
    }

    fn use_lab(&mut self, lab: &Lab) -> Result<()> {
        self.step(
            "starting batond on both routing nodes, an agent beside each and on each target, three nginx",
        );
        lab.start_programs()?;
        lab.wait_until_ready()?;
        self.spread(lab)?;
        self.load(lab)?;
        self.show(lab)?;
        self.stop_one(lab)?;
        self.start_it_again(lab)?;
        let moved = self.transfer(lab)?;
        self.proxy(lab, moved)?;
        self.content(lab)?;
        self.takeover(lab)
    }

    /// Spreading, and the way of the answers.
    fn spread(&mut self, lab: &Lab) -> Result<()> {
        self.step(&format!("{ROUND} requests with curl over IPv4, {ROUND} over IPv6, under capture"));
        let at_router = lab.capture("rt1", "eth0", "tcp port 80")?;
        let at_client = lab.capture("client", "eth0", "tcp port 80")?;
        for url in [format!("http://{}/", DVIPA.0), format!("http://[{}]/", DVIPA.1)] {
            let answers = curl(lab, &url, ROUND)?;
            print_answers(&answers);
            let even = TARGETS.iter().all(|t| answers.get(*t) == Some(&(ROUND / TARGETS.len())));
            self.verdict.claim(&format!("round robin spreads {url} evenly"), even, &in_words(&answers));
        }
        let (at_router, at_client) = (at_router.stop()?, at_client.stop()?);
        // What the forwarder sends is not seen by a capture on its own interface, but by one where it arrives.
        let passed =
            at_client.count(&format!("src port 80 and ether src {}", mac(RoutingNode::First.number())))?;
        let forwarded = at_router.count("dst port 80")?;
        let seen = format!("{forwarded} packets of clients there, {passed} answers");
        self.verdict.claim("no answer passes the routing node", passed == 0 && forwarded > 0, &seen);
        let mut by_target = BTreeMap::new();
        for (index, name) in (1u8..).zip(TARGETS) {
            let filter = format!("src port 80 and ether src {}", mac(spec::target(index)));
            by_target.insert(name.to_owned(), at_client.count(&filter)?);
        }
        let all = at_client.count("src port 80")?;
        let direct = by_target.values().sum::<usize>() == all && by_target.values().all(|n| *n > 0);
        let seen = format!("{}: packets by their Ethernet source", in_words(&by_target));
        self.verdict.claim("answers come straight from the targets", direct, &seen);
        Ok(())
    }

    fn load(&mut self, lab: &Lab) -> Result<()> {
        self.step("wrk: 32 connections for 3 seconds");
        let url = format!("http://{}/", DVIPA.0);
        let output = lab.client().run(&["wrk", "-t1", "-c32", "-d3s", &url])?;
        for line in output.lines().filter(|l| l.contains("requests in") || l.contains("/sec:")) {
            println!("   {}", line.trim());
        }
        let clean = !output.contains("Socket errors") && !output.contains("Non-2xx");
        self.verdict.claim("wrk sees no error", clean, if clean { "0 errors" } else { output.trim() });
        Ok(())
    }

    fn show(&mut self, lab: &Lab) -> Result<()> {
        self.step("what the operator sees");
        for words in [&["dpt"][..], &["crt", "--limit", "6"], &["stats"]] {
            println!("\n$ baton {}\n{}", words.join(" "), lab.baton(words)?.trim_end());
        }
        println!();
        Ok(())
    }

    fn stop_one(&mut self, lab: &Lab) -> Result<()> {
        self.step("stopping the nginx of t2 while curl runs in a loop");
        let (stop, log) = (lab.files().join("stop"), lab.files().join("curl-loop.log"));
        let script = format!(
            "while [ ! -e {} ]; do curl -s --max-time 2 http://{}/ || echo failed; done",
            stop.display(),
            DVIPA.0
        );
        lab.start_on("client", "curl-loop", &["sh", "-c", &script])?;
        std::thread::sleep(Duration::from_millis(500));
        lab.stop("nginx-t2", Signal::SIGQUIT)?;
        let begun = Instant::now();
        lab.wait_for_targets(80, &["t1", "t3"])?;
        let noticed = begun.elapsed();
        let answers = curl(lab, &format!("http://{}/", DVIPA.0), ROUND)?;
        let (failed, stray) = (count(&answers, "failed"), count(&answers, "t2"));
        let seen = format!("{}; the DPT was right {} ms later", in_words(&answers), noticed.as_millis());
        self.verdict.claim(
            "new connections avoid the stopped server at once",
            failed == 0 && stray == 0,
            &seen,
        );
        fs::write(&stop, "").ok();
        lab.wait_end("curl-loop")?;
        let during = tally(&fs::read_to_string(&log).unwrap_or_default());
        let seen = in_words(&during);
        self.verdict.claim("no request failed while it stopped", count(&during, "failed") == 0, &seen);
        Ok(())
    }

    fn start_it_again(&mut self, lab: &Lab) -> Result<()> {
        self.step("starting the nginx of t2 again");
        lab.start_web("t2")?;
        lab.wait_for_targets(80, &TARGETS)?;
        let answers = curl(lab, &format!("http://{}/", DVIPA.0), ROUND)?;
        let back = TARGETS.iter().all(|t| count(&answers, t) == ROUND / TARGETS.len());
        self.verdict.claim("it gets its share again", back, &in_words(&answers));
        Ok(())
    }
}

/// Requests `url` with curl, one connection each, and counts the answers; a request without one counts as `failed`.
fn curl(lab: &Lab, url: &str, times: usize) -> Result<BTreeMap<String, usize>> {
    let script = format!("for i in $(seq {times}); do curl -s --max-time 2 '{url}' || echo failed; done");
    Ok(tally(&lab.client().sh(&script)?))
}

fn tally(lines: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in lines.lines().filter(|l| !l.is_empty()) {
        *counts.entry(line.to_owned()).or_default() += 1;
    }
    counts
}

fn count(answers: &BTreeMap<String, usize>, name: &str) -> usize {
    answers.get(name).copied().unwrap_or(0)
}

fn in_words(counts: &BTreeMap<String, usize>) -> String {
    let words: Vec<String> = counts.iter().map(|(name, n)| format!("{name} {n}")).collect();
    if words.is_empty() { "none".into() } else { words.join(", ") }
}

fn print_answers(answers: &BTreeMap<String, usize>) {
    for (name, n) in answers {
        println!("   {name:8} {n:4} {}", "#".repeat(*n));
    }
}

fn print_how_to_look_around(lab: &Lab) {
    let id = lab.id();
    let socket = lab.socket();
    println!(
        "\nThe lab stays up. Its files are in {files}. Look around:\n\
         \x20   baton --socket {socket} status\n\
         \x20   baton --socket {socket} dpt\n\
         \x20   ip netns exec bt-{id}-client curl http://{v4}/\n\
         \x20   ip netns exec bt-{id}-client curl 'http://[{v6}]/'\n\
         \x20   ip netns exec bt-{id}-rt1 tcpdump -ni eth0\n\
         \x20   ip netns exec bt-{id}-t1 ss -tn\n\
         and remove it:\n\
         \x20   baton-lab down {id}",
        files = lab.files().display(),
        socket = socket.display(),
        v4 = DVIPA.0,
        v6 = DVIPA.1,
    );
    if let Ok(own) = std::env::current_exe()
        && let Some(directory) = own.parent()
    {
        println!("(both programs are in {})", directory.display());
    }
}
