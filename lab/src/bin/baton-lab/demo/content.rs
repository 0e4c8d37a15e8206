//! The third act: the routing node reads each request of one connection, and the nginx of its route answers it.

use std::fmt::Write;

use baton_lab::spec::{DVIPA, Web};
use baton_lab::{Lab, Result};

use super::proxy::{self, Node};
use super::{Demo, TARGETS, count, in_words, print_answers, tally};

/// The port with routes.
const PORT: u16 = 8088;
/// How often each target is asked, in turn.
const ROUNDS: usize = 10;
/// Bytes of an answer: nginx's file `big` of the lab.
const ANSWER_BYTES: usize = 8 << 20;
/// Packets that curl's SYN, its requests and its acknowledgments are counted by.
const SIGNS: &str = "tcp port 8088 and tcp[tcpflags] & (tcp-syn | tcp-rst) != 0";

/// The paths that a target answers.
pub(super) fn prefix(target: &str) -> String {
    format!("/files/{target}/")
}

/// A VIPADISTRIBUTE with a route to each target.
pub(super) fn distribute() -> String {
    TARGETS.iter().fold(format!("ports = [{PORT}]\ndestip = {TARGETS:?}"), |mut all, target| {
        let _ = write!(
            all,
            "\n[[vipadynamic.vipadistribute.route]]\nname = \"{target}\"\nmatches = [{{ path = \"{}\" }}]\n\
             backends = [{{ stack = \"{target}\" }}]",
            prefix(target)
        );
        all
    })
}

/// The nginx of each target, which listens on the port with routes too.
pub(super) fn web() -> Vec<Web> {
    let each = |target| {
        let mut web = Web::wildcard(target);
        web.listen.extend([PORT.to_string(), format!("[::]:{PORT} ipv6only=on")]);
        web
    };
    TARGETS.into_iter().map(each).collect()
}

impl Demo {
    /// One curl asks each target in turn over one connection, by way of `batond` and of HAProxy.
    pub(super) fn content(&mut self, lab: &Lab) -> Result<()> {
        for target in TARGETS {
            let www = lab.files().join(format!("nginx-{target}/www"));
            let www = www.display();
            lab.host(target).sh(&format!("mkdir -p {www}/{target} && ln -f {www}/big {www}/{target}/big"))?;
        }
        let requests = ROUNDS * TARGETS.len();
        self.step(&format!(
            "one curl asks for {requests} files of {} MiB over one connection, of t1, t2, t3 in turn; no application on the routing node",
            ANSWER_BYTES >> 20
        ));
        let url = format!("http://{}:{PORT}{}big", DVIPA.0, prefix(TARGETS[1]));
        println!(
            "\n$ baton route explain 'GET {url}'\n{}\n",
            lab.baton(&["route", "explain", &format!("GET {url}")])?.trim_end()
        );
        let signs = lab.capture("client", "eth0", SIGNS)?;
        let node = Node::before(lab, "rt1", &["batond", "agent-rt1"])?;
        let said = ask(lab, &format!("http://{}:{PORT}", DVIPA.0))?;
        let baton = node.after()?;
        let signs = signs.stop()?.packets("")?;
        let answers = tally(&said);
        print_answers(&answers);
        let wanted: Vec<String> = TARGETS
            .iter()
            .cycle()
            .take(requests)
            .map(|target| format!("{target} 200 {ANSWER_BYTES}"))
            .collect();
        let in_turn = said.lines().eq(wanted.iter().map(String::as_str));
        self.verdict.claim(
            "each request was answered by the nginx of its route, whole",
            in_turn,
            &in_words(&answers),
        );
        let with = |flags: &str| signs.iter().filter(|line| line.contains(flags)).count();
        let (opened, reset) = (with("Flags [S]"), with("Flags [R"));
        let seen = format!("{opened} SYN, {reset} RST at the client");
        self.verdict.claim("it was one connection, and nobody reset it", opened == 1 && reset == 0, &seen);
        self.step("the same requests through HAProxy");
        let node = Node::before(lab, baton_lab::spec::PROXY, proxy::PROGRAMS)?;
        let said = ask(lab, &proxy::haproxy())?;
        let haproxy = node.after()?;
        let whole = tally(&said);
        let held =
            TARGETS.iter().all(|target| count(&whole, &format!("{target} 200 {ANSWER_BYTES}")) == ROUNDS);
        self.verdict.claim("HAProxy delivered as much", held, &in_words(&whole));
        self.compare(&baton, &haproxy);
        Ok(())
    }
}

/// Asks for all files with one curl; a line for each answer: who gave it, its status, its bytes.
fn ask(lab: &Lab, site: &str) -> Result<String> {
    let urls: String = TARGETS.iter().map(|target| format!(" '{site}{}big'", prefix(target))).collect();
    let outputs = " -o /dev/null".repeat(TARGETS.len() * ROUNDS);
    let write = "%header{x-target} %{http_code} %{size_download}\\n";
    lab.client().sh(&format!("curl -sS --max-time 60 -w '{write}'{outputs}{}", urls.repeat(ROUNDS)))
}
