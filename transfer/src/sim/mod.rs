//! The machines of routing stack and hosts among clients and a network, with everything that can go wrong. What agents run is not
//! modelled: it is [`crate::Host`] itself, over a kernel of numbers (`hands`).
//!
//! A [`World`] knows what can happen next ([`Choice`]), whatever the order: messages arrive at any time, in any order, more
//! than once or never; packets too; timers fire however early; any process dies between any two of its deeds, hosts die.
//! Two ways to go through it: along random walks, far (here), and everywhere, but near ([`exhaustive`]).
//!
//! After each step there is at most one owner and nothing is broken that a client could notice, and no connection stands still
//! because an application thinks about it. At any moment, if the
//! faults ended here, everything would [settle](World::settle): one owner, the CRT points at it, both streams are whole,
//! nothing is left behind.

mod choices;
mod deeds;
mod exhaustive;
mod hands;
mod host;
mod kernel;
mod node;
mod process;
mod settle;
mod world;

use std::sync::OnceLock;
use std::time::Instant;

use fastrand::Rng;
use model::transfer::Consent;
use world::{Choice, World};

/// Walks of the ordinary test run.
const SEEDS: u64 = 3_000;
/// Steps of a walk.
const STEPS: usize = 400;

/// A fault that is built in on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fault {
    /// A source thaws because time has passed.
    ThawOnTimeOut,
    /// Hosts keep no packets away from frozen and departed connections.
    NothingShut,
    /// Targets do not note what they decide.
    NothingNoted,
    /// Nobody can tell one run of an agent from the next.
    RunsAlike,
    /// Targets do not give a connection what its client sent before.
    NothingGiven,
    /// The routing stack holds the client's packets while the target's application is asked.
    HeldWhileAsked,
    /// The source freezes the connection while the target's application is asked.
    FrozenWhileAsked,
    /// Targets do not look at the token of an option, so that it says as much as one of version 1.
    OldOption,
    /// A packet looks whether it is admitted, and makes the connection later, as if nothing could come between.
    TornClaim,
    /// A restarted agent counts anew how long a source has been in doubt.
    DoubtAnew,
    /// A target's ledger forgets sooner than sources give up.
    ShortMemory,
    /// A server that waits for room in its send buffer counts as one that owes nothing.
    BlockedIsIdle,
    /// A note of a connection that leaves does not replace that of a former transfer, and a run that has not found its socket does
    /// not erase it.
    NotesStay,
    /// A packet may claim what another has claimed, so that it makes the connection when the other's has gone.
    SharedClaim,
    /// Entries of the freeze map end before the packets that they keep away.
    ShutBriefly,
    /// Nobody is told that the freeze map is full.
    FullMapUnseen,
    /// A descriptor that is in a control socket counts as one that nobody has.
    InFlightUnseen,
}

/// How large the world is, and what may go wrong in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Settings {
    hosts: usize,
    /// Connections.
    flows: usize,
    /// How many bytes each client sends.
    bytes: u8,
    /// How many packets may be under way to hosts.
    packets: usize,
    /// How many transfers are asked for.
    asks: usize,
    /// Messages and packets that have arrived may arrive again, and timers fire while answers are under way. Otherwise
    /// each arrives once or is lost.
    copies: bool,
    /// Whether target applications are asked.
    consent: Consent,
    /// Whether applications have state that moves along.
    state: bool,
    /// Target applications answer offers, sooner or later; otherwise they think for ever.
    answers: bool,
    /// They may end instead.
    quits: bool,
    /// Applications may give their last descriptor away.
    gives_last: bool,
    /// How many processes die.
    kills: usize,
    /// Which one, if only one may: the routing node (`None`) or a host's agent.
    mortal: Option<Option<usize>>,
    /// Hosts may die as a whole.
    hosts_crash: bool,
    /// What is under way to a process that dies may reach its next run, or was lost before. Otherwise it is lost with the sessions,
    /// unless there are copies, and nothing else before.
    outlives: bool,
    /// Sessions may break without a death.
    breaks: bool,
    /// Applications may take requests back.
    cancels: bool,
    /// Time may pass: as much as sources wait, and more.
    waits: bool,
    /// Patience may end at any time.
    impatient: bool,
    /// Hosts without control socket.
    listeners: &'static [usize],
    /// So many bytes that clients have not acknowledged fill a server's send buffer.
    room: Option<u8>,
    /// So many entries fill a host's freeze map.
    shut_room: Option<usize>,
    /// Applications read their control sockets when they like; otherwise at once.
    slow: bool,
    /// Each client has sent a byte, which the first host has acknowledged and nobody has read.
    unread: bool,
    fault: Option<Fault>,
}

