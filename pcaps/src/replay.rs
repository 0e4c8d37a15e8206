//! One case through one harness: what was expected, what came, and what to tell a person about it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use model::Connection;

use crate::bench::Bench;
use crate::case::{Case, CaseError, Port, Step, What};
use crate::difference;
use crate::frames::{self, Frame};

/// Something that feeds the forwarder.
pub trait Harness {
    /// The frames arrive together.
    fn packets(&mut self, port: Port, frames: &[Frame], bench: &Bench);
    /// Nothing arrives, but what is held may be sent or given up.
    fn idle(&mut self, bench: &Bench);
    /// All frames that were sent, port by port, in order. Called once, at the end.
    fn sent(&mut self) -> Sent;
}

/// How many packets arrive together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Each by itself.
    OneByOne,
    /// All that arrive on one port at one time.
    InBursts,
}

/// Frames by port.
#[derive(Debug, Default)]
pub struct Sent {
    /// Sent through the NIC.
    pub nic: Vec<Vec<u8>>,
    /// Sent to the node's own kernel.
    pub local: Vec<Vec<u8>>,
}

/// What a person is told.
#[derive(Debug)]
pub enum Outcome {
    /// Everything as expected.
    Held,
    /// `out.pcap` has been rewritten.
    Blessed,
    /// Not as expected: the report.
    Failed(String),
}

/// A case with its frames.
#[derive(Debug)]
pub struct Replay<'c> {
    case: &'c Case,
    input: Vec<Frame>,
    expected: Vec<Frame>,
}

/// What should have been sent in which step.
struct Expected<'f> {
    step: usize,
    frame: &'f Frame,
}

impl<'c> Replay<'c> {
    /// Reads the case's frames.
    ///
    /// # Errors
    /// [`CaseError`] if a file is missing or damaged, or the steps need another number of frames than the files have.
    pub fn load(case: &'c Case) -> Result<Self, CaseError> {
        let input = frames::read(&case.directory.join("in.pcap"))?;
        let expected = frames::read(&case.directory.join("out.pcap"))?;
        let packets = case.step.iter().filter(|s| matches!(s.what(), Ok(What::Packet(_)))).count();
        let out: usize = case.step.iter().map(|s| s.out.len()).sum();
        if packets != input.len() {
            return Err(case.wrong("step", format!("{packets} packets arrive, in.pcap has {}", input.len())));
        }
        if out != expected.len() && !blessing() {
            return Err(case.wrong("step", format!("{out} packets leave, out.pcap has {}", expected.len())));
        }
        Ok(Self { case, input, expected })
    }

    /// Plays the case. With `BLESS=1` in the environment, what came is what will be expected.
    ///
    /// # Errors
    /// [`CaseError`] if a step names something that the case does not declare, or `out.pcap` can't be written.
    pub fn run(
        &self,
        bench: &mut Bench,
        harness: &mut impl Harness,
        arrival: Arrival,
    ) -> Result<Outcome, CaseError> {
        let mut report = String::new();
        let (mut input, mut ends, mut first) = (self.input.as_slice(), 0, 0);
        for steps in self.case.step.chunk_by(|a, b| arrival == Arrival::InBursts && together(a, b)) {
            let key = format!("step[{first}]");
            let mut wanted: Vec<String> = steps.iter().flat_map(|s| s.counts.clone()).collect();
            input = self.happen(&key, steps, input, bench, harness)?;
            let mut ended = bench.ended();
            ended.sort();
            wanted.sort();
            ends += ended.len();
            if ended != wanted {
                let more =
                    if steps.len() > 1 { format!(" and {} more", steps.len() - 1) } else { String::new() };
                let _ = writeln!(report, "{key}{more}: counted {ended:?}, expected {wanted:?}");
            }
            first += steps.len();
        }
        if ends != self.input.len() {
            let _ = writeln!(report, "{} packets came in, {ends} ends were counted", self.input.len());
        }
        let mut sent = harness.sent();
        if blessing() && report.is_empty() {
            return self.bless(&sent);
        }
        if arrival == Arrival::InBursts {
            // Within a burst, packets of sessions and of the segment go ahead of others to the node's own kernel.
            let expected = self.leaving(Port::Local);
            sent.local.sort_by_key(|bytes| expected.iter().position(|wanted| wanted.frame.bytes == *bytes));
        }
        self.compare(Port::Nic, &sent.nic, &mut report);
        self.compare(Port::Local, &sent.local, &mut report);
        Ok(if report.is_empty() { Outcome::Held } else { Outcome::Failed(self.headed(&report)) })
    }

