//! Two routing nodes and three targets: the owner of the DVIPA is killed and comes back, then the DVIPA moves by order.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use lab::Lab;
use lab::spec::{self, DVIPA, RoutingNode, Spec};

use super::clients::{Clients, Window, sent_again};
use super::{Done, PATIENCE, Pace, count, is_calm, kills, never_calm, percentile_ms};
use crate::rows::Rows;
use crate::transfer::Failure;

const NODES: [RoutingNode; 2] = [RoutingNode::First, RoutingNode::Second];
const PORT: u16 = 80;
/// Clients go on for so long before something happens.
const REST: Duration = Duration::from_millis(500);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// How `batond` says in its log that it owns a DVIPA.
const OWNED: &str = "owned from now on";
/// The row of moves by order.
const MOVED: &str = "planned_move_lost_requests";

/// The names of the rows.
pub(super) fn rows(pace: Pace) -> Vec<String> {
    let of = pace.rows("takeover");
    let each = ["outage_p99_ms", "detection_ms", "first_packet_ms", "sent_again", "resets"];
    let moved = (pace == Pace::Default).then(|| MOVED.to_owned());
    each.map(|row| format!("{of}_{row}")).into_iter().chain(moved).collect()
}

pub(super) fn measure(rows: &mut Rows, pace: Pace) -> Done {
    for interval in pace.intervals() {
        let bed = Bed::start(interval)?;
        let clients = Clients::start(&bed.lab, (DVIPA.0, PORT).into())?;
        if !is_calm(interval, || bed.takeovers())? {
            continue;
        }
        kill_again_and_again(rows, pace, &bed, &clients)?;
        if rows.wants(&[MOVED]) && pace == Pace::Default {
            move_to_and_fro(rows, &bed, &clients)?;
        }
        return Ok(bed.lab.check()?);
    }
    Err(never_calm())
}

fn kill_again_and_again(rows: &mut Rows, pace: Pace, bed: &Bed, clients: &Clients) -> Done {
    let [mut outages, mut of_asking, mut detections, mut firsts, mut back]: [Vec<Duration>; 5] =
        Default::default();
    let (mut again, owned) = (0, bed.takeovers()?);
    for _ in 0..kills() {
        bed.wait_until_warm(clients)?;
        let before = sent_again(&bed.lab)?;
        let (window, detection) = bed.kill(clients)?;
        again += sent_again(&bed.lab)? - before;
        outages.extend(clients.outages(window));
        of_asking.extend(clients.outages_of_asking(window));
        firsts.push(clients.first_answer(window));
        detections.push(detection);
        back.extend(clients.outages(bed.come_back(clients)?));
    }
    let (ended, all) = (clients.ended(), clients.len());
    let about = format!("{all} connections, {} kills", kills());
    let names = rows_of(pace);
    let [outage, detected, first, sent_again, resets] = names.each_ref().map(String::as_str);
    let ms = percentile_ms;
    let note = format!(
        "99 % of those that ask wait {:.0} ms at most; half of all wait {:.0} ms, the last one {:.0}; when the node takes back 99 % wait {:.0} ms at most, the last one {:.0}; {about}",
        ms(&of_asking, 99),
        ms(&outages, 50),
        ms(&outages, 100),
        ms(&back, 99),
        ms(&back, 100),
    );
    rows.add(outage, "ms", ms(&outages, 99), note);
    let note = format!(
        "median, {:.0} ms at most: from the kill until the backup owns the DVIPA",
        ms(&detections, 100)
    );
    rows.add(detected, "ms", ms(&detections, 50), note);
    let note = format!(
        "median, {:.0} ms at most: from the kill until a new client is answered; {:.0} ms behind the detection",
        ms(&firsts, 100),
        ms(&firsts, 50) - ms(&detections, 50)
    );
    rows.add(first, "ms", ms(&firsts, 50), note);
    let each = again as f64 / (kills() as f64 * all as f64);
    rows.add(
        sent_again,
        "",
        each,
        format!("segments of a client that were lost and sent again, a connection and kill; {about}"),
    );
    // Each kill is followed by a takeover and a takeback.
    let unwanted = (bed.takeovers()? - owned).saturating_sub(2 * kills() as usize);
    let note = format!(
        "connections that ended, takebacks included; {} damaged downloads; {unwanted} takeovers that no kill caused; {}; {about}",
        clients.damaged(),
        bed.about,
    );
    rows.add(resets, "", ended as f64, note);
    Ok(())
}