/// The clock stands: timers fire when the walk says so.
fn now() -> Instant {
    static NOW: OnceLock<Instant> = OnceLock::new();
    *NOW.get_or_init(Instant::now)
}

/// The world of a seed.
fn settings(seed: u64, fault: Option<Fault>) -> Settings {
    let mut random = Rng::with_seed(seed ^ 0xA5A5);
    let hosts = 2 + random.usize(..2);
    // Connections that stay idle are the same each time they move.
    let (bytes, packets) = [(6, 4), (0, 1)][usize::from(seed.is_multiple_of(4))];
    Settings {
        hosts,
        flows: 1 + random.usize(..2),
        bytes,
        packets,
        asks: 1 + random.usize(..5),
        copies: true,
        consent: [Consent::Asked, Consent::Presumed][usize::from(random.usize(..4) == 0)],
        state: random.bool(),
        answers: true,
        quits: random.bool(),
        gives_last: true,
        kills: random.usize(..4),
        mortal: None,
        outlives: true,
        hosts_crash: random.usize(..4) == 0,
        breaks: random.usize(..2) == 0,
        cancels: random.usize(..3) == 0,
        impatient: random.usize(..2) == 0,
        listeners: [&[][..], if hosts == 2 { &[1] } else { &[2] }, &[0, 1]][random.usize(..3)],
        waits: random.usize(..4) == 0,
        room: [None, Some(1)][random.usize(..2)],
        shut_room: [None, None, None, Some(1)][random.usize(..4)],
        slow: random.bool(),
        unread: false,
        fault,
    }
}

/// One of the choices, each kind about as often; messages and packets are often gone when they have arrived.
fn pick(choices: &[Choice], random: &mut Rng) -> Choice {
    let kind = |choice: &Choice| match choice {
        Choice::Act(_) | Choice::NodeActs | Choice::Resume { .. } | Choice::Claim { .. } => 100,
        Choice::Receive { .. } => 30,
        Choice::Deliver(_) => 60,
        Choice::Arrive(_) | Choice::ServerSends { .. } | Choice::Serve { .. } => 20,
        Choice::ClientSends { .. } | Choice::Answer { .. } => 15,
        Choice::Ask { .. } | Choice::Order { .. } | Choice::Look { .. } => 15,
        Choice::StartAgent(_) | Choice::StartNode | Choice::Session(_) => 15,
        Choice::Make { made: true, .. } | Choice::SeeClaims(_) | Choice::Through(_) => 15,
        Choice::Make { made: false, .. } => 5,
        Choice::Lose(_) | Choice::Miss(_) => 4,
        Choice::SourceTimer(..) | Choice::TargetTimer(..) | Choice::NodeTimer(..) => 4,
        Choice::Cancel { .. } | Choice::Break(_) | Choice::Quit { .. } | Choice::Tick | Choice::Wait => 2,
        Choice::KillAgent(_) | Choice::KillNode | Choice::CrashHost(_) | Choice::ActAndDie(..) => 2,
    };
    let total: usize = choices.iter().map(kind).sum();
    let mut at = random.usize(..total);
    for choice in choices {
        match at.checked_sub(kind(choice)) {
            Some(rest) => at = rest,
            None => return choice.clone(),
        }
    }
    choices[0].clone()
}

/// The walk of a seed: what happened, and what is wrong, if anything.
fn walk(seed: u64, fault: Option<Fault>) -> (Vec<Choice>, Result<World, String>) {
    let mut random = Rng::with_seed(seed);
    let mut world = World::new(settings(seed, fault));
    let mut history = Vec::new();
    for _ in 0..STEPS {
        let choice = pick(&world.choices(), &mut random);
        world.apply(&choice);
        let used = match &choice {
            Choice::Deliver(mail) if random.usize(..4) > 0 => Some(Choice::Lose(mail.clone())),
            Choice::Arrive(packet) if random.usize(..4) > 0 => Some(Choice::Miss(*packet)),
            _ => None,
        };
        history.push(choice);
        if let Some(used) = used {
            world.apply(&used);
            history.push(used);
        }
        if let Some(wrong) = world.wrong.take() {
            return (history, Err(wrong));
        }
    }
    let end = world.settle();
    (history, end.map(|()| world))
}

