//! The rows of connections that move, and of content-routed requests: measured in a cluster of network namespaces, with the
//! real programs.

mod apart;
mod balance;
mod http;
mod inhabitant;
mod inject;
mod million;
mod movers;
mod pause;
mod proxies;
mod repair;
mod routing;
mod samples;
mod segment;

use std::time::Duration;

use movers::Movers;
use routing::Reader;

pub(crate) use http::read_head;
pub(crate) use inhabitant::Inhabitant;
pub(crate) use million::hold;

use crate::rows::Rows;

/// Why something could not be measured.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// Enough for figures.
    Full,
    /// Enough to see that it works.
    Tiny,
}

impl Size {
    /// So many seconds, or a fraction of one.
    fn seconds(self, seconds: u64) -> Duration {
        match self {
            Self::Full => Duration::from_secs(seconds),
            Self::Tiny => Duration::from_millis(300),
        }
    }
}

/// Adds those of the rows that are asked for. What can't be measured here is named on standard error.
pub(crate) fn measure(rows: &mut Rows, size: Size) {
    let [pause, repair] = [&pause::ROWS[..], &repair::ROWS].map(|names| rows.wants(names));
    if pause || repair {
        tell(
            &[&pause::ROWS[..], &repair::ROWS].concat(),
            Movers::start().and_then(|movers| {
                if pause {
                    pause::measure(rows, &movers, size)?;
                }
                if repair {
                    repair::measure(rows, &movers, size)?;
                }
                Ok(())
            }),
        );
    }
    if rows.wants(&inject::ROWS) {
        tell(&inject::ROWS, inject::measure(rows, size));
    }
    if rows.wants(&million::ROWS) {
        tell(&million::ROWS, million::measure(rows, size));
    }
    if rows.wants(&balance::ROWS) {
        tell(&balance::ROWS, balance::measure(rows, size));
    }
    for reader in [Reader::Application, Reader::Worker] {
        let names = routing::rows(reader);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if rows.wants(&names) {
            tell(&names, routing::measure(rows, reader, size));
        }
    }
}

/// Names what could not be measured, and why.
pub(crate) fn tell(names: &[&str], outcome: Result<(), Failure>) {
    if let Err(cause) = outcome {
        eprintln!("{} are left out: {cause}", names.join(", "));
    }
}