    /// Lets a step happen, or the steps of a burst. Returns the frames that have not arrived yet.
    fn happen<'f>(
        &self,
        key: &str,
        steps: &[Step],
        input: &'f [Frame],
        bench: &mut Bench,
        harness: &mut impl Harness,
    ) -> Result<&'f [Frame], CaseError> {
        let Some(step) = steps.first() else { return Ok(input) };
        let entry = |connection: Connection, owner| {
            Ok((self.case.dvipa_index(key, connection.dvipa.ip())?, self.case.stack_index(key, owner)?))
        };
        match step.what().map_err(|what| self.case.wrong(key, what))? {
            What::Packet(port) => {
                let (now, later) = input.split_at_checked(steps.len()).unwrap_or((input, &[]));
                bench.set_clock(step.at_ms);
                harness.packets(port, now, bench);
                return Ok(later);
            }
            What::Terminate(connection, owner) => {
                let (dvipa, owner) = entry(connection, owner)?;
                bench.set_clock(step.at_ms);
                bench.terminate(connection, dvipa, owner);
            }
            What::Confirm(connection, owner) => {
                let (dvipa, owner) = entry(connection, owner)?;
                bench.set_clock(step.at_ms);
                bench.confirm(connection, dvipa, owner);
            }
            What::Tick => bench.pass_time(step.at_ms, |bench| harness.idle(bench)),
        }
        Ok(input)
    }

    fn headed(&self, report: &str) -> String {
        let Case { name, sentence, source, .. } = self.case;
        format!("\npcaps/{name}: {sentence}\n  as {source} says\n{report}")
    }

    /// What should leave through a port.
    fn leaving(&self, port: Port) -> Vec<Expected<'_>> {
        let steps = self.case.step.iter().enumerate().flat_map(|(i, s)| s.out.iter().map(move |p| (i, *p)));
        let all = steps.zip(&self.expected).filter(|((_, p), _)| *p == port);
        all.map(|((step, _), frame)| Expected { step, frame }).collect()
    }

    fn compare(&self, port: Port, sent: &[Vec<u8>], report: &mut String) {
        let expected = self.leaving(port);
        for (i, Expected { step, frame }) in expected.iter().enumerate() {
            match sent.get(i) {
                Some(bytes) if *bytes == frame.bytes => {}
                Some(bytes) => {
                    let _ =
                        writeln!(report, "step[{step}]: frame {i} sent to {port} differs (* marks where):");
                    report.push_str(&difference::side_by_side(&frame.bytes, bytes));
                }
                None => {
                    let _ = writeln!(report, "step[{step}]: nothing was sent to {port}, expected:");
                    report.push_str(&difference::alone(&frame.bytes));
                }
            }
        }
        for bytes in sent.iter().skip(expected.len()) {
            let _ = writeln!(report, "sent to {port}, and nothing was expected:");
            report.push_str(&difference::alone(bytes));
        }
    }

    /// Rewrites `out.pcap` with what was sent, provided that as many frames left each port as the steps say.
    fn bless(&self, sent: &Sent) -> Result<Outcome, CaseError> {
        let steps = || self.case.step.iter().flat_map(|s| s.out.iter().map(move |p| (s.at_ms, *p)));
        let mut wanted = BTreeMap::new();
        steps().for_each(|(_, p)| *wanted.entry(p.to_string()).or_insert(0) += 1);
        for (port, frames) in [(Port::Nic, &sent.nic), (Port::Local, &sent.local)] {
            let wanted = wanted.get(&port.to_string()).copied().unwrap_or(0);
            if wanted != frames.len() {
                let text = format!(
                    "{} frames left by {port}, `out` names {wanted}: change case.toml first\n",
                    frames.len()
                );
                return Ok(Outcome::Failed(self.headed(&text)));
            }
        }
        let (mut nic, mut local) = (sent.nic.iter(), sent.local.iter());
        let next = |(at_ms, port)| {
            let bytes = match port {
                Port::Nic => nic.next(),
                Port::Local => local.next(),
            };
            bytes.map(|b| Frame { at_ms, bytes: b.clone() })
        };
        let frames: Vec<Frame> = steps().filter_map(next).collect();
        if frames == self.expected {
            return Ok(Outcome::Held);
        }
        frames::write(&self.case.directory.join("out.pcap"), &frames)?;
        Ok(Outcome::Blessed)
    }
}

/// Whether a person asked for expectations to be rewritten.
fn blessing() -> bool {
    std::env::var_os("BLESS").is_some_and(|v| v == "1")
}

/// Whether two steps are packets that can arrive in one burst.
fn together(a: &Step, b: &Step) -> bool {
    let packet = |s: &Step| matches!(s.what(), Ok(What::Packet(_)));
    packet(a) && a.what() == b.what() && a.at_ms == b.at_ms
}