fn replay(seed: u64, fault: Option<Fault>, history: &[Choice]) -> Result<(), String> {
    let mut world = World::new(settings(seed, fault));
    for choice in history {
        // What can't happen any more, because something before it was left out, does not.
        let possible = matches!(choice, Choice::Lose(_)) || world.choices().contains(choice);
        if possible {
            world.apply(choice);
        }
        if let Some(wrong) = world.wrong.take() {
            return Err(wrong);
        }
    }
    world.settle()
}

/// The shortest part of a history that fails still.
fn shortest(seed: u64, fault: Option<Fault>, mut history: Vec<Choice>) -> Vec<Choice> {
    let mut piece = history.len().div_ceil(2);
    while piece > 0 {
        let mut at = 0;
        while at < history.len() {
            let mut without = history.clone();
            without.drain(at..(at + piece).min(history.len()));
            if replay(seed, fault, &without).is_err() {
                history = without;
            } else {
                at += piece;
            }
        }
        piece /= 2;
    }
    history
}

/// What is to be printed of a seed that fails.
fn check(seed: u64, fault: Option<Fault>) -> Result<World, String> {
    let (history, outcome) = walk(seed, fault);
    outcome.map_err(|first| {
        let history = shortest(seed, fault, history);
        let wrong = replay(seed, fault, &history).err().unwrap_or(first);
        let lines: Vec<String> = history.iter().map(|choice| format!("  {choice:?}")).collect();
        format!("seed {seed}: {wrong}\nshortest history:\n{}", lines.join("\n"))
    })
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// C5, C8, C9, C11: whichever process dies and whatever is lost, doubled, late or early, a connection has one owner and its streams
/// are whole. `BATON_SEED=n` runs one seed, `BATON_SEEDS=n` so many.
#[test]
fn a_connection_has_one_owner_whatever_fails() {
    let seeds = match variable("BATON_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("BATON_SEEDS").unwrap_or(SEEDS),
    };
    let all = seeds.clone();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let run = |i: usize| -> Result<usize, String> {
        let mut moved = 0;
        for seed in all.clone().skip(i).step_by(threads) {
            let world = check(seed, None)?;
            moved += usize::from((1..world.hosts.len()).any(|host| world.hosts[host].kernel.slots[0].owns()));
        }
        Ok(moved)
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let run = &run;
        let all: Vec<_> = (0..threads).map(|i| scope.spawn(move || run(i))).collect();
        all.into_iter().map(|thread| thread.join().expect("a walk panicked")).collect()
    });
    let failures: Vec<_> = results.iter().filter_map(|r| r.as_ref().err().cloned()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    // The walks are about transfers that happen, too.
    let moved: usize = results.iter().flatten().sum();
    assert!(seeds.clone().count() < 100 || moved > seeds.count() / 5, "only {moved} moved");
}

#[test]
fn faults_that_are_built_in_are_found() {
    let two_owners = " is at t";
    for (fault, sign) in [
        (Fault::ThawOnTimeOut, two_owners),
        (Fault::NothingShut, ""),
        (Fault::NothingNoted, two_owners),
        (Fault::NothingGiven, "does not settle: connection"),
        (Fault::HeldWhileAsked, "an application thinks about"),
        (Fault::FrozenWhileAsked, "an application thinks about"),
        (Fault::TornClaim, two_owners),
        (Fault::SharedClaim, ""),
        (Fault::BlockedIsIdle, "read, written, answered are"),
        (Fault::ShortMemory, two_owners),
        (Fault::ShutBriefly, "answers a packet with RST"),
        (Fault::FullMapUnseen, ""),
    ] {
        let is_found = |seed: &u64| walk(*seed, Some(fault)).1.is_err_and(|wrong| wrong.contains(sign));
        assert!((0..SEEDS).any(|seed| is_found(&seed)), "{fault:?} was not found");
    }
}