fn move_to_and_fro(rows: &mut Rows, bed: &Bed, clients: &Clients) -> Done {
    use RoutingNode::{First, Second};
    let (lost, again, mut longest) = (clients.ended(), sent_again(&bed.lab)?, Duration::ZERO);
    for (from, to) in [(First, Second), (Second, First)].into_iter().cycle().take(kills() as usize) {
        bed.wait_until_warm(clients)?;
        let begun = Instant::now();
        bed.lab.baton_at(from, &["vipa", "move", &DVIPA.0.to_string(), to.name()])?;
        bed.wait_for_owner(to, &[from])?;
        clients.wait_until_answered(&bed.lab, Instant::now())?;
        let outages = clients.outages(Window { from: begun, to: Instant::now() });
        longest = outages.into_iter().fold(longest, Duration::max);
    }
    let again = sent_again(&bed.lab)? - again;
    let note = format!(
        "{} moves by order, {} connections; none waited longer than {:.0} ms; {again} segments sent again",
        kills(),
        clients.len(),
        longest.as_secs_f64() * 1e3
    );
    rows.add(MOVED, "", (clients.ended() - lost) as f64, note);
    Ok(())
}

fn rows_of(pace: Pace) -> [String; 5] {
    let mut names = rows(pace).into_iter();
    std::array::from_fn(|_| names.next().unwrap_or_default())
}

/// The cluster: `rt1` is the primary, `rt2` its backup.
struct Bed {
    lab: Lab,
    /// How fast a death is noticed.
    about: String,
}

impl Bed {
    fn start(interval: Option<u64>) -> Result<Self, Failure> {
        let ports = format!("ports = [{PORT}]\ndestip = \"all\"\nmethod = \"round-robin\"");
        let backup =
            format!("[[vipadynamic]]\n[[vipadynamic.vipabackup]]\naddress = \"{}\"\nrank = 100\n", DVIPA.0);
        let lab = Lab::build(Spec::default().vipadynamic(spec::ipv4_only(&[&ports])).second(backup))?;
        let (times, about) = match interval {
            None => (String::new(), "heartbeats and takeover as by default".to_owned()),
            Some(ms) => (
                format!("heartbeat_ms = {ms}\ntakeover_after_ms = {}\n", 3 * ms),
                format!("heartbeat_ms {ms}, takeover_after_ms {}", 3 * ms),
            ),
        };
        for node in lab.spec().routing_nodes() {
            set_times(lab.files().join(format!("{}.toml", node.batond())), &times)?;
        }
        lab.start_programs()?;
        lab.wait_until_ready()?;
        let bed = Self { lab, about };
        bed.wait_for_owner(RoutingNode::First, &[RoutingNode::Second])?;
        Ok(bed)
    }

    /// How often a node has begun to own the DVIPA.
    fn takeovers(&self) -> Result<usize, Failure> {
        count(&self.lab, &NODES.map(RoutingNode::batond), OWNED)
    }

