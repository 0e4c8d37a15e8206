//! How many connections of a service may begin.

use std::num::NonZeroU32;

use model::Limits;
use model::limits::Rate;

use crate::config::mistake::Ledger;
use crate::config::section::Section;

/// Both limits of a VIPADISTRIBUTE.
pub(super) fn limits(section: &mut Section<'_>, ledger: &mut Ledger) -> Limits {
    let service = rate(section, ("new_connections_per_s", "new_connections_burst"), ledger);
    let keys = ("client_new_connections_per_s", "client_new_connections_burst");
    Limits { service, client: rate(section, keys, ledger) }
}

/// A rate, and how many may begin at once: as many as in a second, if nothing is said.
fn rate(
    section: &mut Section<'_>,
    (per_s, burst): (&'static str, &'static str),
    ledger: &mut Ledger,
) -> Option<Rate> {
    let is_there = section.value(per_s, ledger).is_some();
    let rate = section.optional(per_s, ledger, |v, l| v.number(1..=Rate::MAX, " (connections a second)", l));
    let at_once = section.optional(burst, ledger, |v, l| v.number(1..=Rate::MAX, " (connections)", l));
    if let Some(at_once) = at_once.as_ref().filter(|_| !is_there) {
        let what = format!("`{burst}` is of a limit that is not there");
        ledger.add(&at_once.span, what, format!("add {per_s} = {}, or remove it", at_once.value));
    }
    let per_s = NonZeroU32::new(rate?.value)?;
    let burst = at_once.and_then(|at| NonZeroU32::new(at.value)).unwrap_or(per_s);
    Some(Rate { per_s, burst })
}
