//! What is done to the host, and in which order: the machine's tables, walked on a kernel that says what it is asked.

mod coming;
mod kernel;
mod leaving;
mod restart;

use model::control_socket::RequestId;
use model::transfer::{
    Abort, Aborted, Commit, Consent, Freeze, Offer, Request, Settled, ToSource, ToTarget, Way,
};

use super::*;
use crate::fixture::*;
use crate::giving::Ask;
use kernel::Told;

struct Bench {
    host: Host,
    kernel: Told,
    now: Instant,
}

const MS: fn(u64) -> Duration = Duration::from_millis;
const S: fn(u64) -> Duration = Duration::from_secs;
const APPLICATION: ApplicationId = ApplicationId(1);

impl Bench {
    /// A host whose agent has just started and has found this, with a kernel that answers so. What is done about it at once, and
    /// once there is a routing stack to talk to.
    fn after_restart(left: Left, settle: impl FnOnce(&mut Told)) -> (Self, String) {
        let abilities = Abilities { ledger: LEDGER, restores: true, injects: true, incarnation: RUN };
        let now = Instant::now();
        let mut bench = Self { host: Host::new(abilities, now), kernel: Told::new(), now };
        settle(&mut bench.kernel);
        let inherits = bench.does(|host, kernel, now| host.inherit(left, kernel, now));
        let says = bench.does(|host, _, now| host.owner(dvipa(), owner(), now));
        (bench, format!("{inherits} | {says}").replace(" Abilities", ""))
    }

    fn new() -> Self {
        Self::after_restart(Left::default(), |_| {}).0
    }

    /// What the host does after this.
    fn does(&mut self, deed: impl FnOnce(&mut Host, &mut Told, Instant)) -> String {
        deed(&mut self.host, &mut self.kernel, self.now);
        assert!(self.host.act(&mut self.kernel, self.now, usize::MAX));
        std::mem::take(&mut self.kernel.words).join(" ")
    }

    fn hears(&mut self, message: impl Into<ToHost>) -> String {
        let message = message.into();
        self.does(|host, _, now| {
            let _ = host.received(stack("rt1"), message, now);
        })
    }

    fn after(&mut self, time: Duration) -> String {
        self.now += time;
        self.does(|host, kernel, now| host.time_passed(kernel, now))
    }

    /// How long until something is due.
    fn pause(&self) -> Duration {
        self.host.next_deadline() - self.now
    }

    /// How it stands with the connection, if that may have changed.
    fn stands(&mut self) -> Option<Standing> {
        let touched = self.host.take_touched();
        assert!(touched.iter().all(|(of, _)| *of == connection()) && touched.len() < 2, "{touched:?}");
        touched.first().map(|(_, standing)| *standing)
    }
}