    /// Waits until a node owns the DVIPA and these others know it.
    fn wait_for_owner(&self, node: RoutingNode, others: &[RoutingNode]) -> Done {
        let name = node.name();
        self.lab.wait_for(&format!("{name} to own the DVIPA"), PATIENCE, || {
            for at in [node].iter().chain(others) {
                let view = self.lab.baton_json_at(*at, &["vipa"]).map_err(|e| e.to_string())?;
                let first = &view["dvipas"][0];
                if first["owner"] != name || (first["role"] == "owner") != (*at == node) {
                    return Err(format!("{}: {first}", at.name()));
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Waits until both nodes know all targets and connections, and leaves the clients alone for a moment.
    fn wait_until_warm(&self, clients: &Clients) -> Done {
        for node in NODES {
            self.lab.wait_for(&format!("{} to be warm", node.name()), PATIENCE, || {
                let dpt = self.lab.dpt_at(node).map_err(|e| e.to_string())?;
                let targets: usize = dpt.iter().map(|row| row.selectable().len()).sum();
                let known = self.lab.crt_at(node, &["--state", "established"]).map_err(|e| e.to_string())?;
                if targets == 3 && known.len() >= clients.len() {
                    return Ok(());
                }
                Err(format!("{targets} targets, {} connections", known.len()))
            })?;
        }
        std::thread::sleep(REST);
        clients.wait_until_answered(&self.lab, Instant::now())
    }

    /// The owner is killed, and the backup takes over. The time until every client is answered, and after how long the backup owned.
    fn kill(&self, clients: &Clients) -> Result<(Window, Duration), Failure> {
        let (from, at) = (Instant::now(), time_of_day());
        self.lab.kill(RoutingNode::First.batond())?;
        self.wait_for_owner(RoutingNode::Second, &[])?;
        clients.wait_until_answered(&self.lab, Instant::now())?;
        let window = Window { from, to: Instant::now() };
        let log = fs::read_to_string(self.lab.files().join(format!("{}.log", RoutingNode::Second.batond())))?;
        let owned = log.lines().rev().find(|line| line.contains(OWNED)).and_then(written);
        let detection =
            (owned.ok_or("the backup's log does not say when")? + DAY - at).as_nanos() % DAY.as_nanos();
        Ok((window, Duration::from_nanos(detection as u64)))
    }

    /// The killed one comes back and takes the DVIPA back.
    fn come_back(&self, clients: &Clients) -> Result<Window, Failure> {
        let from = Instant::now();
        self.lab.start_batond_of(RoutingNode::First)?;
        self.wait_for_owner(RoutingNode::First, &[RoutingNode::Second])?;
        clients.wait_until_answered(&self.lab, Instant::now())?;
        Ok(Window { from, to: Instant::now() })
    }
}

/// Replaces what the lab says of heartbeats.
fn set_times(file: PathBuf, times: &str) -> Done {
    let text = fs::read_to_string(&file)?;
    let is_other = |line: &&str| !line.starts_with("heartbeat_ms") && !line.starts_with("lost_after_ms");
    let text = text.lines().filter(is_other).map(|line| line.to_owned() + "\n").collect::<String>();
    Ok(fs::write(file, text.replacen("[cluster]\n", &format!("[cluster]\n{times}"), 1))?)
}

fn time_of_day() -> Duration {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Duration::from_nanos((since.as_nanos() % DAY.as_nanos()) as u64)
}

/// The time of day at which a line of a log was written, which begins as `2026-01-31T12:00:00.123456Z`.
fn written(line: &str) -> Option<Duration> {
    let time = line.split_once('T')?.1.split_once('Z')?.0;
    let mut parts = time.split(':').map(|part| part.parse::<f64>().ok());
    let (h, m, s) = (parts.next()??, parts.next()??, parts.next()??);
    Some(Duration::from_secs_f64(h * 3600.0 + m * 60.0 + s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logs_time_of_day_is_read() {
        let line = "2026-01-31T12:01:02.250000Z  INFO batond: owned from now on dvipa=198.18.9.1";
        assert_eq!(written(line), Some(Duration::from_millis(((12 * 60 + 1) * 60 + 2) * 1000 + 250)));
        assert_eq!(written("no time"), None);
    }
}
